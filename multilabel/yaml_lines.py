"""Where a YAML file is wrong, in one line that quotes the file's own."""

from __future__ import annotations

from pathlib import Path

import yaml

from edgepress.multilabel.errors import InputError

_MOST = 80
"""Characters of a line that are quoted."""
_TOKENS = {
    "<stream end>": "the end of the file",
    "<block end>": "a key",
    "<block sequence start>": "a list",
    "<block mapping start>": "a key",
}
"""The parser's words for what it found or expected."""


def line_at(mark: yaml.Mark) -> str:
    """The line of a node's mark, such as `line 2 (one_of: flag)`; its number alone where nothing is on it."""
    text = ""
    if mark.buffer is not None:
        start, end = mark.buffer.rfind("\n", 0, mark.pointer) + 1, mark.buffer.find("\n", mark.pointer)
        text = mark.buffer[start : None if end < 0 else end].strip("\0\r ")[:_MOST]
    return f"line {mark.line + 1}" + (f" ({text})" if text else "")


def not_yaml(path: Path, error: Exception, example: str = "") -> InputError:
    """The error for a file that is no YAML: the line, what is wrong there, and what was expected.

    Args:
        error: what the parser raised; of text that is not UTF-8, or nested too deeply, it names no line.
        example: what the file may hold.
    """
    said = " ".join(str(error).split())[:160]
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        # A bracket or a quotation mark that is never closed is missed far below it.
        opened = error.context_mark if any(word in (error.context or "") for word in ("flow", "quoted")) else None
        problem = error.problem or said
        for token, words in _TOKENS.items():
            problem = problem.replace(f"'{token}'", words).replace(token, words)
        said = f"{line_at(opened or mark)}: {problem}"
    return InputError(f"{path}: not YAML ({said}){f'; expected {example}' if example else ''}")
