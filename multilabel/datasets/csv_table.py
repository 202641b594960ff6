"""One table per split, or one table with a column that names the split, with a header.

root/<split>.csv   path,cat,dog          or   path,labels
                   a.jpg,1,0                  a.jpg,cat;dog
                   b.jpg,,1                   b.jpg,

The picture's column has a usual name (`tables.PICTURE_COLUMNS`), or is the one whose cells are pictures; its names
start at the root, at <split>/, <split>_images/ or images/. Labels are columns (see `values`) or listed in one (see
`label_lists`). Their order is that of labels.txt if it exists, else that of the columns, or, for lists, the alphabet's
over all splits. Columns are separated by , ; | or tabs. Rows that name the same picture are merged. The splits of one
table without a split column may be text files beside it (see `split_lists`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import LIST_COLUMNS, split_column_of, usual_names
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.elsewhere import Elsewhere, split_of
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.split_lists import find_split_lists
from edgepress.multilabel.datasets.table_rows import (
    holds_pictures,
    labels_file,
    listed_names,
    open_with_columns,
    read_table,
)
from edgepress.multilabel.datasets.tables import column_key, first_line, open_table
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import one_form

LOOKS_FOR = "<split>.csv with a column path, file_name, image or the like, and labels"
OPTIONS = frozenset(("values", "picture_column", "label_columns", "split_column", "separator"))

_SUFFIXES = (".csv", ".tsv")
_NO_LABELS = ("sample_submission",)
"""Beginnings of the names of tables whose labels mean nothing."""


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    tables = _tables(root)
    if any(_has_pictures(path, root, options) for path in tables):
        return True
    if tables and options.picture_column is not None:
        open_table(tables[0]).column(options.picture_column, "--picture-column")
    return False


def splits(root: Path, options: DataOptions) -> list[str]:
    """The names of the tables in the root that have a column for the picture, or the names in their split columns."""
    found: dict[str, Path] = {}
    for path in _used(root, options):
        for name in _splits_of(path, root, options):
            if found.setdefault(name, path) != path:
                raise InputError(f"{root}: both {found[name].name} and {path.name} have the split {name!r}; keep one")
    return sorted(found)


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the table's order.

    Raises:
        InputError: as for `load_dataset`; see also `tables`, `values` and `label_lists`.
    """
    files.plain(split, f"split {split!r}")
    path = _table_of(root, split, options)
    pictures = _pictures(root, path.stem, split)
    # Every table holds its whole text while it is open, so the others are opened before it.
    lists, unread = _lists(root, options), _not_read(root, options)
    table, columns = open_with_columns(path, pictures, options, root)
    named = labels_file(root)
    if not columns.listed:
        names = named if named is not None and not options.label_columns else [table.header[c] for c in columns.labels]
        labels = files.label_space(names, str(path))
    elif named is not None:
        labels = files.labels_or(root, ())
    else:
        others = (
            open_with_columns(other, _pictures(root, other.stem), options, root) for other in _used(root, options)
        )
        labels = files.label_space(sorted(set(map(one_form, listed_names(others, options)))), str(root))
    contents = read_table(table, columns, pictures, labels, split, options, among=lists.get(split))
    notes = []
    if unread:
        notes.append(f"tables from which no split is read: {shown(unread, 5)}")
    if not lists and (texts := find_split_lists(root, lambda name: pictures.afresh().found(name) is not None)):
        notes.append(
            f"lists of pictures from which no split is read: {shown([path.name for path in texts.values()], 5)}"
        )
    return replace(contents, notes=(*contents.notes, *notes))


