"""MS-COCO's JSON, and formats written like it: Roboflow, Label Studio, Datumaro, CVAT, LVIS.

root/annotations/instances_<split>.json   images, annotations, categories
root/annotations/labels_<split>.json      the same, with labels of whole pictures (Datumaro); or any other name
root/<split>/_annotations.coco.json       Roboflow
root/result.json                          Label Studio; the one split is `train`
root/<split>/, root/images/<split>/, root/images/ or root/   the pictures, by file_name

A label is present where the picture has an annotation of it, even of a crowd; pictures without annotations are kept.
Where the file says which labels were searched for (LVIS: neg_category_ids, not_exhaustive_category_ids), all others
without an annotation are ignored. Labels are in the order of their category ids, pictures in the order of the file.
Categories with the same name are one label, and entries with the same file one picture. `train` means train2014, `val`
means val2017 and so on, where only one file fits.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.tables import shown
from edgepress.multilabel.errors import InputError

LOOKS_FOR = "annotations/instances_<split>.json or another file of images, annotations and categories (MS-COCO)"
OPTIONS: frozenset[str] = frozenset()

_PREFIX, _SUFFIX = "instances_", ".json"
_IMAGE_LEVEL = "labels_"
_ROBOFLOW = "_annotations.coco.json"
_KEYS = ("images", "annotations", "categories")
_NO_SPLIT = frozenset(("result", "result_coco", "coco", "annotations", "labels", "_annotations.coco", "_annotations"))
"""File names that do not name a split."""
_ONE = "train"
_LOOKED_FOR = ("neg_category_ids", "not_exhaustive_category_ids")


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(_files(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The split names that annotation files give."""
    return sorted(_files(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the order of the file.

    Raises:
        InputError: as for `load_dataset`; also a short name that fits several files, or an annotation of a picture or
            category that is not there.
    """
    found = _files(root)
    name = _full_name(root, split, found)
    path = found[name]
    images, annotations, categories = _parse(path)
    if not images:
        raise files.empty_split(path, split)
    ordered = sorted(categories, key=lambda category: (isinstance(category["id"], str), category["id"]))
    if len({category["id"] for category in ordered}) != len(ordered):
        raise InputError(f"{path}: a category id stands twice among {[category['id'] for category in ordered][:100]}")
    names = list(dict.fromkeys(category["name"] for category in ordered))
    labels = files.label_space(names, str(path))
    columns = {category["id"]: labels.index(category["name"]) for category in ordered}
    pictures = Pictures(root, root / name, root / "images" / name, root / "images", root / "data", path.parent)
    paths, rows, again = _pictures_of(images, pictures, path)
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    for number, annotation in enumerate(annotations):
        row, column = rows.get(annotation["image_id"]), columns.get(annotation["category_id"])
        if row is None:
            raise InputError(f"{path}, annotations[{number}]: no picture has the id {annotation['image_id']!r}")
        if column is None:
            raise InputError(f"{path}, annotations[{number}]: no category has the id {annotation['category_id']!r}")
        targets[row, column] = 1
    ignore, known = _unknown(images, rows, columns, targets, path)
    notes = list(pictures.notes)
    if others := _not_read(root):
        notes.append(f"files of annotations from which no split is read: {shown(others, 5)}")
    if again:
        notes.append(f"{path.name}: {again} entries name a picture again; the entries of one picture are united")
    if len(names) != len(ordered):
        twice = next(name for name in names if sum(category["name"] == name for category in ordered) > 1)
        notes.append(f"{path.name}: several categories are called {twice!r}; categories of one name are one label")
    if known is not None:
        notes.append(f"{path.name}: says which labels were looked for; {known:,} cells without an answer are ignored")
    return Contents(labels=labels, paths=paths, targets=targets, ignore=ignore, notes=tuple(notes))


def _not_read(root: Path) -> list[str]:
    """The files in annotations/ with labels that no split is read from, such as labels_ beside instances_."""
    used = set(_files(root).values())
    folder = root / "annotations"
    others = [name for name in files.named_as(folder, (_SUFFIX,)) if folder / name not in used]
    return [name for name in others if files.mentions(folder / name, '"category_id"')]


def _files(root: Path) -> dict[str, Path]:
    """The file of every split, by the first naming scheme that is found."""
    folder = root / "annotations"
    names = files.named_as(folder, (_SUFFIX,))
    for prefix in (_PREFIX, _IMAGE_LEVEL):
        found = {name[len(prefix) : -len(_SUFFIX)]: folder / name for name in names if name.startswith(prefix)}
        found.pop("", None)
        if found:
            return found
    found = {name: root / name / _ROBOFLOW for name in files.folders_of(root) if (root / name / _ROBOFLOW).is_file()}
    if found:
        return found
    for where in (folder, root):
        for name in files.named_as(where, (_SUFFIX,)):
            stem = name[: -len(_SUFFIX)]
            if files.mentions(where / name, *(f'"{key}"' for key in _KEYS)):
                found[_ONE if stem in _NO_SPLIT else stem.removeprefix(_PREFIX)] = where / name
        if found:
            return found
    return {}


def _full_name(root: Path, split: str, known: dict[str, Path]) -> str:
    files.plain(split, f"split {split!r}")
    if split in known:
        return split
    fitting = [name for name in sorted(known) if re.fullmatch(re.escape(split) + r"\d+", name)]
    if len(fitting) > 1:
        raise InputError(f"{root}: split {split!r} may be {' or '.join(fitting)}; name one of them")
    if not fitting:
        raise files.unknown_split(root, split, f"annotations/{_PREFIX}{split}{_SUFFIX}", sorted(known))
    return fitting[0]


def _pictures_of(images: list[dict], pictures: Pictures, path: Path) -> tuple[list[Path], dict[Any, int], int]:
    """The pictures, each once; the row of every id; and the number of entries that name a picture again."""
    paths: list[Path] = []
    rows: dict[Any, int] = {}
    first: dict[Any, int] = {}
    seen: dict[Path, int] = {}
    for number, image in enumerate(images):
        where = f"{path}, images[{number}]"
        name = image.get("file_name", image.get("coco_url"))
        if not isinstance(name, str):
            raise InputError(f"{where}: file_name is {str(name)[:80]!r}; expected text")
        if first.setdefault(image["id"], number) != number:
            raise InputError(f"{where}: id {image['id']!r} stands twice (first at images[{first[image['id']]}])")
        picture = pictures.find(name, where)
        rows[image["id"]] = seen.setdefault(picture, len(paths))
        if rows[image["id"]] == len(paths):
            paths.append(picture)
    return paths, rows, len(images) - len(paths)


def _unknown(
    images: list[dict], rows: dict[Any, int], columns: dict[Any, int], targets: np.ndarray, path: Path
) -> tuple[np.ndarray, int | None]:
    """bool `[N, C]` of the cells that nobody looked at, and their number if the file says what was searched for."""
    if not any(key in image for image in images for key in _LOOKED_FOR):
        return np.zeros(targets.shape, dtype=bool), None
    absent = np.zeros(targets.shape, dtype=bool)
    for number, image in enumerate(images):
        for identity in image.get("neg_category_ids") or ():
            column = columns.get(identity) if isinstance(identity, int | str) else None
            if column is None:
                raise InputError(
                    f"{path}, images[{number}]: neg_category_ids has {identity!r}; no category has that id"
                )
            if targets[rows[image["id"]], column]:
                raise InputError(
                    f"{path}, images[{number}]: category {identity!r} stands in neg_category_ids and has an annotation"
                )
            absent[rows[image["id"]], column] = True
    ignore = (targets == 0) & ~absent
    return ignore, int(ignore.sum())


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
        _items(content, path, "images", id=(int, str)),
        _items(content, path, "annotations", image_id=(int, str), category_id=(int, str)),
        _items(content, path, "categories", id=(int, str), name=(str,)),
    )


def _without_outlines(item: dict) -> dict:
    """Outlines are most of the file and hold no labels, so they are dropped while reading and take no memory."""
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
