"""A table a split, with a header.

root/<split>.csv   path,cat,dog          or   path,labels
                   a.jpg,1,0                  a.jpg,cat;dog
                   b.jpg,,1                   b.jpg,

The picture's column is called path, file, file_name, image or filename; its paths start at the root, at <split>/ or at
images/. Either every other column is a label (1 present, 0 absent, empty or -1 ignored), or a column `labels` holds a
list separated by `;` or `|`, or in JSON, and further columns are not read; a column `split` must name the table's own
split. Labels are in the order of labels.txt where it is there;
else in that of the columns, or, for lists, in the alphabet's over all splits. Columns are separated by , ; or tabs.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

PATH_COLUMNS = ("path", "file", "file_name", "image", "filename")
LOOKS_FOR = f"<split>.csv with a column {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}"

_EXPECTED = "a table with a header"
_LIST = "labels"
_VALUES = {"1": 1, "0": 0, "": -1, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1}
"""What a cell says; the decimals are how pandas writes a column with empty cells. -1 is ignored."""

_HEADER_BYTES = 1024 * 1024


def recognise(root: Path) -> bool:
    """Does the folder look like this layout?"""
    return bool(splits(root))


def splits(root: Path) -> list[str]:
    """The names of the tables in the root that have a column for the picture."""
    names = [name.removesuffix(".csv") for name in files.files_of(root) if name.endswith(".csv")]
    return [name for name in names if _has_pictures(root / f"{name}.csv")]


def read(root: Path, split: str) -> tuple[LabelSpace, list[Path], np.ndarray, np.ndarray]:
    """Labels, paths `[N]`, targets uint8 `[N, C]` and ignore mask bool `[N, C]` of one split, in the table's order.

    Raises:
        InputError: as `load_dataset`; no column for the picture, or two; a column without a name or twice; a row of
            another width; a value that is none; a column or a label that labels.txt lacks.
    """
    table = root / f"{files.plain(split, f'split {split!r}')}.csv"
    if not files.is_file(table):
        raise files.unknown_split(root, split, table.name, splits(root))
    header, rows = _open(table)
    at = _path_column(header, table)
    listed = _LIST in header
    others = [name for name in header if name != header[at]]
    names: list[str] = []
    if listed:
        labels = files.labels_or(root, () if files.is_file(root / "labels.txt") else _all_listed(root))
    else:
        labels = _columns_as_labels(root, others, table)
        names = list(labels)
    columns = [header.index(name) for name in names]
    paths: list[Path] = []
    cells: list[np.ndarray] = []
    once, pictures = files.Once(), files.Pictures(root, root / split, root / "images")
    for number, row in rows:
        where = f"{table}, line {number}"
        inside = files.inside(row[at].strip(), where)
        once.add(str(inside), number, where)
        paths.append(pictures.find(inside, where))
        if listed:
            if "split" in header and row[header.index("split")].strip() != split:
                other = row[header.index("split")].strip()
                raise InputError(f"{where}: split {other!r} in the table of {split!r}; expected one table a split")
            cells.append(files.encode(labels, _names(row[header.index(_LIST)], where), where).astype(np.int8))
        else:
            cells.append(_values([row[column] for column in columns], names, where))
    if not paths:
        raise files.empty_split(table, split)
    values = np.stack(cells)
    return labels, paths, (values == 1).astype(np.uint8), values == -1


def _has_pictures(table: Path) -> bool:
    try:
        with table.open("rb") as file:
            text = file.readline(_HEADER_BYTES).decode("utf-8-sig")
        return any(name in PATH_COLUMNS for name in _header(text))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _delimiter(line: str) -> str:
    # The header alone: below it a list of labels may hold more semicolons than the table has commas.
    try:
        return csv.Sniffer().sniff(line[:4096], delimiters=",;\t").delimiter
    except csv.Error:
        return ","


def _header(line: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=_delimiter(line)), [])]


def _open(table: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header, and line number and cells of every row that is not empty."""
    text = files.read_text(table, _EXPECTED)
    first = text.split("\n", 1)[0][:_HEADER_BYTES]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(first), strict=True)

    def rows() -> Iterator[tuple[int, list[str]]]:
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise InputError(f"{table}, line {reader.line_num}: {error}; expected {_EXPECTED}") from None
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield reader.line_num, row

    lines = rows()
    header = [name.strip() for name in next(lines, (1, []))[1]]

    def checked() -> Iterator[tuple[int, list[str]]]:
        for number, row in lines:
            if len(row) != len(header):
                raise InputError(f"{table}, line {number}: {len(row)} cells; the header has {len(header)}")
            yield number, row

    return header, checked()


def _path_column(header: list[str], table: Path) -> int:
    found = [column for column, name in enumerate(header) if name in PATH_COLUMNS]
    shown = ", ".join(header[:8])
    if len(found) != 1:
        raise InputError(
            f"{table}: {len(found)} columns for the picture among {shown or 'no columns'}; "
            f"expected one named {', '.join(PATH_COLUMNS)}"
        )
    if "" in header:
        raise InputError(f"{table}: column {header.index('') + 1} has no name; expected a label or nothing there")
    twice = [name for column, name in enumerate(header) if name in header[:column]]
    if twice:
        raise InputError(f"{table}: the column {twice[0]!r} stands twice")
    if len(header) < 2:
        raise InputError(f"{table}: no column beside {shown!r}; expected one a label, or {_LIST!r}")
    return found[0]


def _columns_as_labels(root: Path, columns: list[str], table: Path) -> LabelSpace:
    if not files.is_file(root / "labels.txt"):
        return files.label_space(columns, str(table))
    labels = LabelSpace.from_file(root / "labels.txt")
    missing = [name for name in labels if name not in columns]
    if missing:
        raise InputError(f"{table}: no column for label {missing[0]!r} of labels.txt")
    files.encode(labels, columns, f"{table}, header")
    return labels


def _all_listed(root: Path) -> set[str]:
    """The labels in the lists of every split, so that all splits have the same."""
    found: set[str] = set()
    several = False
    for split in splits(root):
        header, rows = _open(root / f"{split}.csv")
        if _LIST in header:
            for number, row in rows:
                names = _names(row[header.index(_LIST)], f"{root / split}.csv, line {number}")
                several = several or len(names) > 1
                found.update(names)
    comma = min((name for name in found if "," in name), default=None)
    if comma is not None and not several:
        raise InputError(
            f"{root}: label {comma!r}, and no row has two: labels are separated by ; or |, not by commas; where the "
            "comma is part of a name, write the names into labels.txt"
        )
    return found


def _names(cell: str, where: str) -> list[str]:
    """The labels of a cell: a list in JSON, else names between ; or |."""
    if not cell.strip().startswith("["):
        return [name for part in re.split(r"[;|]", cell) if (name := part.strip())]
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InputError(f'{where}: labels {cell[:40]!r}; expected cat;dog, or a JSON list as ["cat", "dog"]')
    return [name.strip() for name in found]


def _values(cells: list[str], names: list[str], where: str) -> np.ndarray:
    """int8 `[C]`: 1, 0, or -1 for ignored."""
    found = [_VALUES.get(cell.strip()) for cell in cells]
    if None in found:
        bad = found.index(None)
        raise InputError(f"{where}: label {names[bad]!r} is {cells[bad][:40]!r}; expected 1, 0, or nothing or -1")
    return np.array(found, dtype=np.int8)
