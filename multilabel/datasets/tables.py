"""Tables with a header: the one place where text becomes rows of cells."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.values import is_empty
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import one_form
from edgepress.multilabel.plural import plural

_EXPECTED = "a table with a header"
_SAMPLE = 1000
"""Number of rows by which columns are recognised; every other row must agree with them."""
_MARKS = ",;\t|"
_HEADER_BYTES = 1024 * 1024
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SEP = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
"""Excel's first line that names the separator."""


@dataclass
class LabelTable:
    """A table that is open at its first row."""

    path: Path
    header: list[str]
    rows: Iterator[tuple[int, list[str]]]
    """Line and cells of every row that is not empty; each has as many cells as the header."""
    sample: list[list[str]]
    """The cells of the first rows, which `rows` holds as well."""
    unnamed: frozenset[int]
    """Columns without a name, which hold nothing or an index."""
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The columns that have a name."""
        return [name for column, name in enumerate(self.header) if column not in self.unnamed]

    def holds(self, column: int) -> bool:
        """Return whether one of a column's first cells is not empty."""
        return any(not is_empty(row[column]) for row in self.sample if len(row) > column)

    def column(self, name: str, option: str) -> int:
        """Return the column that an option names.

        Raises:
            InputError: there is no such column.
        """
        if name in self.names:
            return self.header.index(name)
        alike = [column for column in self.names if column.lower() == name.lower()]
        if len(alike) == 1:
            return self.header.index(alike[0])
        raise InputError(f"{self.path}, line 1: no column {name!r}, which {option} names; columns: {shown(self.names)}")


def column_key(name: str) -> str:
    """The name of a column as names are compared: in small letters, with `_` between words."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def open_table(path: Path) -> LabelTable:
    """Open a table whatever separates its cells, in UTF-8, UTF-16 or Windows-1252.

    Raises:
        InputError: not text, no header, a column that occurs twice, a row of another width; the message names the line.
    """
    text, notes = _text(path)
    told = _SEP.match(text)
    mark = told[1] if told else _mark(text)
    reader = csv.reader(_text_lines(text), delimiter=mark, strict=True, skipinitialspace=True)
    if told:
        next(reader)
    lines = _lines(reader, path)
    header = [one_form(name.strip()) for name in next(lines, (1, []))[1]]
    first = list(itertools.islice(lines, _SAMPLE))
    named = [name for name in header if name]
    twice = next((name for place, name in enumerate(named) if name in named[:place]), None)
    if twice is not None:
        raise InputError(f"{path}, line 1: the column {twice!r} occurs twice; expected each name once")
    if any(name.lower().endswith(files.PICTURE_SUFFIXES) for name in header):
        raise InputError(
            f"{path}, line 1: {shown(header)} is no header; expected the columns' names above the first row"
        )
    unnamed = frozenset(column for column, name in enumerate(header) if not name or re.fullmatch(r"Unnamed: \d+", name))
    rows = _checked(itertools.chain(first, lines), header, unnamed, path)
    left = [f"column {column + 1}" for column in sorted(unnamed)]
    if left:
        notes.append(f"{path.name}: {', '.join(left)} without a name left out")
    return LabelTable(path, header, rows, [row for _, row in first], unnamed, notes)


def first_line(path: Path, *, skip: int = 0) -> list[str]:
    """The words of a table's first line, or of one below it, even if the rest of the table cannot be read."""
    try:
        with path.open("rb") as file:
            text = _SEP.sub("", _beginning(file.read(_HEADER_BYTES)), count=1)
    except OSError:
        return []
    line = next(itertools.islice(io.StringIO(text), skip, None), "")
    return [word.strip(' "\r\n') for word in re.split(f"[{_MARKS}]", line)]


def _beginning(data: bytes) -> str:
    """The beginning of a text, whatever its encoding."""
    encoding = _utf_16(data) or "utf-8-sig"
    return data.decode(encoding, "replace").removeprefix("\ufeff")


def _utf_16(data: bytes) -> str | None:
    """The kind of UTF-16 that a text is in; None if it is in another encoding."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    start = data[:4096]
    even, odd = start[::2].count(0), start[1::2].count(0)
    # In names and numbers, most characters have a zero byte; other text holds none.
    if max(even, odd) * 4 < len(start):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _text(path: Path) -> tuple[str, list[str]]:
    data = files.read_bytes(path, _EXPECTED)
    if (encoding := _utf_16(data)) is not None:
        try:
            return data.decode(encoding), [f"{path.name}: read as {encoding.upper()}"]
        except UnicodeDecodeError:
            raise InputError(f"{path}: not UTF-16, as its first bytes say; expected {_EXPECTED}") from None
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        with_nul = b"\0" in data
        try:
            text = "" if with_nul else data.decode("cp1252")
        except UnicodeDecodeError:
            with_nul = True
        if with_nul:
            raise InputError(
                f"{path}, line {line}: not UTF-8, UTF-16 or Windows-1252 text; expected {_EXPECTED} in one of these"
            ) from None
        return text, [f"{path.name}: not UTF-8 on line {line}; read as Windows-1252, so look at the labels' names"]


def _mark(text: str) -> str:
    """The separator of the columns: the one that gives the header the most cells, and the first row as many."""
    lines = list(
        itertools.islice((line for line in io.StringIO(text[: 2 * _HEADER_BYTES], newline="\n") if line.strip()), 2)
    )
    lines = [line[:_HEADER_BYTES] for line in lines]

    def widths(mark: str) -> list[int]:
        try:
            return [len(next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])) for line in lines]
        except csv.Error:
            return [1]

    found = {mark: widths(mark) for mark in _MARKS}
    even = [mark for mark in _MARKS if found[mark] and found[mark][0] > 1 and len(set(found[mark])) == 1]
    return max(even or _MARKS, key=lambda mark: (found[mark] or [1])[0])


def _text_lines(text: str) -> Iterator[str]:
    """The lines of a text with their ends. (A StringIO would hold the text again, in four bytes a character.)"""
    return (found[0] for found in _LINE.finditer(text))


def _lines(reader: Iterator[list[str]], path: Path) -> Iterator[tuple[int, list[str]]]:
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            line = reader.line_num  # type: ignore[attr-defined] # a csv.reader has it
            raise InputError(f"{path}, line {line}: {error}; expected {_EXPECTED}") from None
        if row is None:
            return
        if any(cell.strip() for cell in row):
            yield reader.line_num, row  # type: ignore[attr-defined]


def _checked(
    lines: Iterator[tuple[int, list[str]]], header: list[str], unnamed: frozenset[int], path: Path
) -> Iterator[tuple[int, list[str]]]:
    """Yield rows as wide as the header, whose nameless columns hold nothing except an index in the first."""
    width, before = len(header), None
    for number, row in lines:
        if len(row) != width:
            if any(cell.strip() for cell in row[width:]) or len(row) < width:
                raise InputError(f"{path}, line {number}: {plural(len(row), 'cell')}; the header has {width}")
            row = row[:width]  # each line ends with a comma
        for column in unnamed:
            cell = row[column].strip()
            counted = cell.isdecimal() and column == 0 and (before is None or int(cell) == before + 1)
            if column == 0 and cell.isdecimal():
                before = int(cell)
            if cell and not counted:
                raise InputError(
                    f"{path}, line {number}: column {column + 1} has no name and holds {cell[:40]!r}; expected a label "
                    "above it, or an index in the first column"
                )
        yield number, row
