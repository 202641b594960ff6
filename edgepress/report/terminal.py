"""Tables on a terminal: readable in a terminal of 80 columns, plain and unwrapped in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

GAP = "  "
PROSE = 28
"""Fewest terminal columns for prose at the end of a row; with fewer the row is stacked."""
UNBOUNDED = 100_000
"""The width used for a pipe, which has none, so that nothing is cut."""


def stdout() -> Console:
    """The console that tables are printed to."""
    return Console(width=None if sys.stdout.isatty() else UNBOUNDED, markup=False, highlight=False)


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    caption: str = "",
    words: Sequence[str] = (),
    spare: Sequence[str] = (),
    prose: bool = False,
) -> None:
    """Print rows below the names of their columns. If the terminal is too narrow, leave out the spare columns first,
    then print each row as a block of its own. No cell is cut or broken.

    Args:
        words: columns aligned to the left, like the first; the others are numbers.
        spare: columns that may be left out, in this order; a line below the table names those that were.
        prose: the last column is text that may be wrapped.
    """
    if title:
        console.print(title)
    names, left_out = list(columns), list[str]()
    while _width(columns, rows, names, prose) > console.width and len(left_out) < len(spare):
        left_out.append(spare[len(left_out)])
        names.remove(left_out[-1])
    if _width(columns, rows, names, prose) > console.width:
        names, left_out = list(columns), []
        for row in rows:
            _print_block(console, columns, row)
    else:
        _print_lines(console, columns, rows, names, words, prose)
    if left_out:
        needed = _width(columns, rows, columns, prose)
        console.print(f"A terminal of {needed} columns also shows {', '.join(left_out)}.")
    if caption:
        console.print(caption)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str]) -> dict[str, int]:
    places = {name: columns.index(name) for name in names}
    return {name: max(map(cell_len, [name, *(row[place] for row in rows)])) for name, place in places.items()}


def _width(columns: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str], prose: bool) -> int:
    """Number of terminal columns that these columns of the table need."""
    widths = _widths(columns, rows, names)
    if prose:
        widths[columns[-1]] = min(widths[columns[-1]], PROSE)
    return sum(widths.values()) + len(GAP) * (len(names) - 1)


def _print_lines(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    names: Sequence[str],
    words: Sequence[str],
    prose: bool,
) -> None:
    widths = _widths(columns, rows, names)
    places = [columns.index(name) for name in names]
    for number, row in enumerate([columns, *rows]):
        cells = []
        for name, place in zip(names, places, strict=True):
            space = " " * (widths[name] - cell_len(row[place]))
            left = place == 0 or name in words or (prose and place == len(columns) - 1)
            cells.append(row[place] + space if left else space + row[place])
        line = GAP.join(cells).rstrip()
        if prose:
            start = GAP.join(cells[:-1]) + GAP
            line = _hanging(start, row[-1], console.width)
        console.print(Text(line, style="" if number else "bold"), soft_wrap=True)


def _print_block(console: Console, columns: Sequence[str], row: Sequence[str]) -> None:
    """Print a row's first cell, and below it the others with their names, as many per line as fit."""
    console.print(row[0], soft_wrap=True)
    line = ""
    for name, cell in zip(columns[1:], row[1:], strict=True):
        part = f"{GAP}{name} {cell}".rstrip() if cell else ""
        if line and cell_len(line) + 1 + cell_len(part) > console.width:
            console.print(line, soft_wrap=True)
            line = ""
        line += f" {part}" if line and part else part
    if line:
        console.print(line, soft_wrap=True)


def _hanging(start: str, text: str, width: int) -> str:
    """A line whose text continues below its own start, broken between words only."""
    space = " " * cell_len(start)
    filler = textwrap.TextWrapper(
        width, initial_indent=start, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )
    return filler.fill(text).rstrip() or start.rstrip()


def print_record(console: Console, record: dict[str, Any]) -> None:
    """Print a line per value, named by its path; a value that does not fit is printed below its name."""
    pairs = _flatten(record)
    indent = max((cell_len(name) for name, _ in pairs), default=0) + len(GAP)
    for name, value in pairs:
        if indent + cell_len(value) <= console.width:
            line = f"{name:<{indent}}{value}"
        else:
            line = f"{name}\n" + _hanging(2 * GAP, value, console.width)
        console.print(line, soft_wrap=True)


def _flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
            rows.append((prefix + name, f"{len(value)} records (--json lists them)"))
        elif isinstance(value, list) and value:
            rows.append((prefix + name, ", ".join(map(_text, value))))
        elif value not in (None, "", []):
            rows.append((prefix + name, _text(value)))
    return rows


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
