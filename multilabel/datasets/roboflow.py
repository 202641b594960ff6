"""Roboflow's export "Multi-Label Classification": root/<split>/_classes.csv, one column per label, and pictures."""

from __future__ import annotations

from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.table_rows import open_with_columns, read_table

LOOKS_FOR = "<split>/_classes.csv (Roboflow)"
OPTIONS = frozenset(("values", "picture_column", "label_columns", "separator"))

_TABLE = "_classes.csv"


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(splits(root, options))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The folders that hold a _classes.csv."""
    return [name for name in files.folders_of(root) if (root / name / _TABLE).is_file()]


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the table's order; it raises the same errors as for any table."""
    files.plain(split, f"split {split!r}")
    if split not in (known := splits(root, options)):
        raise files.unknown_split(root, split, f"{split}/{_TABLE}", known)
    folder = root / split
    pictures = Pictures(folder, root)
    table, columns = open_with_columns(folder / _TABLE, pictures, options, root)
    labels = files.label_space([table.header[column] for column in columns.labels], str(table.path))
    return read_table(table, columns, pictures, labels, None, options)
