"""A file of annotations in MS-COCO's JSON, before its pictures are looked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.coco_images import SPLIT_KEYS, is_deleted
from edgepress.multilabel.datasets.columns import SPLIT_NAMES
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.json_text import unique_json

_OUTLINES = ("segmentation",)
"""They are most of a file and hold no labels, so they are dropped while it is read and take no memory."""


@dataclass(frozen=True)
class Source:
    """A file of annotations."""

    path: Path
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]
    """In the order of their ids."""
    deleted: frozenset[Any]
    """The ids of images that a person deleted; neither they nor their annotations are read."""


def parse_source(path: Path) -> Source:
    """Read a file.

    Raises:
        InputError: it is no JSON, lacks one of its three lists, or an entry lacks its ids or its name; a category's id
            occurs twice; or its images say that they are of several splits.
    """
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
    said = {str(image[key]) for image in images for key in SPLIT_KEYS if key in image}
    if len(said) > 1 and {name.lower() for name in said} <= SPLIT_NAMES | {"restval"}:
        raise InputError(
            f"{path}: its images say that they are of the splits {shown(sorted(said))}; expected one file for each, "
            "such as annotations/instances_train.json"
        )
    content["annotations"] = _segments(content.get("annotations"))
    annotations = _items(content, path, "annotations", image_id=(int, str), category_id=(int, str))
    deleted = frozenset(image["id"] for image in images if is_deleted(image))
    return Source(path, images, annotations, ordered, deleted)


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
