"""Writes docs/api.md from the docstrings of what `edgepress` exports: `make api`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import edgepress

PAGE = Path(__file__).with_name("api.md")
_SECTION = re.compile(r"^(Args|Returns|Raises|Raises, from its properties|Yields|Example):$", re.MULTILINE)

OURS = {
    "Bundle": ("model_digest", "read", "open_parent"),
    "Judgement": ("from_dict",),
    "LabelSpace": ("encode", "require_equal"),
    "Preprocess": ("stated", "seen"),
}
"""What edgepress itself asks of these classes, and a program of somebody else's does not: not on the page."""


def page() -> str:
    """The whole page."""
    described = [(name, getattr(edgepress, name)) for name in edgepress.__all__ if not name.startswith("_")]
    parts = [_section(name, thing) for name, thing in described]
    head = "# The Python interface\n\nMade from the docstrings by `make api`. Only `export` and `losses` need torch.\n"
    head += "In the folder that holds a clone Python takes the clone, a folder called edgepress, for the package: "
    head += "import it elsewhere.\n"
    return "\n".join([head, *parts])


def _section(name: str, thing: object) -> str:
    text = inspect.cleandoc(thing.__doc__ or "")
    prose, *sections = _SECTION.split(text)
    lines = [f"## {name}", ""]
    if inspect.isfunction(thing):
        lines += ["```python", f"{name}{_signature(thing)}", "```", ""]
    lines += [prose.strip(), ""]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        kind = "python" if title == "Example" else "text"
        lines += [f"{title}:", "", f"```{kind}", inspect.cleandoc(body).strip(), "```", ""]
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        lines += _members(thing)
    return "\n".join(lines)


def _signature(function: Callable[..., object]) -> str:
    """The signature, with its annotations as they are in the source."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))


def _members(described: type) -> list[str]:
    """A list of the public methods and properties that the class itself defines, each with its first sentence."""
    lines = []
    for name, member in vars(described).items():
        found = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        text = inspect.cleandoc(getattr(found, "__doc__", None) or "")
        hidden = name.startswith("_") or name in OURS.get(described.__name__, ())
        if hidden or not text or not (inspect.isfunction(found) or isinstance(found, property)):
            continue
        called = _signature(found).partition(" -> ")[0] if inspect.isfunction(found) else ""
        called = re.sub(r"^\((?:self|cls)(?:, )?", "(", called)
        lines.append(f"- `{name}{called}`: {' '.join(text.split(chr(10) * 2)[0].split())}")
    return [*lines, ""] if lines else []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
