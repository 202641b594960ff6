"""MS-COCO's JSON, and formats written like it: Roboflow, Label Studio, Datumaro, CVAT, LVIS.

root/annotations/instances_<split>.json   images, annotations, categories
root/annotations/labels_<split>.json      the same, with labels of whole pictures (Datumaro); or any other name
root/annotations/panoptic_<split>.json    read where there is no instances_: the labels of its segments; it goes before
                                          person_keypoints_ and stuff_ of the same split
root/<split>/_annotations.coco.json       Roboflow
root/result.json                          Label Studio; the one split is `train`
root/<split>/, root/images/<split>/, root/images/ or root/   the pictures, by file_name; else any folder (`Elsewhere`)

A label is present where the picture has an annotation of it, even of a crowd; pictures without annotations are kept.
Where the file says which labels were searched for (LVIS: neg_category_ids, not_exhaustive_category_ids) or found absent
(a score of 0, which Datumaro writes for the verified negatives of Open Images), all others without an annotation are
ignored. Labels are in the order of their category ids, pictures in the order of the file. Categories with the same name
are one label, and entries with the same file one picture; instances_ and labels_ of one split are united. `train` means
train2014, `val` means val2017 and so on, where only one file fits.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import SPLIT_NAMES
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.denials import denied_in_json
from edgepress.multilabel.datasets.elsewhere import Elsewhere
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.json_text import unique_json
from edgepress.multilabel.plural import plural

LOOKS_FOR = "annotations/instances_<split>.json or another file of images, annotations and categories (MS-COCO)"
OPTIONS: frozenset[str] = frozenset()

_PREFIX, _SUFFIX = "instances_", ".json"
_IMAGE_LEVEL = "labels_"
_PANOPTIC = "panoptic_"
_OUTLINES = ("segmentation",)
"""They are most of a file and hold no labels, so they are dropped while it is read and take no memory."""
_OTHER_PREFIXES = (_PANOPTIC, "person_keypoints_", "stuff_")
"""What MS-COCO's other files of labels begin with before the split; they are read where there is no instances_."""
_ROBOFLOW = "_annotations.coco.json"
_KEYS = ("images", "annotations", "categories")
_NO_SPLIT = frozenset(("result", "result_coco", "coco", "annotations", "labels", "_annotations.coco", "_annotations"))
"""File names that do not name a split."""
_ONE = "train"
_SPLIT_KEYS = ("split", "subset")
_SCORES = ("score", "confidence")
_READ_OR_PLAIN = frozenset((
    "id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "keypoints", "num_keypoints", "caption",
    "segmentation", "attributes", *_SCORES,
))  # fmt: skip
"""Keys of annotations that are read, or that MS-COCO itself has for what is no label."""
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
        InputError: as for `load_dataset`; also a short name that fits several files, an annotation of a picture or
            category that is not there, or a score between 0 and 1.
    """
    found = _files(root)
    name = _full_name(root, split, found)
    sources = [_parse(path) for path in found[name]]
    if not any(source.images for source in sources):
        raise files.empty_split(found[name][0], split)
    names = list(dict.fromkeys(category["name"] for source in sources for category in source.categories))
    labels = files.label_space(names, str(found[name][0]))
    folders = (root / name, root / "images" / name, root / "images", root / "data", found[name][0].parent)
    pictures = Pictures(root, *folders, elsewhere=Elsewhere(root, name))
    paths: dict[Path, int] = {}
    rows = [_rows_of(source, pictures, paths) for source in sources]
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    searched = _Searched(targets)
    for source, places in zip(sources, rows, strict=True):
        columns = {category["id"]: labels.index(category["name"]) for category in source.categories}
        _fill(targets, searched, source, places, columns)
    if (cell := searched.contradicted()) is not None:
        raise InputError(
            f"{' and '.join(str(path) for path in found[name])}: one says that {list(paths)[cell[0]].name} shows "
            f"{labels.names[cell[1]]!r}, the other that it does not; expected one of them"
        )
    notes = list(pictures.notes)
    if others := _not_read(root):
        notes.append(f"files of annotations from which no split is read: {shown(others, 5)}")
    for source, places in zip(sources, rows, strict=True):
        notes += _notes(source, places)
    ignore = searched.unknown()
    if hidden := sum(bool(ignore[cell]) for cell in searched.hidden):
        notes.append(f"{plural(hidden, 'cell has', 'cells have')} annotations with ignore alone, and nobody knows it")
    if searched.said:
        notes.append(
            f"{found[name][0].name}: says which labels were looked for; {int(ignore.sum()):,} cells without an answer "
            "are ignored"
        )
    return Contents(labels=labels, paths=list(paths), targets=targets, ignore=ignore, notes=tuple(notes))


@dataclass(frozen=True)
class _Source:
    """A file of annotations."""

    path: Path
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]
    """In the order of their ids."""


class _Searched:
    """The cells of which a file says that the label is absent, or not looked for."""

    def __init__(self, targets: np.ndarray) -> None:
        self._targets = targets
        self._absent: np.ndarray | None = None
        self.hidden: set[tuple[int, int]] = set()
        """The cells with an annotation that is to be ignored, some of which have others as well."""

    @property
    def said(self) -> bool:
        """Whether a file says so of any cell."""
        return self._absent is not None

    def absent(self, row: int, column: int) -> None:
        if self._absent is None:
            self._absent = np.zeros(self._targets.shape, dtype=bool)
        self._absent[row, column] = True

    def some(self) -> None:
        """Remember that not every label was looked for, though none of this picture was found absent."""
        if self._absent is None:
            self._absent = np.zeros(self._targets.shape, dtype=bool)

    def contradicted(self) -> tuple[int, int] | None:
        """Row and column of the first cell that one file calls absent and another one present."""
        if self._absent is None:
            return None
        rows, columns = np.nonzero(self._absent & (self._targets == 1))
        return (int(rows[0]), int(columns[0])) if len(rows) else None

    def unknown(self) -> np.ndarray:
        """bool `[N, C]` of the cells of which nobody knows."""
        found = np.zeros(self._targets.shape, dtype=bool)
        if self._absent is not None:
            found = (self._targets == 0) & ~self._absent
        for cell in self.hidden:
            found[cell] = self._targets[cell] == 0
        return found


def _fill(
    targets: np.ndarray, searched: _Searched, source: _Source, rows: dict[Any, int], columns: dict[Any, int]
) -> None:
    """Write what one file says into the targets `[N, C]` and into what was searched for."""
    denied: dict[tuple[int, int], int] = {}
    for number, annotation in enumerate(source.annotations):
        row, column = rows.get(annotation["image_id"]), columns.get(annotation["category_id"])
        if row is None:
            raise InputError(f"{source.path}, annotations[{number}]: no picture has the id {annotation['image_id']!r}")
        if column is None:
            raise InputError(
                f"{source.path}, annotations[{number}]: no category has the id {annotation['category_id']!r}"
            )
        score = next((annotation[key] for key in _SCORES if annotation.get(key) is not None), None)
        if score is not None and not files.score_says_yes(score, f"{source.path}, annotations[{number}]"):
            denied[row, column] = number
        elif annotation.get("ignore") in (1, True):
            searched.hidden.add((row, column))
        else:
            targets[row, column] = 1
    for (row, column), number in denied.items():
        if targets[row, column]:
            raise InputError(
                f"{source.path}, annotations[{number}]: has a score of 0, and another annotation of the same picture "
                "and category has none; expected one of them"
            )
        searched.absent(row, column)
    if not any(key in image for image in source.images for key in _LOOKED_FOR):
        return
    searched.some()
    for number, image in enumerate(source.images):
        where = f"{source.path}, images[{number}]"
        for identity in image.get("neg_category_ids") or ():
            column = columns.get(identity) if isinstance(identity, int | str) else None
            if column is None:
                raise InputError(f"{where}: neg_category_ids has {identity!r}; no category has that id")
            if targets[rows[image["id"]], column]:
                raise InputError(f"{where}: category {identity!r} is in neg_category_ids and has an annotation")
            searched.absent(rows[image["id"]], column)


def _notes(source: _Source, rows: dict[Any, int]) -> list[str]:
    """What one file says twice, and what of its annotations is not read."""
    notes = []
    keys: dict[str, None] = {}
    for annotation in source.annotations:
        attributes = annotation.get("attributes")
        if attributes is None and annotation.keys() <= _READ_OR_PLAIN:
            continue  # most files have nothing else, and may have a million annotations
        others = [key for key in annotation if key not in _READ_OR_PLAIN]
        said = {key: annotation[key] for key in others} | (attributes if isinstance(attributes, dict) else {})
        keys.update(
            (key, None) for key, value in said.items() if key not in keys and (value or denied_in_json(key, value))
        )
    if keys:
        notes.append(f"{source.path.name}: keys of annotations that are no labels, and are left out: {shown(keys)}")
    if again := len(rows) - len(set(rows.values())):
        notes.append(f"{source.path.name}: {again} entries name a picture again; the entries of one picture are united")
    names = [category["name"] for category in source.categories]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        notes.append(
            f"{source.path.name}: several categories are called {twice!r}; categories of one name are one label"
        )
    return notes


def _not_read(root: Path) -> list[str]:
    """The files with labels that no split is read from, such as stuff_ beside instances_, in annotations/ or, where the
    splits' files lie there, in the root."""
    used = {path for paths in _files(root).values() for path in paths}
    folders = [root / "annotations", *([root] if root in {path.parent for path in used} else ())]
    others = [folder / name for folder in folders for name in files.named_as(folder, (_SUFFIX,))]
    return [path.name for path in others if path not in used and files.mentions(path, '"category_id"')]


