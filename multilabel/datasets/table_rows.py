"""The rows of a table as one split: pictures are found, rows of one picture are merged, cells become targets."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import Columns, columns_of
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.denials import refuse_denied
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.label_lists import names_of, refuse_unsplit
from edgepress.multilabel.datasets.no_labels import unlisted
from edgepress.multilabel.datasets.notations import refuse_multi_hot, refuse_notations
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.split_lists import names_in, plain_name, refuse_strangers
from edgepress.multilabel.datasets.tables import LabelTable, open_table
from edgepress.multilabel.datasets.values import CellCount, Cells, UnreadableError, Values, is_empty
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.plural import plural


def open_with_columns(path: Path, pictures: Pictures, options: DataOptions, root: Path) -> tuple[LabelTable, Columns]:
    """A table, and what its columns are; it raises the same errors as `open_table` and `columns_of`."""
    table = open_table(path)
    return table, columns_of(table, options, pictures, labels_file(root))


def holds_pictures(table: LabelTable, pictures: Pictures) -> bool:
    """Return whether in the first rows every cell of some column is a picture that exists."""
    rows = table.sample[:20]
    return bool(rows) and any(
        all(len(row) > column and pictures.afresh().found(row[column].strip()) is not None for row in rows)
        for column in range(len(table.header))
    )


def labels_file(root: Path) -> tuple[str, ...] | None:
    """The names in labels.txt, if it exists."""
    path = root / "labels.txt"
    return LabelSpace.from_file(path).names if files.is_file(path) else None


def listed_names(tables: Iterable[tuple[LabelTable, Columns]], options: DataOptions) -> set[str]:
    """Collect the labels in the lists of several tables, so that all splits have the same labels.

    Raises:
        InputError: see `names_of`, `refuse_unsplit`, `refuse_multi_hot` and `refuse_notations`.
    """
    found: set[str] = set()
    for table, columns in tables:
        if not columns.listed:
            continue
        lines: dict[str, int] = {}
        for number, row in table.rows:
            for place in columns.listed:
                lines.setdefault(row[place], number)
        table_path, column = str(table.path), table.header[columns.listed[0]]
        lists = [names_of(cell, options.separator, f"{table_path}, line {number}") for cell, number in lines.items()]
        refuse_unsplit(lines, options.separator, table_path, column)
        refuse_multi_hot(lists, table_path, column)
        names = dict.fromkeys(name for cell in lists for name in cell)
        refuse_notations(names, table_path, column)
        found.update(names)
    return found


def read_table(
    table: LabelTable,
    columns: Columns,
    pictures: Pictures,
    labels: LabelSpace,
    split: str | None,
    options: DataOptions,
    among: Path | None = None,
) -> Contents:
    """Read the rows of a table, or those of one split if a column names the splits.

    Args:
        among: the list of the split's pictures, where a text file gives it.

    Raises:
        InputError: a picture is missing, a value or a label is unknown, rows of the same picture contradict each other,
            a list names a picture that no row does, or there is no row; the message names the line.
    """
    rows = _Rows(table, pictures, columns.picture)
    kept = _of_split(table, columns, split) if among is None else _listed_rows(table, columns.picture, among)
    if columns.listed:
        targets, ignore, counts = _lists(_affirmed(kept, table, columns), rows, columns.listed, labels, options)
    else:
        targets, ignore, counts = _values(kept, rows, columns.labels, options)
    notes = [*table.notes, *pictures.notes]
    if columns.left_out:
        notes.append(f"{table.path.name}: columns that are no labels left out: {shown(columns.left_out)}")
    if rows.again:
        again = plural(rows.again, "row names", "rows name")
        notes.append(f"{table.path.name}: {again} a picture again; the rows of one picture are united")
    return Contents(
        labels=labels, paths=rows.paths, targets=targets, ignore=ignore, notes=tuple(notes), values=tuple(counts)
    )


class _Rows:
    """The pictures of rows, each once, and the rows that name each picture."""

    def __init__(self, table: LabelTable, pictures: Pictures, column: int) -> None:
        self.table, self._pictures, self._column = table, pictures, column
        self.paths: list[Path] = []
        self.lines: list[int] = []
        """The line of every row."""
        self.of_picture: list[int] = []
        """The picture of every row."""
        self._seen: dict[Path, int] = {}
        self.again = 0

    def add(self, number: int, row: Sequence[str]) -> None:
        path = self._pictures.find(row[self._column].strip(), self.where(number))
        place = self._seen.setdefault(path, len(self.paths))
        if place == len(self.paths):
            self.paths.append(path)
        else:
            self.again += 1
        self.of_picture.append(place)
        self.lines.append(number)

    def where(self, number: int) -> str:
        return f"{self.table.path}, line {number}"


def _of_split(table: LabelTable, columns: Columns, split: str | None) -> Iterator[tuple[int, list[str]]]:
    for number, row in table.rows:
        if columns.split is None or split is None or columns.split_of(row, f"{table.path}, line {number}") == split:
            yield number, row


def _affirmed(
    kept: Iterator[tuple[int, list[str]]], table: LabelTable, columns: Columns
) -> Iterator[tuple[int, list[str]]]:
    """The rows, none of which denies its label: columns are found by the first rows, and any may say no."""
    said: set[tuple[int, str]] = set()
    for number, row in kept:
        for column in columns.deniers:
            if (column, row[column]) not in said:
                refuse_denied(table, columns.listed[0], column, row)
                said.add((column, row[column]))
        if columns.evidence is not None:
            columns.evidence.add(row)
        yield number, row


def _listed_rows(table: LabelTable, picture: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    listed = names_in(path)
    seen: set[str] = set()
    for number, row in table.rows:
        name = plain_name(row[picture])
        if name in listed:
            seen.add(name)
            yield number, row
    refuse_strangers(listed, seen, path, table.path)


def _lists(
    kept: Iterator[tuple[int, list[str]]], rows: _Rows, listed: Sequence[int], labels: LabelSpace, options: DataOptions
) -> tuple[np.ndarray, np.ndarray, list[CellCount]]:
    known: dict[str, list[int]] = {}
    cells = array("q")  # places in the flat targets: a list of pairs takes ten times the memory
    empty: Counter[str] = Counter()
    for number, row in kept:
        rows.add(number, row)
        before = len(cells)
        for cell in (row[column] for column in listed):
            if cell not in known:
                where = rows.where(number)
                text = cell.strip()
                # A label may be called None.
                names = [text] if text in labels and is_empty(text) else names_of(cell, options.separator, where)
                _refuse_unknown(names, labels, where)
                known[cell] = [labels.index(name) for name in names]
            start = rows.of_picture[-1] * len(labels)
            cells.extend(start + column for column in known[cell])
        if len(cells) == before:
            empty[next((text for column in listed if (text := row[column].strip())), "")] += 1
    if not rows.paths:
        raise files.empty_split(rows.table.path, rows.table.path.stem)
    targets = np.zeros((len(rows.paths), len(labels)), dtype=np.uint8)
    targets.reshape(-1)[np.frombuffer(cells, dtype=np.int64)] = 1
    counts = [CellCount(text, rows_so, "no") for text, rows_so in empty.items()]
    return targets, np.zeros(targets.shape, dtype=bool), counts


def _refuse_unknown(names: Sequence[str], labels: LabelSpace, where: str) -> None:
    for name in names:
        if name in labels:
            continue
        for mark in (",", " ", "/", "+", "#"):
            parts = [part for one in name.split(mark) if (part := one.strip())]
            if len(parts) > 1 and all(part in labels for part in parts):
                raise InputError(
                    f"{where}: label {name!r} is not in labels.txt; --separator '{mark}' reads it as {', '.join(parts)}"
                )
        raise unlisted(name, where, labels)


def _values(
    kept: Iterator[tuple[int, list[str]]], rows: _Rows, columns: Sequence[int], options: DataOptions
) -> tuple[np.ndarray, np.ndarray, list[CellCount]]:
    cells = Cells(Values.parse(options.values))
    header, table = rows.table.header, str(rows.table.path)
    try:
        for number, row in kept:
            rows.add(number, row)
            cells.add([row[column] for column in columns])
        if not rows.paths:
            raise files.empty_split(rows.table.path, rows.table.path.stem)
        values, counts = cells.meanings(table)
    except UnreadableError as error:
        expected = "a value of --values" if options.values is not None else "1, 0, or nothing or -1"
        raise InputError(
            f"{rows.where(rows.lines[error.row])}: label {header[columns[error.column]]!r} is {error.text[:40]!r}; "
            f"expected {expected}; --values says what values mean, --label-columns which columns are labels"
        ) from None
    except OverflowError:
        raise InputError(
            f"{table}: the label columns hold thousands of different values; expected yes and no; --label-columns says "
            "which columns are labels"
        ) from None
    if rows.again:
        values = _united(values, rows, [header[column] for column in columns])
    return (values == 1).astype(np.uint8), values == -1, counts


def _united(values: np.ndarray, rows: _Rows, names: list[str]) -> np.ndarray:
    """One row per picture: what any of its rows knows."""
    found = np.full((len(rows.paths), values.shape[1]), -1, dtype=np.int8)
    lines: dict[int, int] = {}
    for row, (place, line) in enumerate(zip(rows.of_picture, rows.lines, strict=True)):
        both = (found[place] >= 0) & (values[row] >= 0) & (found[place] != values[row])
        if both.any():
            column = int(np.flatnonzero(both)[0])
            raise InputError(
                f"{rows.where(line)}: label {names[column]!r} of {rows.paths[place].name!r} is {values[row, column]}, "
                f"and {found[place, column]} on line {lines[place]}; expected the rows of one picture to agree"
            )
        lines.setdefault(place, line)
        found[place] = np.where(values[row] >= 0, values[row], found[place])
    return found
