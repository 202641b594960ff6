"""Tables with a header: the one place where text becomes rows, and columns become picture, labels and split."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.values import Values, canonical, is_empty
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import one_form

PICTURE_COLUMNS = (
    "path", "file", "file_name", "filename", "file_path", "filepath", "fname", "image", "image_id", "imageid",
    "image_name", "imagename", "image_path", "imagepath", "img", "img_name", "img_path", "picture", "photo",
)  # fmt: skip
LIST_COLUMNS = (
    "labels", "label", "tags", "tag", "classes", "class", "categories", "category", "choice", "choices",
)  # fmt: skip
SPLIT_NAMES = frozenset((
    "train", "training", "trainval", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation",
    "holdout",
))  # fmt: skip
_SPLIT_WORDS = SPLIT_NAMES | {"split", "subset", "partition", "phase", "fold", "kfold", "usage"}
_NO_LABELS = _SPLIT_WORDS | {"id", "ids", "idx", "index", "patient", "patientid", "subject", "uid", "uuid"}
_LAST_RESORT = ("id", "name", "index")
_EXPECTED = "a table with a header"
_SAMPLE = 1000
"""Number of rows by which columns are recognised; every other row must agree with them."""
_MARKS = ",;\t|"
_HEADER_BYTES = 1024 * 1024


@dataclass
class Table:
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


def shown(names: Sequence[str], most: int = 8) -> str:
    """Some names, for a message."""
    return (", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")) or "none"


def open_table(path: Path) -> Table:
    """Open a table whatever separates its cells, in UTF-8, UTF-16 or Windows-1252.

    Raises:
        InputError: not text, no header, a column that occurs twice, a row of another width; the message names the line.
    """
    text, notes = _text(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_mark(text), strict=True, skipinitialspace=True)
    lines = _lines(reader, path)
    header = [one_form(name.strip()) for name in next(lines, (1, []))[1]]
    first = list(itertools.islice(lines, _SAMPLE))
    named = [name for name in header if name]
    twice = next((name for place, name in enumerate(named) if name in named[:place]), None)
    if twice is not None:
        raise InputError(f"{path}, line 1: the column {twice!r} stands twice; expected each name once")
    if any(name.lower().endswith(files.PICTURE_SUFFIXES) for name in header):
        raise InputError(
            f"{path}, line 1: {shown(header)} is no header; expected the columns' names above the first row"
        )
    unnamed = frozenset(column for column, name in enumerate(header) if not name or re.fullmatch(r"Unnamed: \d+", name))
    rows = _checked(itertools.chain(first, lines), header, unnamed, path)
    left = [f"column {column + 1}" for column in sorted(unnamed)]
    if left:
        notes.append(f"{path.name}: {', '.join(left)} without a name left out")
    return Table(path, header, rows, [row for _, row in first], unnamed, notes)


def usual_names(header: Sequence[str]) -> list[str]:
    """The columns whose names are usual for pictures."""
    return [name for name in header if _key(name) in PICTURE_COLUMNS]


def first_line(path: Path) -> list[str]:
    """The words of a table's first line, even if the rest of the table cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.readline(_HEADER_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return []
    return [word.strip(' "\r\n') for word in re.split(f"[{_MARKS}]", text)]


def _text(path: Path) -> tuple[str, list[str]]:
    data = files.read_bytes(path, _EXPECTED)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16"), [f"{path.name}: read as UTF-16"]
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
    lines = list(itertools.islice((line for line in io.StringIO(text, newline="\n") if line.strip()), 2))
    lines = [line[:_HEADER_BYTES] for line in lines]

    def widths(mark: str) -> list[int]:
        try:
            return [len(next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])) for line in lines]
        except csv.Error:
            return [1]

    found = {mark: widths(mark) for mark in _MARKS}
    even = [mark for mark in _MARKS if found[mark] and found[mark][0] > 1 and len(set(found[mark])) == 1]
    return max(even or _MARKS, key=lambda mark: (found[mark] or [1])[0])


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
                raise InputError(f"{path}, line {number}: {len(row)} cells; the header has {width}")
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


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are."""

    picture: int
    listed: int | None
    """The column that lists labels; None if each label has a column."""
    labels: tuple[int, ...]
    """The columns that are one label each."""
    split: int | None
    """The column that names the split."""
    negated: str | None
    """The split's name if the split column holds yes and no."""
    left_out: tuple[str, ...]

    def split_of(self, row: list[str], where: str) -> str:
        """Return the split of a row.

        Raises:
            InputError: the cell is empty, or cannot be part of a file name.
        """
        assert self.split is not None
        cell = row[self.split].strip()
        if self.negated is not None:
            meaning = Values.parse(None).of(cell)
            if meaning in ("yes", "no"):
                return self.negated if meaning == "yes" else f"not {self.negated}"
        if is_empty(cell):
            raise InputError(f"{where}: the split column is empty; expected the name of a split")
        return files.plain(cell, where)