def _files(root: Path) -> dict[str, list[Path]]:
    """The files of every split, by the first naming scheme that is found.

    Raises:
        InputError: two files are for one split.
    """
    folder = root / "annotations"
    names = files.named_as(folder, (_SUFFIX,))
    found: dict[str, list[Path]] = {}
    for prefix in (_PREFIX, _IMAGE_LEVEL):
        for name in names:
            if name.startswith(prefix) and (split := name[len(prefix) : -len(_SUFFIX)]):
                found.setdefault(split, []).append(folder / name)
    if found:
        return found
    found = {name: [root / name / _ROBOFLOW] for name in files.folders_of(root) if (root / name / _ROBOFLOW).is_file()}
    if found:
        return found
    for where in (folder, root):
        stems = [name[: -len(_SUFFIX)] for name in files.named_as(where, (_SUFFIX,))]
        stems = [stem for stem in stems if files.mentions(where / f"{stem}{_SUFFIX}", *(f'"{key}"' for key in _KEYS))]
        if stems:
            return {split: [where / f"{stem}{_SUFFIX}"] for split, stem in _named_splits(stems, where).items()}
    return {}


def _named_splits(stems: list[str], where: Path) -> dict[str, str]:
    """The splits that names of files say, such as val2017 for panoptic_val2017, each with the stem of its file.

    Raises:
        InputError: two files are for one split.
    """
    alike: dict[str, list[str]] = {}
    for stem in stems:
        alike.setdefault(_ONE if stem in _NO_SPLIT else _without_prefix(stem), []).append(stem)
    found: dict[str, str] = {}
    for split, names in alike.items():
        whole = f"{_PANOPTIC}{split}"  # it has the labels of things and of stuff
        if len(names) > 1 and not (whole in names and all(name.startswith(_OTHER_PREFIXES) for name in names)):
            raise InputError(
                f"{where}: both {names[0]}{_SUFFIX} and {names[1]}{_SUFFIX} would be the split {split!r}; expected "
                "one, or files that are named as their splits are, such as train.json and val.json"
            )
        found[split] = whole if whole in names else names[0]
    return found


