"""Open Images' tables of image-level labels, with one row per picture and label.

root/<split>-annotations-human-imagelabels.csv   ImageID,Source,LabelName,Confidence
root/class-descriptions.csv                      LabelName and the name that people read, without a header
root/<split>/, root/images/ or root/             the pictures, <ImageID>.jpg

Confidence 1 is a verified yes, 0 a verified no; a cell that no row mentions is unknown, and ignored. Labels are in the
order of labels.txt if it exists, otherwise in alphabetical order over all splits.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.tables import Table, first_line, open_table
from edgepress.multilabel.datasets.values import CellCount
from edgepress.multilabel.errors import InputError

LOOKS_FOR = "<split>-annotations-human-imagelabels.csv with ImageID, LabelName and Confidence (Open Images)"
OPTIONS: frozenset[str] = frozenset()

_COLUMNS = ("ImageID", "LabelName", "Confidence")
_NAME = re.compile(r"(?:oidv\d+-)?(.+?)-annotations-(?:human|machine)?-?imagelabels(?:-boxable)?", re.IGNORECASE)
_DESCRIPTIONS = re.compile(r".*class-descriptions.*\.csv", re.IGNORECASE)


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_tables(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The part before -annotations- in the tables' names, or the names themselves."""
    return sorted(_tables(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the order in which the table first names the pictures.

    Raises:
        InputError: as for `load_dataset`; also a confidence other than 0 and 1, or rows that contradict each other.
    """
    files.plain(split, f"split {split!r}")
    tables = _tables(root)
    if split not in tables:
        raise files.unknown_split(root, split, f"{split}-annotations-human-imagelabels.csv", sorted(tables))
    path = tables[split]
    names = _descriptions(root)
    labels = files.labels_or(root, () if files.is_file(root / "labels.txt") else _all_labels(tables, names))
    pictures = Pictures(root, root / split, root / "images", root / "images" / split, root / "data")
    paths: list[Path] = []
    rows: dict[str, int] = {}
    known: dict[tuple[int, int], int] = {}
    table, places = _open(path)
    for number, row in table.rows:
        image, code, confidence = (row[place].strip() for place in places)
        where = f"{path}, line {number}"
        if confidence not in ("0", "1", "0.0", "1.0"):
            raise InputError(f"{where}: Confidence is {confidence[:40]!r}; expected 1 (yes) or 0 (verified no)")
        label = names.get(code, code)
        if label not in labels:
            raise InputError(f"{where}: label {label!r} is not in labels.txt; add it there or correct the line")
        if image not in rows:
            rows[image] = len(paths)
            paths.append(pictures.find(image, where))
        value = int(float(confidence))
        if known.setdefault((rows[image], labels.index(label)), value) != value:
            raise InputError(f"{where}: label {label!r} of {image!r} is both 0 and 1; expected one of them")
    if not paths:
        raise files.empty_split(path, split)
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    ignore = np.ones(targets.shape, dtype=bool)
    for (place, column), value in known.items():
        targets[place, column] = value
        ignore[place, column] = False
    yes = int(targets.sum())
    counts = (
        CellCount("Confidence 1", yes, "yes"),
        CellCount("Confidence 0", len(known) - yes, "no"),
        CellCount("no row", targets.size - len(known), "unknown"),
    )
    return Contents(
        labels=labels, paths=paths, targets=targets, ignore=ignore, notes=tuple(pictures.notes), values=counts
    )


def _tables(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in files.named_as(root, (".csv",)):
        if set(_COLUMNS) <= set(first_line(root / name)):
            stem = name[: -len(".csv")]
            matched = _NAME.fullmatch(stem)
            found[matched[1] if matched else stem] = root / name
    return found


def _open(path: Path) -> tuple[Table, list[int]]:
    table = open_table(path)
    return table, [table.column(name, "Open Images' layout") for name in _COLUMNS]


def _descriptions(root: Path) -> dict[str, str]:
    """The name that people read for every LabelName."""
    found: dict[str, str] = {}
    for name in files.named_as(root, (".csv",)):
        if _DESCRIPTIONS.fullmatch(name):
            for number, line in files.numbered_lines(root / name, "a code and a name a line"):
                code, comma, text = line.partition(",")
                if not comma:
                    raise InputError(
                        f"{root / name}, line {number}: {line[:60]!r}; expected a code, a comma and a name"
                    )
                found[code.strip()] = text.strip().strip('"')
    twice = {name for name in found.values() if list(found.values()).count(name) > 1} if len(found) < 2000 else set()
    # Two codes with the same name stay two labels.
    return {code: f"{name} ({code})" if name in twice else name for code, name in found.items()}


def _all_labels(tables: dict[str, Path], names: dict[str, str]) -> set[str]:
    found = set()
    for path in tables.values():
        table, (_, place, _) = _open(path)
        found |= {names.get(code, code) for code in {row[place].strip() for _, row in table.rows}}
    return found