def columns_of(
    table: Table, options: DataOptions, resolves: Callable[[str], bool], named: Sequence[str] | None
) -> Columns:
    """Find or choose the meaning of each column of a table.

    Args:
        resolves: returns whether a cell names a picture that exists.
        named: the labels of labels.txt, if it exists.

    Raises:
        InputError: no column or several could be the picture's, a column may not be a label, or none is one; the
            message names the option that decides it.
    """
    picture = _picture(table, options, resolves)
    chosen = [table.column(name, "--label-columns") for name in options.label_columns]
    split, negated = _split(table, options, picture, chosen)
    others = [
        column
        for column, name in enumerate(table.header)
        if column not in (picture, split) and column not in table.unnamed and name
    ]
    if chosen:
        listed = chosen[0] if len(chosen) == 1 and not _is_values(table, chosen[0], options) else None
        labels = () if listed is not None else tuple(chosen)
    else:
        listed = _listed(table, others, named)
        labels = () if listed is not None else _label_columns(table, others, picture, split, options, named)
    used = {picture, split, listed, *labels}
    left = tuple(table.header[column] for column in others if column not in used)
    return Columns(picture, listed, labels, split, negated, left)


def _key(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _picture(table: Table, options: DataOptions, resolves: Callable[[str], bool]) -> int:
    if options.picture_column is not None:
        return table.column(options.picture_column, "--picture-column")
    usual = [table.header.index(name) for name in usual_names(table.header)]
    if len(usual) == 1:
        return usual[0]
    # By their contents: those among several with a usual name, otherwise any whose cells are all pictures that exist.
    rows = table.sample[:20]
    places = usual or [column for column in range(len(table.header)) if column not in table.unnamed]
    fitting = [
        column
        for column in places
        if rows and all(len(row) > column and row[column].strip() and resolves(row[column].strip()) for row in rows)
    ]
    firm = [column for column in fitting if usual or _key(table.header[column]) not in _LAST_RESORT] or fitting
    if len(firm) == 1:
        return firm[0]
    raise InputError(
        f"{table.path}, line 1: {len(firm or usual)} columns for the picture among {shown(table.names)}; expected one "
        f"named {', '.join(PICTURE_COLUMNS[:5])} or the like; --picture-column says which it is"
    )


def _split(table: Table, options: DataOptions, picture: int, chosen: list[int]) -> tuple[int | None, str | None]:
    """The column that names the split, and the split's name if the column holds yes and no."""
    if options.split_column is not None:
        column = table.column(options.split_column, "--split-column")
        return column, table.header[column] if _is_yes_or_no(table, column) else None
    found = []
    for column, name in enumerate(table.header):
        cells = {row[column].strip().lower() for row in table.sample if len(row) > column}
        named = _key(name) in ("split", "subset", "partition", "phase")
        if column in (picture, *chosen) or column in table.unnamed or not cells:
            continue
        if cells <= SPLIT_NAMES or (named and not _is_yes_or_no(table, column) and all(cells)):
            found.append(column)
    if len(found) > 1:
        names = shown([table.header[column] for column in found])
        raise InputError(f"{table.path}, line 1: {names} may each name the split; --split-column says which it is")
    return (found[0], None) if found else (None, None)


def _is_yes_or_no(table: Table, column: int) -> bool:
    values = Values.parse(None)
    cells = {row[column] for row in table.sample if len(row) > column}
    return bool(cells) and all(values.of(cell) in ("yes", "no") for cell in cells)


def _is_values(table: Table, column: int, options: DataOptions) -> bool:
    """Return whether a column's cells all mean yes, no or unknown, and are not all empty."""
    values = Values.parse(options.values)
    cells = {row[column] for row in table.sample if len(row) > column}
    return all(values.of(cell) is not None for cell in cells) and any(canonical(cell) for cell in cells)


def _listed(table: Table, others: list[int], named: Sequence[str] | None) -> int | None:
    """The column that lists labels."""
    found = [column for column in others if _key(table.header[column]) in LIST_COLUMNS]
    found = [column for column in found if named is None or table.header[column] not in named]
    numbers = [column for column in found if _is_values(table, column, DataOptions())]
    words = [column for column in found if column not in numbers]
    if len(words) > 1:
        first = next((column for column in words if table.header[column] == "labels"), None)
        if first is not None:
            return first
        names = shown([table.header[column] for column in words])
        raise InputError(f"{table.path}, line 1: {names} may each list labels; --label-columns says which it is")
    if not words and found and len(others) == 1 and not any(canonical(row[found[0]]) for row in table.sample):
        return found[0]
    if numbers and (words or len(others) == 1):
        name = table.header[numbers[0]]
        if not words:
            raise InputError(
                f"{table.path}, line 1: column {name!r} holds yes and no, not names; --label-columns {name} reads it "
                "as one label"
            )
    return words[0] if words else (found[0] if found and not numbers else None)


def _label_columns(
    table: Table, others: list[int], picture: int, split: int | None, options: DataOptions, named: Sequence[str] | None
) -> tuple[int, ...]:
    """The columns that are one label each, in the table's order, or in that of labels.txt."""
    path, header = table.path, table.header
    if named is not None:
        missing = next((name for name in named if name not in header), None)
        if missing is not None:
            raise InputError(f"{path}, line 1: no column for label {missing!r} of labels.txt; columns: {shown(header)}")
        rest = [column for column in others if header[column] not in named]
        doubtful = [column for column in rest if _may_split(table, column, split)]
        _refuse_doubtful(table, doubtful, list(named))
        return tuple(header.index(name) for name in named)
    if not others:
        raise InputError(f"{path}, line 1: no column beside {header[picture]!r}; expected one a label, or 'labels'")
    good = [column for column in others if _is_values(table, column, options) or not _holds(table, column)]
    bad = [column for column in others if column not in good]
    doubtful = [column for column in good if _is_no_label(table, column, split)]
    _refuse_doubtful(table, doubtful, [header[column] for column in good if column not in doubtful])
    if bad and options.values is None:
        line, cell = _first_unread(table, bad[0])
        names = ",".join(header[column] for column in good)
        how = f"--label-columns '{names}' reads the others alone" if good else "--label-columns says which list labels"
        raise InputError(
            f"{path}, line {line}: label {header[bad[0]]!r} is {cell[:40]!r}; expected 1, 0, or nothing or -1; {how}, "
            "--values says what values mean"
        )
    return tuple(others)


def _holds(table: Table, column: int) -> bool:
    return any(canonical(row[column]) for row in table.sample if len(row) > column)


def _first_unread(table: Table, column: int) -> tuple[int, str]:
    values = Values.parse(None)
    for number, row in table.rows:
        if values.of(row[column]) is None:
            return number, row[column]
    return 1, ""


def _words(name: str) -> set[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return {*re.split(r"[^a-z0-9]+", apart.lower()), _key(name)}


def _is_no_label(table: Table, column: int, split: int | None) -> bool:
    """Return whether a column of yes and no is named like a split, a fold, an id or a patient."""
    words = _words(table.header[column]) & _NO_LABELS
    # A picture may also show a `train`; if the table's own name gives the split, the column is a label.
    said = split is not None or table.path.stem.lower() in SPLIT_NAMES
    return bool(words) and not (said and _key(table.header[column]) == "train")


def _may_split(table: Table, column: int, split: int | None) -> bool:
    return split is None and bool(_words(table.header[column]) & _SPLIT_WORDS) and _is_yes_or_no(table, column)


def _refuse_doubtful(table: Table, doubtful: list[int], labels: list[str]) -> None:
    if doubtful:
        name = table.header[doubtful[0]]
        rest = [*labels, *(table.header[column] for column in doubtful[1:])]
        raise InputError(
            f"{table.path}, line 1: column {name!r} holds yes and no, and is named like no label; --split-column "
            f"{name!r} reads it as the split, --label-columns '{','.join(rest)}' leaves it out, and with it among "
            "--label-columns it is a label"
        )