def _without_prefix(stem: str) -> str:
    prefix = next((prefix for prefix in (_PREFIX, *_OTHER_PREFIXES) if stem.startswith(prefix)), "")
    return stem.removeprefix(prefix) or stem


def _full_name(root: Path, split: str, known: dict[str, list[Path]]) -> str:
    files.plain(split, f"split {split!r}")
    if split in known:
        return split
    fitting = [name for name in sorted(known) if re.fullmatch(re.escape(split) + r"\d+", name)]
    if len(fitting) > 1:
        raise InputError(f"{root}: split {split!r} may be {' or '.join(fitting)}; name one of them")
    if not fitting:
        raise files.unknown_split(root, split, f"annotations/{_PREFIX}{split}{_SUFFIX}", sorted(known))
    return fitting[0]


def _rows_of(source: _Source, pictures: Pictures, paths: dict[Path, int]) -> dict[Any, int]:
    """The row of every id; pictures that are not among `paths` yet are added there, each once."""
    rows: dict[Any, int] = {}
    first: dict[Any, int] = {}
    for number, image in enumerate(source.images):
        where = f"{source.path}, images[{number}]"
        name = image.get("file_name", image.get("coco_url"))
        if not isinstance(name, str):
            raise InputError(f"{where}: file_name is {str(name)[:80]!r}; expected text")
        if first.setdefault(image["id"], number) != number:
            raise InputError(f"{where}: id {image['id']!r} occurs twice (first at images[{first[image['id']]}])")
        rows[image["id"]] = paths.setdefault(pictures.find(name, where), len(paths))
    return rows