def _tables(root: Path) -> list[Path]:
    names = [name for name in files.files_of(root) if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
    return [root / name for name in names if not _says_no_labels(root / name)]


def _says_no_labels(path: Path) -> bool:
    """Return whether a table is a competition's example, or VIA's table of regions, whose labels are in JSON."""
    return path.name.lower().startswith(_NO_LABELS) or "region_shape_attributes" in first_line(path)


def _used(root: Path, options: DataOptions) -> list[Path]:
    """The tables from which splits are read: they have a column for the picture and one more, and labels."""
    found = [path for path in _tables(root) if _has_pictures(path, root, options) and _width(path) > 1]
    without = _without_labels(found, root, options) if len(found) > 1 else []
    return [path for path in found if path not in without]


def _without_labels(tables: Sequence[Path], root: Path, options: DataOptions) -> list[Path]:
    """The tables that cannot be read and have no column that holds labels in another, as a competition's test set."""
    columns_of_labels, unread = set[str](), list[Path]()
    for path in tables:
        try:
            table, columns = open_with_columns(path, _pictures(root, path.stem), options, root)
        except InputError:
            unread.append(path)
        else:
            columns_of_labels.update(table.header[column] for column in columns.listed or columns.labels)
    return [path for path in unread if columns_of_labels and not _may_have(path, columns_of_labels)]


def _may_have(path: Path, columns_of_labels: set[str]) -> bool:
    try:
        names = open_table(path).names
    except InputError:
        return True  # reading it will report what is wrong
    return not columns_of_labels.isdisjoint(names) or any(column_key(name) in LIST_COLUMNS for name in names)


def _not_read(root: Path, options: DataOptions) -> list[str]:
    """The tables in the root from which no split is read."""
    names = [name for name in files.files_of(root) if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
    used = {path.name for path in _used(root, options)}
    return [name for name in names if name not in used]


def _lists(root: Path, options: DataOptions) -> dict[str, Path]:
    """From each split to its list, where the one table has no split of its own."""
    used = _used(root, options)
    if len(used) != 1 or split_of(used[0].stem) is not None or options.split_column is not None:
        return {}
    pictures = _pictures(root, used[0].stem)
    found = find_split_lists(root, lambda name: pictures.afresh().found(name) is not None)
    if not found:
        return {}
    _, columns = open_with_columns(used[0], pictures, options, root)
    return found if columns.split is None else {}


def _pictures(root: Path, *splits: str) -> Pictures:
    return Pictures(
        root,
        *(root / split for split in splits),
        *(root / f"{split}_images" for split in splits),
        root / "images",
        elsewhere=Elsewhere(root, splits[-1]),
    )


def _width(path: Path) -> int:
    try:
        return len(open_table(path).names)
    except InputError:
        return 2  # reading the table will report what is wrong


def _has_pictures(path: Path, root: Path, options: DataOptions) -> bool:
    """Return whether a table has a column for the picture; one that cannot be read has if its first line says so."""
    try:
        table = open_table(path)
    except InputError:
        return bool(usual_names(first_line(path)))
    if options.picture_column is not None:
        return options.picture_column.lower() in [name.lower() for name in table.names]
    pictures = _pictures(root, path.stem)
    return bool(usual_names(table.names)) or holds_pictures(table, pictures)


def _splits_of(path: Path, root: Path, options: DataOptions) -> list[str]:
    pictures = _pictures(root, path.stem)
    try:
        table, columns = open_with_columns(path, pictures, options, root)
    except InputError:  # reading a split will report what is wrong with its labels, so the splits must be right
        try:
            table = open_table(path)
            columns = split_column_of(table, options, pictures)
        except InputError:
            return [path.stem]
        if columns.split is None:
            return [path.stem]
    if columns.split is None:
        return sorted(_lists(root, options)) or [path.stem]
    names = {columns.split_of(row, f"{path}, line {number}") for number, row in table.rows}
    return files.unlike_splits(names, f"{path}: the column {table.header[columns.split]!r}")


def _table_of(root: Path, split: str, options: DataOptions) -> Path:
    """Return the table that holds a split.

    Raises:
        InputError: no table does; the message lists the splits that exist, or says why the one table, whose name says
            no split, cannot be read.
    """
    own = [root / f"{split}{suffix}" for suffix in _SUFFIXES if files.is_file(root / f"{split}{suffix}")]
    if own and options.split_column is None:
        return own[0]
    known: list[str] = []
    used = _used(root, options)
    for path in used:
        names = _splits_of(path, root, options)
        if split in names:
            return path
        known += names
    if own:
        return own[0]
    if known == [path.stem for path in used] and len(used) == 1 and split_of(used[0].stem) is None:
        open_with_columns(used[0], _pictures(root, used[0].stem), options, root)
    raise files.unknown_split(root, split, f"{split}.csv", sorted(known))
