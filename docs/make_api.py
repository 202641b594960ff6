"""Writes docs/api.md from the docstrings of what `edgepress` exports: `make api`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import edgepress

PAGE = Path(__file__).with_name("api.md")
_SECTION = re.compile(r"^(Args|Returns|Raises|Raises, from its properties|Yields|Example):$", re.MULTILINE)


def page() -> str:
    """The whole page."""
    described = [(name, getattr(edgepress, name)) for name in edgepress.__all__ if not name.startswith("_")]
    parts = [_section(name, thing) for name, thing in described]
    head = "# The Python interface\n\nMade from the docstrings by `make api`. Nothing of it needs torch but `losses`.\n"
    return "\n".join([head, *parts])


def _section(name: str, thing: object) -> str:
    text = inspect.cleandoc(thing.__doc__ or "")
    prose, *sections = _SECTION.split(text)
    lines = [f"## {name}", ""]
    if inspect.isfunction(thing):
        lines += ["```python", f"{name}{inspect.signature(thing)}", "```", ""]
    lines += [prose.strip(), ""]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        kind = "python" if title == "Example" else "text"
        lines += [f"{title}:", "", f"```{kind}", inspect.cleandoc(body).strip(), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
