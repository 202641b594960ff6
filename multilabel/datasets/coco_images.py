"""What the entries of images in MS-COCO's JSON say beside the names of the pictures.

{"id": 7, "file_name": "a.jpg", "annotated": false, "deleted": false, "category_ids": [], "num_annotations": 0}

COCO Annotator writes `annotated`, `deleted` and `category_ids`, other tools write `is_annotated`. A picture that nobody
annotated has no label and lacks none, and one that was deleted is none. No other key holds labels, so the keys that may
list or deny some are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from edgepress.multilabel.datasets.denials import denied_in_json
from edgepress.multilabel.datasets.values import Values
from edgepress.multilabel.errors import shown
from edgepress.multilabel.plural import plural

LOOKED_FOR = ("neg_category_ids", "not_exhaustive_category_ids")
"""LVIS's keys for the categories that were looked for; the reader takes them itself."""
SPLIT_KEYS = ("split", "subset")
_ANNOTATED = ("annotated", "is_annotated")
_DELETED = "deleted"
_LISTED = "category_ids"
_PLAIN = frozenset((
    "id", "file_name", "width", "height", "license", "coco_url", "flickr_url", "date_captured", *LOOKED_FOR,
    *SPLIT_KEYS, "path", "dataset_id", _LISTED, "num_annotations", "annotating", "milliseconds", "events",
    "regenerate_thumbnail", "is_modified", "name", "url", "channels", "date_created", "datetime", "rights_holder",
    "video_id", "frame_id", "frame_num", "seq_id", "seq_num_frames",
))  # fmt: skip
"""Keys that are read, or that MS-COCO, COCO Annotator and makers of films have for what is no label."""
_NESTED = ("metadata", "extra", "attributes")
"""Keys whose objects hold keys of their own: COCO Annotator's, Roboflow's and Datumaro's."""
_VALUES = Values.parse(None)


def yes_or_no(value: object) -> Literal["yes", "no"] | None:
    """What a value says that is true or false, 1 or 0, or a text for one of them; None where it says neither."""
    said = _VALUES.of(str(value))
    return None if said == "unknown" else said


def is_deleted(image: Mapping[str, Any]) -> bool:
    """Whether a person deleted the picture, which some tools keep in their files."""
    return _DELETED in image and yes_or_no(image[_DELETED]) == "yes"


def not_annotated(image: Mapping[str, Any]) -> bool:
    """Whether the entry says that nobody annotated the picture."""
    return any(key in image and yes_or_no(image[key]) == "no" for key in _ANNOTATED)


def notes_of_images(
    name: str,
    images: Iterable[Mapping[str, Any]],
    rows: Mapping[Any, int],
    columns: Mapping[Any, int],
    targets: np.ndarray,
) -> list[str]:
    """Say what the entries of one file hold that is not read, or is read otherwise than it is written.

    Args:
        name: the file's name.
        images: its entries.
        rows: from their ids to rows of the targets; without those of deleted pictures.
        columns: from the ids of categories to columns of the targets.
        targets: uint8 `[N, C]`, with all annotations of the split.
    """
    deleted, bare, stale = 0, set[int](), set[int]()
    unlisted = set[int]()
    for image in images:
        if is_deleted(image):
            deleted += 1
            continue
        row = rows[image["id"]]
        if not_annotated(image):
            (stale if targets[row].any() else bare).add(row)
        listed = image.get(_LISTED)
        places = [columns.get(one) for one in listed if isinstance(one, int | str)] if isinstance(listed, list) else []
        if any(column is None or not targets[row, column] for column in places):
            unlisted.add(row)
    notes = []
    if deleted:
        said = plural(deleted, "picture that was deleted is", "pictures that were deleted are")
        notes.append(f"{name}: {said} left out (deleted: true)")
    if bare:
        said = plural(len(bare), "picture is", "pictures are")
        notes.append(f"{name}: {said} marked as not annotated, and nobody knows the labels there")
    if stale:
        said = plural(len(stale), "picture with annotations is", "pictures with annotations are")
        notes.append(f"{name}: {said} marked as not annotated; the annotations are read")
    if unlisted:
        said = plural(len(unlisted), "picture lists", "pictures list")
        notes.append(f"{name}: {said} {_LISTED} without an annotation of them; annotations alone are read")
    if keys := _left_out(images):
        notes.append(f"{name}: keys of images that are no labels, and are left out: {shown(keys)}")
    return notes


def _left_out(images: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys that are not read; first those that may list or deny labels, because a message names only some."""
    found: dict[str, bool] = {}
    for image in images:
        if image.keys() <= _PLAIN:
            continue  # as in most files
        inner = {key: image[key] for key in _NESTED if isinstance(image.get(key), dict)}
        said = {key: value for key, value in image.items() if key not in inner}
        for each in (said, *inner.values()):
            for key, value in each.items():
                read = key in _PLAIN or (key in (*_ANNOTATED, _DELETED) and yes_or_no(value) is not None)
                if read or found.get(key):
                    continue
                if may_matter := (isinstance(value, list) and bool(value)) or denied_in_json(key, value):
                    found[key] = may_matter
                elif value:
                    found[key] = False
    return sorted(found, key=lambda key: not found[key])
