"""MS-COCO's JSON, and formats written like it: Roboflow, Label Studio, Datumaro, CVAT, LVIS.

root/annotations/instances_<split>.json   images, annotations, categories
root/annotations/labels_<split>.json      the same, with labels of whole pictures (Datumaro); or any other name
root/annotations/panoptic_<split>.json    read where there is no instances_: the labels of its segments; it goes before
                                          person_keypoints_ and stuff_ of the same split
root/<split>/_annotations.coco.json       Roboflow
root/result.json                          Label Studio; the one split is `train`
root/<split>/, root/images/<split>/, root/images/ or root/   the pictures, by file_name; else any folder (`Elsewhere`)

A label is present where the picture has an annotation of it, even of a crowd; pictures without annotations are kept.
A picture that its entry calls deleted is left out; of one that it calls not annotated, and that has no annotation,
nobody knows any label (see `coco_images`).
Where the file says which labels were searched for (LVIS: neg_category_ids, not_exhaustive_category_ids) or found absent
(a score of 0, which Datumaro writes for the verified negatives of Open Images), all others without an annotation are
ignored. Labels are in the order of their category ids, pictures in the order of the file. Categories with the same name
are one label, and entries with the same file one picture; instances_ and labels_ of one split are united. `train` means
train2014, `val` means val2017 and so on, where only one file fits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.coco_files import files_of_splits, full_name, not_read
from edgepress.multilabel.datasets.coco_images import (
    LOOKED_FOR,
    not_annotated,
    notes_of_images,
    yes_or_no,
)
from edgepress.multilabel.datasets.coco_source import Source, parse_source
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.denials import denied_in_json
from edgepress.multilabel.datasets.elsewhere import Elsewhere
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.plural import plural

LOOKS_FOR = "annotations/instances_<split>.json or another file of images, annotations and categories (MS-COCO)"
OPTIONS: frozenset[str] = frozenset()

_SCORES = ("score", "confidence")
_READ_OR_PLAIN = frozenset((
    "id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "keypoints", "num_keypoints", "caption",
    "segmentation", "attributes", *_SCORES,
))  # fmt: skip
"""Keys of annotations that are read, or that MS-COCO itself has for what is no label."""


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(files_of_splits(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The split names that annotation files give."""
    return sorted(files_of_splits(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the order of the file.

    Raises:
        InputError: as for `load_dataset`; also a short name that fits several files, an annotation of a picture or
            category that is not there, or a score between 0 and 1.
    """
    found = files_of_splits(root)
    name = full_name(root, split, found)
    sources = [parse_source(path) for path in found[name]]
    if not any(len(source.images) > len(source.deleted) for source in sources):
        raise files.empty_split(found[name][0], split)
    names = list(dict.fromkeys(category["name"] for source in sources for category in source.categories))
    labels = files.label_space(names, str(found[name][0]))
    folders = (root / name, root / "images" / name, root / "images", root / "data", found[name][0].parent)
    pictures = Pictures(root, *folders, elsewhere=Elsewhere(root, name))
    paths: dict[Path, int] = {}
    rows = [_rows_of(source, pictures, paths) for source in sources]
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    searched = _Searched(targets)
    columns = [{one["id"]: labels.index(one["name"]) for one in source.categories} for source in sources]
    for source, places, numbers in zip(sources, rows, columns, strict=True):
        _fill(targets, searched, source, places, numbers)
    if (cell := searched.contradicted()) is not None:
        raise InputError(
            f"{' and '.join(str(path) for path in found[name])}: one says that {list(paths)[cell[0]].name} shows "
            f"{labels.names[cell[1]]!r}, the other that it does not; expected one of them"
        )
    notes = list(pictures.notes)
    if others := not_read(root):
        notes.append(f"files of annotations from which no split is read: {shown(others, 5)}")
    for source, places, numbers in zip(sources, rows, columns, strict=True):
        notes += _notes(source, places)
        notes += notes_of_images(source.path.name, source.images, places, numbers, targets)
    ignore = searched.unknown()
    if hidden := sum(bool(ignore[cell]) for cell in searched.hidden):
        notes.append(f"{plural(hidden, 'cell has', 'cells have')} annotations with ignore alone, and nobody knows it")
    if searched.said:
        notes.append(
            f"{found[name][0].name}: says which labels were looked for; {int(ignore.sum()):,} cells without an answer "
            "are ignored"
        )
    return Contents(labels=labels, paths=list(paths), targets=targets, ignore=ignore, notes=tuple(notes))


class _Searched:
    """The cells of which a file says that the label is absent, or not looked for."""

    def __init__(self, targets: np.ndarray) -> None:
        self._targets = targets
        self._absent: np.ndarray | None = None
        self.hidden: set[tuple[int, int]] = set()
        """The cells with an annotation that is to be ignored, some of which have others as well."""
        self.not_annotated: set[int] = set()
        """The rows of pictures that nobody annotated, as their entries say; some have annotations all the same."""

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
        for row in self.not_annotated:
            if not self._targets[row].any():
                found[row] = True if self._absent is None else ~self._absent[row]
        return found


def _fill(
    targets: np.ndarray, searched: _Searched, source: Source, rows: dict[Any, int], columns: dict[Any, int]
) -> None:
    """Write what one file says into the targets `[N, C]` and into what was searched for."""
    denied: dict[tuple[int, int], int] = {}
    for number, annotation in enumerate(source.annotations):
        row, column = rows.get(annotation["image_id"]), columns.get(annotation["category_id"])
        if row is None:
            if annotation["image_id"] in source.deleted:
                continue
            raise InputError(f"{source.path}, annotations[{number}]: no picture has the id {annotation['image_id']!r}")
        if column is None:
            raise InputError(
                f"{source.path}, annotations[{number}]: no category has the id {annotation['category_id']!r}"
            )
        score = next((annotation[key] for key in _SCORES if annotation.get(key) is not None), None)
        if score is not None and not files.score_says_yes(score, f"{source.path}, annotations[{number}]"):
            denied[row, column] = number
        elif annotation.get("ignore") and _to_ignore(annotation["ignore"], f"{source.path}, annotations[{number}]"):
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
    images = [(number, image) for number, image in enumerate(source.images) if image["id"] in rows]
    searched.not_annotated.update(rows[image["id"]] for _, image in images if not_annotated(image))
    if not any(key in image for image in source.images for key in LOOKED_FOR):
        return
    searched.some()
    for number, image in images:
        where = f"{source.path}, images[{number}]"
        for identity in image.get("neg_category_ids") or ():
            column = columns.get(identity) if isinstance(identity, int | str) else None
            if column is None:
                raise InputError(f"{where}: neg_category_ids has {identity!r}; no category has that id")
            if targets[rows[image["id"]], column]:
                raise InputError(f"{where}: category {identity!r} is in neg_category_ids and has an annotation")
            searched.absent(rows[image["id"]], column)


def _to_ignore(value: Any, where: str) -> bool:
    """Whether an annotation's `ignore` says yes.

    Raises:
        InputError: it says neither yes nor no.
    """
    said = yes_or_no(value)
    if said is None:
        raise InputError(f"{where}: ignore is {str(value)[:40]!r}; expected true or false")
    return said == "yes"


def _notes(source: Source, rows: dict[Any, int]) -> list[str]:
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


def _rows_of(source: Source, pictures: Pictures, paths: dict[Path, int]) -> dict[Any, int]:
    """The row of every id, without those of deleted pictures; pictures that are not among `paths` yet are added there,
    each once."""
    rows: dict[Any, int] = {}
    first: dict[Any, int] = {}
    for number, image in enumerate(source.images):
        where = f"{source.path}, images[{number}]"
        if first.setdefault(image["id"], number) != number:
            raise InputError(f"{where}: id {image['id']!r} occurs twice (first at images[{first[image['id']]}])")
        if image["id"] in source.deleted:
            continue
        name = image.get("file_name", image.get("coco_url"))
        if not isinstance(name, str):
            raise InputError(f"{where}: file_name is {str(name)[:80]!r}; expected text")
        rows[image["id"]] = paths.setdefault(pictures.find(name, where), len(paths))
    return rows
