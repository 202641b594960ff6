"""Texts in the place of labels that are more likely another notation: scores, negations, marks for what is missing.

A label with such a name is read where labels.txt lists it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.values import is_empty
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import LabelSpace

_ANSWER = r"(?:yes|no|true|false|[01]|[01]?\.\d+|[01]\.\d*|\d+(?:\.\d+)?\s*%)"
_SCORED = (
    re.compile(rf"(.*\w.*?)\s*[:=@]\s*{_ANSWER}", re.IGNORECASE),
    re.compile(rf"(.*\w.*?)\s*\(\s*{_ANSWER}\s*\)", re.IGNORECASE),
)
"""A name, as the group, and its answer or score."""
_NOTATIONS = (
    (re.compile(r"[\[({]?[\s\d.,;+-]*[\])}]", re.IGNORECASE), "a list of numbers"),
    *((form, "a name and its answer or score") for form in _SCORED),
    (re.compile(r"[-+!~¬^]\s*[^\W\d].*"), "a name with a sign before it"),
    (re.compile(r".*\?"), "a question"),
    (re.compile(r".*\\"), "a part of a name whose separator is escaped"),
    (re.compile(r".*&(amp|lt|gt|quot|apos|nbsp|#x?[0-9a-f]+)", re.IGNORECASE),
     "a part of a character as HTML writes it"),
    (re.compile(r"((frozen)?set|tuple|list|array|index|series)\(.*\)", re.IGNORECASE), "a list as programs print it"),
    (re.compile(r"[+-]?\d*[.,]\d+"), "a number with a fraction"),
    (re.compile(r"#?(na|n/a|n\.a\.|nil|null|value!|ref!|name|undefined|<none>|\(null\))", re.IGNORECASE),
     "what programs write where nothing is known"),
    (re.compile(r"[\W_]*"), "no word"),
)  # fmt: skip
_NAMES_FILE = re.compile(
    r"(class(es)?|categor(y|ies)|label|obj)?(_?(names?|map|list|labels))?\.(txt|names|json|csv|tsv|ya?ml|pbtxt)",
    re.IGNORECASE,
)
"""Files that say what numbered labels are called."""
_BESIDE = "list the labels in labels.txt, one a line, where this is the name of one"
_NUMBERED = re.compile(r"(\d+)\s*[\s,;:=.)-]\s*\S.*|.*\S\s*[\t,;:=]\s*(\d+)")


def refuse_notations(names: Collection[str], where: str, column: str) -> None:
    """Raise an error if one of the labels that cells list is no name.

    Args:
        names: the distinct labels.
        where: the file, for the error.
        column: the column or the key that lists them.

    Raises:
        InputError: there is one; the message names it, what it looks like, and what to do.
    """
    for name in names:
        found = next((said for form, said in _NOTATIONS if form.fullmatch(name)), None)
        if found is None and is_empty(name):
            found = "an empty cell among others"
        if found is None and any(name.count(left) != name.count(right) for left, right in ("()", "[]", "{}")):
            found = "a part of something in brackets"
        if found is not None:
            raise InputError(
                f"{where}: column {column!r} holds {name[:40]!r}, which looks like {found}; expected names alone, of "
                f"the labels that a picture has; {_BESIDE}"
            )
    answers = {"0", "1", "-1"}.intersection(names)
    if answers and any(not name.lstrip("-").isdecimal() for name in names):
        raise InputError(
            f"{where}: column {column!r} holds {sorted(answers)[0]!r} among names; expected names alone, of the labels "
            f"that a picture has; {_BESIDE}"
        )


def without_score(name: str) -> str | None:
    """The name in a text that is a name and its answer, score or weight, such as cat of `cat:0.9`, `cat (0.9)` and
    `(cat:1.2)`; None if it is no such text."""
    while name.startswith("(") and name.endswith(")"):
        name = name[1:-1].strip()
    found = next((found for form in _SCORED if (found := form.fullmatch(name)) is not None), None)
    return found[1] if found is not None else None


def refuse_multi_hot(lists: Iterable[Sequence[str]], where: str, column: str) -> None:
    """Raise an error if cells that should list labels hold a 0 or 1 for each label.

    Raises:
        InputError: they do, or nobody can tell.
    """
    cells = [cell for cell in lists if cell]
    several = any(len(cell) > 1 for cell in cells)
    answers = several and all(name in ("0", "1") for cell in cells for name in cell)
    bits = {name for cell in cells for name in cell}
    digits = all(re.fullmatch(r"[01]{2,}", name) for name in bits) and len({len(name) for name in bits}) == 1
    if answers or (digits and any(name[0] == "0" for name in bits)):
        example = next(cell for cell in cells if len(cell) > 1 or not answers)
        raise InputError(
            f"{where}: column {column!r} holds {shown(example, 4)}, a 0 or 1 for each label, and nothing says which; "
            f"expected names, or a column for each label; {_BESIDE}"
        )


def refuse_numbers(root: Path, labels: LabelSpace) -> None:
    """Raise an error if labels are numbers and a file in the root seems to say their names.

    Raises:
        InputError: there is such a file; the message names it.
    """
    if not are_numbers(labels) or files.is_file(root / "labels.txt"):
        return
    beside = next((name for name in files.files_of(root) if _NAMES_FILE.fullmatch(name)), None)
    if beside is not None:
        raise InputError(
            f"{root}: the labels are the numbers {shown(labels.names, 4)}, and {beside} may hold their names; expected "
            "the names where the numbers stand, or labels.txt with the numbers, one a line, where these are the names"
        )


def are_numbers(labels: LabelSpace) -> bool:
    """Return whether every label is a whole number."""
    return all(name.isdecimal() for name in labels)


def refuse_numbered_lines(labels: LabelSpace, path: Path) -> None:
    """Raise an error if the lines of labels.txt hold more than names, where labels are given as numbers of lines.

    Raises:
        InputError: a line is a comment, or each has a number of its own.
    """
    lines = labels.names
    comment = next((line for line in lines if line.startswith("#")), None)
    if comment is not None and not all(line.startswith("#") for line in lines):
        raise InputError(f"{path}: {comment[:40]!r} looks like a comment; expected names alone, one a line, from 0 on")
    body = lines[1:] if len(lines) > 2 else lines
    if all(_NUMBERED.fullmatch(line) for line in body):
        raise InputError(
            f"{path}: {body[0][:40]!r} is a name with a number; expected names alone, one a line, in the order of the "
            "numbers from 0 on"
        )
