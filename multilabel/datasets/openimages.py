"""Open Images' tables of image-level labels, with one row per picture and label.

root/<split>-annotations-human-imagelabels.csv   ImageID,Source,LabelName,Confidence; or in annotations/ (Datumaro)
root/class-descriptions.csv                      LabelName and the name that people read, beside the tables
root/<split>/labels/classifications.csv          FiftyOne's download, with metadata/classes.csv and data/
root/<split>/, root/images/ or root/             the pictures, <ImageID>.jpg

Confidence 1 is a verified yes, 0 a verified no; a cell that no row mentions is unknown, and ignored. Where a split has
several tables, the one of verified labels is read, and the others are named. Labels are in the order of labels.txt if
it exists, otherwise in alphabetical order over all splits.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.no_labels import unlisted
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.tables import LabelTable, first_line, open_table
from edgepress.multilabel.datasets.values import CellCount
from edgepress.multilabel.errors import InputError, shown

LOOKS_FOR = "<split>-annotations-human-imagelabels.csv with ImageID, LabelName and Confidence (Open Images)"
OPTIONS: frozenset[str] = frozenset()

_COLUMNS = ("ImageID", "LabelName", "Confidence")
_NAME = re.compile(
    r"(?:oidv\d+-)?(.+?)-annotations-((?:human|machine)-imagelabels(?:-boxable)?|bbox)(?:\.expanded)?", re.IGNORECASE
)
_KINDS = ("human-imagelabels", "human-imagelabels-boxable", "", "bbox", "machine-imagelabels")
"""Kinds of tables, the one that is read first where a split has several; a table of another name has no kind."""
_DESCRIPTIONS = re.compile(r".*class-descriptions.*\.csv", re.IGNORECASE)
_FIFTYONE = ("labels/classifications.csv", "metadata/classes.csv")


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
    path, *others = tables[split]
    names = _descriptions(root)
    labels = files.labels_or(root, () if files.is_file(root / "labels.txt") else _all_labels(tables, names))
    pictures = Pictures(
        root, root / split, root / "images", root / "images" / split, root / "data", root / split / "data"
    )
    paths: list[Path] = []
    rows: dict[str, int] = {}
    known: dict[tuple[int, int], int] = {}
    codes: set[str] = set()
    table, places = _open(path)
    for number, row in table.rows:
        image, code, confidence = (row[place].strip() for place in places)
        where = f"{path}, line {number}"
        if confidence not in ("0", "1", "0.0", "1.0"):
            raise InputError(
                f"{where}: Confidence is {confidence[:40]!r}; expected 1 (yes) or 0 (verified no): what a machine "
                "guessed is no label, so take the table of human-imagelabels, or write 1 or 0 after a threshold"
            )
        codes.add(code)
        label = names.get(code, code)
        if label not in labels:
            raise unlisted(label, where, labels)
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
    nameless = sorted(codes - set(names)) if names else []
    notes = [f"codes without a name in class-descriptions, read as labels: {shown(nameless, 5)}"] if nameless else []
    notes += [f"{other.name} is not read beside {path.name}" for other in others]
    return Contents(
        labels=labels, paths=paths, targets=targets, ignore=ignore, notes=(*pictures.notes, *notes), values=counts
    )


def _tables(root: Path) -> dict[str, list[Path]]:
    """The tables of every split, first the one that is read."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for folder in (root, root / "annotations"):
        for name in files.named_as(folder, (".csv",)):
            if set(_COLUMNS) <= set(first_line(folder / name)):
                matched = _NAME.fullmatch(name[: -len(".csv")])
                split, kind = (matched[1], matched[2].lower()) if matched else (name[: -len(".csv")], "")
                rank = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
                found.setdefault(split, []).append((rank, folder / name))
        if found:
            return {split: [path for _, path in sorted(paths)] for split, paths in found.items()}
    return {
        name: [root / name / _FIFTYONE[0]]
        for name in files.folders_of(root)
        if set(_COLUMNS) <= set(first_line(root / name / _FIFTYONE[0]))
    }


def _open(path: Path) -> tuple[LabelTable, list[int]]:
    table = open_table(path)
    return table, [table.column(name, "Open Images' layout") for name in _COLUMNS]


def _descriptions(root: Path) -> dict[str, str]:
    """The name that people read for every LabelName."""
    found: dict[str, str] = {}
    beside = [
        folder / name
        for folder in (root, root / "annotations")
        for name in files.named_as(folder, (".csv",))
        if _DESCRIPTIONS.fullmatch(name)
    ]
    inside = (root / name / _FIFTYONE[1] for name in files.folders_of(root))
    for path in [*beside, *(path for path in inside if files.is_file(path))]:
        for number, line in files.numbered_lines(path, "a code and a name a line"):
            try:
                words = next(csv.reader([line], skipinitialspace=True))
            except csv.Error:  # a cell of more than 128 KiB
                words = []
            if len(words) != 2:
                raise InputError(f"{path}, line {number}: {line[:60]!r}; expected a code, a comma and a name")
            found[words[0].strip()] = words[1].strip()
    counts = Counter(found.values())
    # Two codes with the same name stay two labels.
    return {code: f"{name} ({code})" if counts[name] > 1 else name for code, name in found.items()}


def _all_labels(tables: dict[str, list[Path]], names: dict[str, str]) -> set[str]:
    found = set()
    for path, *_ in tables.values():
        table, (_, place, _) = _open(path)
        found |= {names.get(code, code) for code in {row[place].strip() for _, row in table.rows}}
    return found
