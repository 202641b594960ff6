"""The import files of Google's Vertex AI and AutoML Vision: a table without a header, or JSON lines.

root/<any name>.csv     [training,]gs://bucket/folder/a.jpg,daisy,rose
root/<any name>.jsonl   {"imageGcsUri": "gs://...", "classificationAnnotations": [{"displayName": "daisy"}, ...],
                         "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"}}

The use of a picture is its split (`train` for training, `val` for validation, `test`, `unassigned`); where none is
said, the one split is `train`. A row of an object's corners counts as its label. Labels are in alphabetical order.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.named_labels import Item, contents_of, pictures_below
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError

LOOKS_FOR = "a table without a header whose rows name gs://... and labels, or lines with imageGcsUri (Vertex AI)"
OPTIONS: frozenset[str] = frozenset()

_USES = {
    "train": "train", "training": "train", "validate": "val", "validation": "val", "test": "test",
    "unassigned": "unassigned", "": "unassigned",
}  # fmt: skip
_CLOUD = "gs://"
_KEY = "imageGcsUri"
_USE_KEYS = ("aiplatform.googleapis.com/ml_use", "ml_use")
_NUMBER = re.compile(r"\d*\.?\d+")
_CORNERS = 8
_BEGINNING = 4096


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_files(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The uses of the pictures, otherwise `train`."""
    return sorted({use for use, _ in _items(root)})


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the file's order.

    Raises:
        InputError: as for `load_dataset`; also a row without a picture in the cloud, or an unknown use.
    """
    files.plain(split, f"split {split!r}")
    found = list(_items(root))
    own = [item for use, item in found if use == split]
    if not own:
        raise files.unknown_split(root, split, "rows of that use", sorted({use for use, _ in found}))
    labels = sorted({label for _, item in found for label in item.labels})
    return contents_of(own, labels, pictures_below(root, split), _files(root)[0])


def _files(root: Path) -> list[Path]:
    found = [root / name for name in files.named_as(root, (".csv",)) if _begins_with_cloud(root / name)]
    return found + [root / name for name in files.named_as(root, (".jsonl",)) if files.mentions(root / name, _KEY)]


def _begins_with_cloud(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = file.readline(_BEGINNING).decode("utf-8-sig", "replace").split(",")
    except OSError:
        return False
    named = [cell.strip(' "').startswith(_CLOUD) for cell in first[:2]]
    return named[:1] == [True] or (named[1:] == [True] and first[0].strip(' "').lower() in _USES)


def _items(root: Path) -> Iterator[tuple[str, Item]]:
    """The split and the labels of every picture."""
    found = [item for path in _files(root) for item in (_rows(path) if path.suffix == ".csv" else _lines(path))]
    said = any(use != "unassigned" for use, _ in found)
    return ((use if said else "train", item) for use, item in found)


def _rows(path: Path) -> Iterator[tuple[str, Item]]:
    reader = csv.reader(io.StringIO(files.read_text(path, "Vertex AI's table"), newline=""), skipinitialspace=True)
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if any(row):
                yield _row(row, f"{path}, line {reader.line_num}")
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}; expected Vertex AI's table") from None


def _row(row: list[str], where: str) -> tuple[str, Item]:
    use, cells = ("", row) if row[0].startswith(_CLOUD) else (row[0], row[1:])
    if not cells or not cells[0].startswith(_CLOUD):
        raise InputError(f"{where}: {','.join(row)[:80]!r}; expected a picture as {_CLOUD}..., and a use before it")
    labels = cells[1:]
    if len(labels) > _CORNERS and all(not cell or _NUMBER.fullmatch(cell) for cell in labels[1:]):
        labels = labels[:1]  # a box
    return _use(use, where), Item(cells[0], tuple(label for label in labels if label), where)


def _lines(path: Path) -> Iterator[tuple[str, Item]]:
    for where, row in files.json_lines(path, "Vertex AI's JSON lines"):
        if not isinstance(row.get(_KEY), str):
            raise InputError(f"{where}: no {_KEY}; expected Vertex AI's JSON lines")
        said = row.get("dataItemResourceLabels")
        uses = [said[key] for key in _USE_KEYS if key in said] if isinstance(said, dict) else []
        yield _use(str(uses[0]) if uses else "", where), Item(row[_KEY], tuple(_annotations(row, where)), where)


def _annotations(row: dict[str, Any], where: str) -> Iterator[str]:
    given: list = []
    for key in ("classificationAnnotation", "classificationAnnotations", "boundingBoxAnnotations"):
        value = row.get(key) or []
        given += value if isinstance(value, list) else [value]
    for one in given:
        name = one.get("displayName") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise InputError(f"{where}: an annotation without a displayName; expected Vertex AI's JSON lines")
        yield name


def _use(text: str, where: str) -> str:
    use = _USES.get(text.strip().lower())
    if use is None:
        raise InputError(f"{where}: the use {text[:40]!r}; expected training, validation, test or UNASSIGNED")
    return use
