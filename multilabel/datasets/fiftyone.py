"""FiftyOne's classification exports: root/labels.json and root/data/ (or images/).

{"classes": ["boat", "dock"], "labels": {"p0": ["boat"], "p1": 1}}

The key is the picture's name, with or without a suffix. The value is a label, a list of labels, their numbers in
`classes`, or null (FiftyOneImageClassificationDataset, and its multi-label form). FiftyOne writes null both where
nobody gave labels and where there are none, so nobody knows the labels of such a picture; an empty list says that it
has none. There is one split, `train`, or one per folder with such a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.denials import denied_in_json
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.plural import plural

LOOKS_FOR = "labels.json with classes and labels, and data/ (FiftyOne)"
OPTIONS: frozenset[str] = frozenset()

_FILE, _ONE = "labels.json", "train"
_EXPECTED = 'FiftyOne\'s {"classes": [...], "labels": {...}}'


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_files(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """`train` for a file in the root, otherwise the folders that hold one."""
    return sorted(_files(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the file's order.

    Raises:
        InputError: as for `load_dataset`; also a label that is not in `classes`.
    """
    files.plain(split, f"split {split!r}")
    found = _files(root)
    if split not in found:
        raise files.unknown_split(root, split, f"{split}/{_FILE}", sorted(found))
    path = found[split]
    content = files.read_json(path, _EXPECTED)
    classes, given = content.get("classes"), content.get("labels")
    if not isinstance(given, dict) or not (classes is None or _are_names(classes)):
        raise InputError(f"{path}: no object of labels, or classes that are no names; expected {_EXPECTED}")
    names = classes or _names_in(given, path)
    labels = LabelSpace.from_file(root / "labels.txt") if classes is None and files.is_file(root / "labels.txt") else (
        files.label_space(names, str(path)))  # fmt: skip
    pictures = Pictures(*(path.parent / name for name in ("data", "images")), path.parent, root)
    paths: list[Path] = []
    targets = np.zeros((len(given), len(labels)), dtype=np.uint8)
    ignore = np.zeros(targets.shape, dtype=bool)
    seen: dict[Path, str] = {}
    for row, (name, value) in enumerate(given.items()):
        where = f"{path}, labels[{name!r}]"
        paths.append(pictures.find(name, where))
        if seen.setdefault(paths[-1], name) != name:
            raise InputError(f"{where}: the same picture as {seen[paths[-1]]!r}; expected each picture once")
        items = _items(value, where)
        if items is None:
            ignore[row] = True
            continue
        _refuse_multi_hot(items, where)
        for item in items:
            if _applies(item, where):
                targets[row, _column(item, labels, where)] = 1
    if not paths:
        raise files.empty_split(path, split)
    notes = list(pictures.notes)
    if others := _others(given, path):
        notes.append(f"{path.name}: keys of labels that are not read: {shown(others, 5)}")
    if unknown := int(ignore.any(axis=1).sum()):
        said = plural(unknown, "picture has", "pictures have")
        notes.append(f"{path.name}: {said} null in place of labels; nobody knows theirs")
    return Contents(labels=labels, paths=paths, targets=targets, ignore=ignore, notes=tuple(notes))


def _files(root: Path) -> dict[str, Path]:
    def fits(path: Path) -> bool:
        if not files.begins_with(path, b"{"):  # a list is something else
            return False
        return files.mentions(path, '"labels"') and not files.mentions(path, '"images"', '"categories"')

    if fits(root / _FILE):
        return {_ONE: root / _FILE}
    return {name: root / name / _FILE for name in files.folders_of(root) if fits(root / name / _FILE)}


def _names_in(given: dict[str, Any], path: Path) -> list[str]:
    """The labels that pictures have, in alphabetical order, for a file without classes."""
    every = (item for name, value in given.items() for item in _items(value, f"{path}, labels[{name!r}]") or ())
    found = (item.get("label") if isinstance(item, dict) else item for item in every)
    return sorted({label for label in found if isinstance(label, str)})


def _others(given: dict[str, Any], path: Path) -> dict[str, None]:
    """The keys that labels have beside their names and their confidences, and the names of their attributes."""
    found: dict[str, None] = {}
    every = (item for name, value in given.items() for item in _items(value, f"{path}, labels[{name!r}]") or ())
    for item in (item for item in every if isinstance(item, dict)):
        attributes = item.get("attributes")
        own = {key: value for key, value in item.items() if key not in ("label", "confidence", "attributes")}
        own |= attributes if isinstance(attributes, dict) else {}
        found.update((key, None) for key, value in own.items() if value or denied_in_json(key, value))
    return found


def _are_names(classes: Any) -> bool:
    return isinstance(classes, list) and all(isinstance(name, str) for name in classes)


def _items(value: Any, where: str) -> list | None:
    """The labels of a picture, in any of the forms in which they are written; None where nobody gave them."""
    if isinstance(value, dict):  # with include_confidence or include_attributes
        if "label" not in value and "labels" not in value:
            raise InputError(f"{where}: an object with {shown(value, 4)}; expected one with label")
        if not isinstance(value.get("label"), str | None):
            value = value["label"]
        elif value.get("label") is not None:
            return [value]
        else:
            value = value.get("labels")
    if value is None:
        return None
    return value if isinstance(value, list) else [value]


def _applies(item: Any, where: str) -> bool:
    """Return whether a label's confidence says that it applies; FiftyOne gives none to what a person labelled."""
    confidence = item.get("confidence") if isinstance(item, dict) else None
    return confidence is None or files.score_says_yes(confidence, f"{where}, confidence")


def _refuse_multi_hot(items: list, where: str) -> None:
    numbers = [item for item in items if isinstance(item, int)]
    if len(set(numbers)) != len(numbers):
        raise InputError(
            f"{where}: {str(items)[:40]} has a number twice; expected the numbers of the labels that the picture has, "
            "and not a 0 or 1 for each label"
        )


def _column(item: Any, labels: LabelSpace, where: str) -> int:
    if isinstance(item, dict):
        item = item.get("label")
    if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(labels):
        return item
    if not isinstance(item, str) or item not in labels:
        raise InputError(
            f"{where}: label {json.dumps(item)[:60]} is not in classes; expected a name or its number there"
        )
    return labels.index(item)
