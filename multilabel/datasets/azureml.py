"""The labels that Azure Machine Learning exports as JSON lines: root/<split>.jsonl, or another name for `train`.

{"image_url": "AmlDatastore://store/folder/a.jpg", "label": ["boat", "dock"], "label_confidence": [1.0, 1.0]}

`label` is a list of names, one name, or boxes with a `label` each. Labels are in alphabetical order over all files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.elsewhere import split_of
from edgepress.multilabel.datasets.named_labels import Item, contents_of, pictures_below
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.plural import plural

LOOKS_FOR = "<split>.jsonl with image_url and label (Azure Machine Learning)"
OPTIONS: frozenset[str] = frozenset()

_KEY, _ONE = "image_url", "train"
_EXPECTED = "lines with image_url and label"


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_files(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The names of the files; `train` for one that is named otherwise than a split."""
    return sorted(_files(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the file's order.

    Raises:
        InputError: as for `load_dataset`; also a label that is no name, or one that a machine guessed.
    """
    files.plain(split, f"split {split!r}")
    found = _files(root)
    if split not in found:
        raise files.unknown_split(root, split, f"{split}.jsonl", sorted(found))
    items = {name: [item for item in _items(path) if item is not None] for name, path in found.items()}
    if not items[split]:
        raise files.empty_split(found[split], split)
    labels = sorted({label for each in items.values() for item in each for label in item.labels})
    without = sum(item is None for item in _items(found[split]))
    said = plural(without, "picture that nobody labelled is", "pictures that nobody labelled are")
    notes = [f"{found[split].name}: {said} left out"] if without else []
    return contents_of(items[split], labels, pictures_below(root, split), found[split], notes)


def _files(root: Path) -> dict[str, Path]:
    fitting = (".jsonl",)
    names = [name for name in files.named_as(root, fitting) if files.mentions(root / name, f'"{_KEY}"', '"label"')]
    stems = {name: name.rpartition(".")[0] for name in names}
    return {_ONE if len(names) == 1 and split_of(stem) is None else stem: root / name for name, stem in stems.items()}


def _items(path: Path) -> Iterator[Item | None]:
    """The picture of every line, or None where nobody gave its labels; an empty list is no label."""
    for where, row in files.json_lines(path, _EXPECTED):
        if not isinstance(row.get(_KEY), str):
            raise InputError(f"{where}: no {_KEY}; expected {_EXPECTED}")
        yield None if row.get("label") is None else Item(row[_KEY], tuple(_names(row, where)), where)


def _names(row: dict[str, Any], where: str) -> Iterator[str]:
    given = row.get("label")
    sure = row.get("label_confidence", 1.0)
    for confidence in sure if isinstance(sure, list) else [sure]:
        if not files.score_says_yes(confidence, where):
            raise InputError(f"{where}: label_confidence is 0; expected 1 for each label")
    for one in given if isinstance(given, list) else [given]:
        name = one.get("label") if isinstance(one, dict) else one
        if not isinstance(name, str):
            raise InputError(f"{where}: label {str(name)[:40]!r} is no name; expected {_EXPECTED}")
        if name:
            yield name
