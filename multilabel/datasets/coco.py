"""MS-COCO's instances JSON.

root/annotations/instances_<split>.json   images, annotations, categories
root/<split>/, root/images/<split>/ or root/images/   the pictures, by file_name

A label is present where the picture has an annotation of it, a crowd's too; pictures without any are kept. Labels are
in the order of their category ids, pictures in the order of the file. `train` stands for train2014, `val` for val2017
and so on where one file fits.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

LOOKS_FOR = "annotations/instances_<split>.json (MS-COCO)"

_PREFIX, _SUFFIX = "instances_", ".json"


def recognise(root: Path) -> bool:
    """Does the folder look like this layout?"""
    return bool(splits(root))


def splits(root: Path) -> list[str]:
    """The names after `instances_` in annotations/."""
    names = files.files_of(root / "annotations")
    return [name[len(_PREFIX) : -len(_SUFFIX)] for name in names if re.fullmatch(r"instances_.+\.json", name)]


def read(root: Path, split: str) -> tuple[LabelSpace, list[Path], np.ndarray, np.ndarray]:
    """Labels, paths `[N]`, targets uint8 `[N, C]` and ignore mask bool `[N, C]` (all false) of one split.

    Raises:
        InputError: as `load_dataset`; a short name that fits several files; an annotation of a picture or category
            that is not there.
    """
    name = _full_name(root, split)
    path = root / "annotations" / f"{_PREFIX}{name}{_SUFFIX}"
    images, annotations, categories = _parse(path)
    if not images:
        raise files.empty_split(path, split)
    ordered = sorted(categories, key=lambda category: category["id"])
    labels = files.label_space((category["name"] for category in ordered), str(path))
    columns = {category["id"]: column for column, category in enumerate(ordered)}
    if len(columns) != len(ordered):
        raise InputError(f"{path}: a category id stands twice among {[category['id'] for category in ordered][:100]}")
    pictures = files.Pictures(root / name, root / "images" / name, root / "images")
    paths: list[Path] = []
    rows: dict[Any, int] = {}
    seen: dict[str, int] = {}
    for number, image in enumerate(images):
        where = f"{path}, images[{number}]"
        inside = files.inside(image["file_name"], where)
        if seen.setdefault(str(inside), number) != number:
            raise InputError(f"{where}: {str(inside)!r} stands twice (first at images[{seen[str(inside)]}])")
        if rows.setdefault(image["id"], number) != number:
            raise InputError(f"{where}: id {image['id']!r} stands twice (first at images[{rows[image['id']]}])")
        paths.append(pictures.find(inside, where))
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    for number, annotation in enumerate(annotations):
        row, column = rows.get(annotation["image_id"]), columns.get(annotation["category_id"])
        if row is None:
            raise InputError(f"{path}, annotations[{number}]: no picture has the id {annotation['image_id']!r}")
        if column is None:
            raise InputError(f"{path}, annotations[{number}]: no category has the id {annotation['category_id']!r}")
        targets[row, column] = 1
    return labels, paths, targets, np.zeros(targets.shape, dtype=bool)


def _full_name(root: Path, split: str) -> str:
    files.plain(split, f"split {split!r}")
    known = splits(root)
    if split in known:
        return split
    fitting = [name for name in known if re.fullmatch(re.escape(split) + r"\d+", name)]
    if len(fitting) > 1:
        raise InputError(f"{root}: split {split!r} may be {' or '.join(fitting)}; name one of them")
    if not fitting:
        raise files.unknown_split(root, split, f"annotations/{_PREFIX}{split}{_SUFFIX}", known)
    return fitting[0]


def _parse(path: Path) -> tuple[list[dict], list[dict], list[dict]]:
    expected = "MS-COCO's images, annotations and categories in JSON"
    data = files.read_bytes(path, expected)
    try:
        content = json.loads(data, object_hook=_without_outlines)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected {expected}") from None
    del data
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no object; expected {expected}")
    return (
        _items(content, path, "images", id=(int, str), file_name=(str,)),
        _items(content, path, "annotations", image_id=(int, str), category_id=(int,)),
        _items(content, path, "categories", id=(int,), name=(str,)),
    )


def _without_outlines(item: dict) -> dict:
    """Outlines are most of the file and none of the labels: dropped while reading, they take no memory."""
    item.pop("segmentation", None)
    return item


def _items(content: dict, path: Path, key: str, **fields: tuple[type, ...]) -> list[dict]:
    items = content.get(key)
    if not isinstance(items, list):
        raise InputError(f"{path}: {key} is missing or no list")
    for number, item in enumerate(items):
        for field, types in fields.items():
            value = item.get(field) if isinstance(item, dict) else None
            if not isinstance(value, types) or isinstance(value, bool):
                kinds = " or ".join("text" if kind is str else "a whole number" for kind in types)
                raise InputError(f"{path}, {key}[{number}]: {field} is {str(value)[:80]!r}; expected {kinds}")
    return items
