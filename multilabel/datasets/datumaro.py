"""Datumaro's own JSON: root/annotations/<split>.json and root/images/<split>/ (also CVAT's export "Datumaro 1.0").

An item has each label that one of its annotations, of the picture or a part, has. Labels are in the file's order. An
annotation with a score of 0 says that the label is absent (Datumaro writes so the verified negatives of Open Images);
where a file has one, a label is known only where an annotation says it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.denials import denied_in_json
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown

LOOKS_FOR = "annotations/<split>.json with categories and items (Datumaro)"
OPTIONS: frozenset[str] = frozenset()

_SUFFIX = ".json"


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(splits(root, options))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The names of the files in annotations/ that hold items."""
    folder = root / "annotations"
    names = files.named_as(folder, (_SUFFIX,))
    return [
        name[: -len(_SUFFIX)]
        for name in names
        if files.mentions(folder / name, '"items"', '"categories"') and not files.mentions(folder / name, '"images"')
    ]


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the file's order.

    Raises:
        InputError: as for `load_dataset`; also an item without an id, one that occurs twice, or a label without a name.
    """
    files.plain(split, f"split {split!r}")
    if split not in (known := splits(root, options)):
        raise files.unknown_split(root, split, f"annotations/{split}{_SUFFIX}", known)
    path = root / "annotations" / f"{split}{_SUFFIX}"
    content = files.read_json(path, "Datumaro's categories and items in JSON")
    labels = files.label_space(_names(content, path), str(path))
    items = content.get("items")
    if not isinstance(items, list) or not items:
        raise files.empty_split(path, split)
    pictures = Pictures(root / "images" / split, root / "images", root / split, root)
    paths: list[Path] = []
    seen: dict[Path, int] = {}
    targets = np.zeros((len(items), len(labels)), dtype=np.uint8)
    absent = np.zeros(targets.shape, dtype=bool)
    for row, item in enumerate(items):
        where = f"{path}, items[{row}]"
        found = pictures.find(_picture(item, where), where)
        if seen.setdefault(found, row) != row:
            raise InputError(f"{where}: leads to the same picture as items[{seen[found]}]; expected each picture once")
        paths.append(found)
        for annotation in item.get("annotations") or ():
            number = annotation.get("label_id") if isinstance(annotation, dict) else None
            if number is None:  # a caption has no label
                continue
            if not isinstance(number, int) or not 0 <= number < len(labels):
                raise InputError(f"{where}: label_id {number!r}; expected a number from 0 to {len(labels) - 1}")
            attributes = annotation.get("attributes")
            score = attributes.get("score", 1) if isinstance(attributes, dict) else 1
            if files.score_says_yes(score, where):
                targets[row, number] = 1
            else:
                absent[row, number] = True
        if (both := np.flatnonzero(absent[row] & (targets[row] == 1))).size:
            raise InputError(f"{where}: label {labels.names[both[0]]!r} has a score of 0, and is annotated as well")
    ignore = (targets == 0) & ~absent if absent.any() else np.zeros(targets.shape, dtype=bool)
    notes = [*pictures.notes, *_left_out(items, content, path)]
    if absent.any():
        notes.append(
            f"{path.name}: {absent.sum():,} labels have a score of 0, a verified no; {ignore.sum():,} cells without an "
            "annotation are ignored"
        )
    return Contents(labels=labels, paths=paths, targets=targets, ignore=ignore, notes=tuple(notes))


def _left_out(items: list[dict[str, Any]], content: dict[str, Any], path: Path) -> list[str]:
    """Say which attributes of annotations and which parents of labels are not read."""
    found: dict[str, None] = {}
    for annotation in (one for item in items for one in item.get("annotations") or () if isinstance(one, dict)):
        if isinstance(attributes := annotation.get("attributes"), dict):
            found.update(
                (name, None)
                for name, value in attributes.items()
                if name != "score" and name not in found and (value or denied_in_json(name, value))
            )
    notes = (
        [f"{path.name}: attributes of annotations are no labels, and are left out: {shown(found, 5)}"] if found else []
    )
    parents = [
        f"{one['name']} ({one['parent']})" for one in content["categories"]["label"]["labels"] if one.get("parent")
    ]
    if parents:
        notes.append(
            f"{path.name}: labels have parents, which are not read: {shown(parents, 5)}; labels.yaml says which labels "
            "imply others (docs/labels.md)"
        )
    return notes


def _names(content: dict[str, Any], path: Path) -> list[str]:
    found: Any = content
    for key in ("categories", "label", "labels"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in found
    ):
        raise InputError(f"{path}: categories.label.labels is missing or no list of names; expected Datumaro's JSON")
    return [one["name"] for one in found]


def _picture(item: Any, where: str) -> str:
    """The picture's name: its path if the item has one, otherwise its id, to which a suffix is added."""
    if isinstance(item, dict):
        image = item.get("image") or item.get("media")
        named = image.get("path") if isinstance(image, dict) else None
        if isinstance(named, str) and named:
            return named
        if isinstance(item.get("id"), str | int):
            return str(item["id"])
    raise InputError(f"{where}: has neither an image's path nor an id; expected Datumaro's JSON")