def _parse(path: Path) -> _Source:
    expected = "MS-COCO's images, annotations and categories in JSON"
    try:
        content = unique_json(_text(path, expected), drop=_OUTLINES)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected {expected}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no object; expected {expected}")
    categories = _items(content, path, "categories", id=(int, str), name=(str,))
    ordered = sorted(categories, key=lambda category: (isinstance(category["id"], str), category["id"]))
    if len({category["id"] for category in ordered}) != len(ordered):
        raise InputError(f"{path}: a category id occurs twice among {[category['id'] for category in ordered][:100]}")
    images = _items(content, path, "images", id=(int, str))
    said = {str(image[key]) for image in images for key in _SPLIT_KEYS if key in image}
    if len(said) > 1 and {name.lower() for name in said} <= SPLIT_NAMES | {"restval"}:
        raise InputError(
            f"{path}: its images say that they are of the splits {shown(sorted(said))}; expected one file for each, "
            "such as annotations/instances_train.json"
        )
    content["annotations"] = _segments(content.get("annotations"))
    return _Source(
        path, images, _items(content, path, "annotations", image_id=(int, str), category_id=(int, str)), ordered
    )


def _segments(annotations: Any) -> Any:
    """Annotations of which each has one category; a panoptic file has all segments of a picture in one."""
    if not isinstance(annotations, list) or not any(
        isinstance(one, dict) and isinstance(one.get("segments_info"), list) for one in annotations
    ):
        return annotations
    found: list = []
    for one in annotations:
        segments = one.get("segments_info") if isinstance(one, dict) else None
        if not isinstance(segments, list):
            found.append(one)
            continue
        found += [
            {**segment, "image_id": one.get("image_id")} if isinstance(segment, dict) else segment
            for segment in segments
        ]
    return found


def _text(path: Path, expected: str) -> str:
    """A file's text, decoded as json.loads would, which holds the bytes beside it."""
    data = files.read_bytes(path, expected)
    return data.decode(json.detect_encoding(data), "surrogatepass")


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
