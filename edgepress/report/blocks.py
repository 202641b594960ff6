"""A document as blocks of plain text; made once, it is written as HTML (`edgepress.report.html`) and Markdown.

The text of a block may come from a data set or a recipe, so the writers escape all of it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_MARKS = re.compile(r"([\\`*_\[\]|~#])")
_FENCE = re.compile(r"`+")


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Listing:
    """Items, one per line."""

    items: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns; a row begins with its name."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str] = ()
    """Columns after the first that hold words; all others hold numbers."""
    folded: bool = False
    """Whether HTML shows it only on request."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot."""

    svg: str
    """Markup made by `edgepress.report.svg`."""
    alt: str
    """What it shows, for readers who cannot see it."""
    caption: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """A station of a path."""

    name: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Path:
    """Stations, each made from the one before."""

    steps: Sequence[Step]


@dataclass(frozen=True, kw_only=True)
class GalleryPicture:
    """A small picture and facts about it."""

    jpeg: str
    """The JPEG file as base64."""
    alt: str
    name: str
    facts: Sequence[tuple[str, str]]
    """Names and texts of the facts."""


@dataclass(frozen=True)
class Gallery:
    """Pictures."""

    pictures: Sequence[GalleryPicture]


@dataclass(frozen=True, kw_only=True)
class Code:
    """Lines to be copied."""

    caption: str
    text: str
    language: str = ""


Block = Text | Listing | Table | Figure | Path | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A title, the verdict and the sections."""

    title: str
    verdict: str = ""
    """One of the words pass, fail and incomplete; empty if nothing is judged."""
    headline: Sequence[str] = field(default=())
    """The verdict in sentences."""
    sections: Sequence[Section]


def to_markdown(document: Document) -> str:
    """Markdown for GitHub; plots and pictures are only in the HTML, here words say what they show."""
    parts = [f"# {escaped(document.title)}"]
    if document.verdict:
        parts.append(f"**Verdict: {escaped(document.verdict)}**")
    parts += [escaped(line) for line in document.headline]
    return "\n\n".join([*parts, *(section_markdown(section) for section in document.sections)]) + "\n"


def section_markdown(section: Section) -> str:
    """One section, with a heading of the second level."""
    return "\n\n".join([f"## {escaped(section.title)}", *(_markdown(block) for block in section.blocks)])


def escaped(text: str) -> str:
    """Escape text, so that Markdown shows it unchanged, on one line."""
    return _MARKS.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _markdown(block: Block) -> str:
    if isinstance(block, Text):
        return escaped(block.text)
    if isinstance(block, Listing):
        return "\n".join(f"- {escaped(item)}" for item in block.items)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return f"*Plot: {escaped(block.alt)}*"
    if isinstance(block, Path):
        return "\n".join(
            f"{number}. **{escaped(step.name)}**: {escaped(', '.join(step.lines))}"
            for number, step in enumerate(block.steps, 1)
        )
    if isinstance(block, Gallery):
        return "\n".join(
            f"- {escaped(one.name)}: {escaped('; '.join(f'{name}: {fact}' for name, fact in one.facts))}"
            for one in block.pictures
        )
    # The text may contain a fence itself.
    fence = "`" * max(3, 1 + max((len(found) for found in _FENCE.findall(block.text)), default=0))
    return f"{escaped(block.caption)}\n\n{fence}{block.language}\n{block.text}\n{fence}"


def _table(table: Table) -> str:
    rule = ["---", *("---" if name in table.words else "---:" for name in table.columns[1:])]
    lines = [[escaped(name) for name in table.columns], rule]
    lines += [[escaped(cell) for cell in row] for row in table.rows]
    return f"{escaped(table.caption)}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
