"""Pascal VOC's annotations without lists of splits: where they and their pictures lie, and what that says of splits.

Annotations/<id>.xml, JPEGImages/<id>.jpg               one split, `all`, or those of lists (see `voc_split_lists`)
Annotations/<batch>/<id>.xml, JPEGImages/<id>.jpg       the same, where a folder is not named as a split
Annotations/<split>/<id>.xml, images/<split>/<id>.jpg   one split a folder, where each is named as a split
Annotations/<split>/<id>.xml, images/<id>.jpg           the same; a split of several holds annotated pictures alone
<split>/annotations/<id>.xml, <split>/images/<id>.jpg   one split a folder
<split>/<id>.xml, <split>/<id>.jpg                      Roboflow; or both in the root (LabelImg), the split `all`
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import SPLIT_NAMES
from edgepress.multilabel.datasets.voc_annotations import annotations_below
from edgepress.multilabel.datasets.voc_lists import without_suffix

ALL = "all"
PICTURES = ("JPEGImages", "images", "Images")
ANNOTATIONS = ("Annotations", "annotations")
_SPEAKS = (b"<annotation>", b"<annotation ")
_BEGINNING = 4096


@dataclass(frozen=True)
class Place:
    """Where the annotations and the pictures of a split lie."""

    annotations: Path
    pictures: tuple[Path, ...]
    """The folders of the pictures; a picture has the path of its annotation below the first that has it."""
    shared: bool = False
    """Whether the pictures of other splits lie there too, so that a picture without an annotation is of no split."""

    def ids(self) -> tuple[dict[str, Path], int]:
        """From id to annotation, and the number of hidden annotations; see `annotations_below`."""
        return annotations_below(self.annotations)

    def bare(self, annotated: Collection[Path]) -> list[Path]:
        """The pictures without an annotation.

        Args:
            annotated: the pictures that have one. An annotation's id does not say which picture this is, because the
                annotations may lie in a folder that the pictures lack.
        """
        homes = {stem: folder for folder, stem in map(self.inside, annotated)}
        found: list[Path] = []
        for folder in self.pictures:
            for path in files.below(folder, files.PICTURE_SUFFIXES):
                if path not in annotated and homes.setdefault(self.inside(path)[1], folder) == folder:
                    found.append(path)
        return found

    def inside(self, picture: Path) -> tuple[Path, str]:
        """The folder of pictures that a picture lies in, and its path below this folder, without its suffix."""
        parts = picture.parts
        folder = next(one for one in self.pictures if parts[: len(one.parts)] == one.parts)
        return folder, without_suffix("/".join(parts[len(folder.parts) :]))


def annotations_of(year: Path) -> Path:
    """The folder of a year's annotations, whether it is there or not."""
    return next((year / name for name in ANNOTATIONS if (year / name).is_dir()), year / ANNOTATIONS[0])


def pictures_of(year: Path) -> tuple[Path, ...]:
    """The folders of a year's pictures."""
    return tuple(year / name for name in PICTURES if (year / name).is_dir())


def is_split(name: str) -> bool:
    """Return whether a folder is named as a split, such as train2017."""
    return re.sub(r"[\d_-]+$", "", name.lower()) in SPLIT_NAMES


def places_in_year(year: Path) -> dict[str, Place]:
    """The split of every folder in a year's annotations if each is named as a split, otherwise `all`."""
    annotations, pictures = annotations_of(year), pictures_of(year)
    ids, _ = annotations_below(annotations)
    if not ids:
        return {}
    tops = {name.partition("/")[0] if "/" in name else "" for name in ids}
    if not all(is_split(top) for top in tops):
        return {ALL: Place(annotations, pictures)}
    own = {top: tuple(folder / top for folder in pictures if (folder / top).is_dir()) for top in tops}
    return {
        top: Place(annotations / top, folders or pictures, shared=not folders and len(own) > 1)
        for top, folders in own.items()
    }


def places_beside(root: Path) -> dict[str, Place]:
    """The splits of folders in which annotations lie beside their pictures."""
    if _has_both(root):
        return {ALL: Place(root, (root,))}
    return {name: Place(root / name, (root / name,)) for name in files.folders_of(root) if _has_both(root / name)}


def _has_both(folder: Path) -> bool:
    """Return whether a folder has annotations and pictures, and nothing else that says labels."""
    annotated = files.named_as(folder, (".xml",))
    if not annotated or files.named_as(folder, (".json", ".jsonl", ".csv", ".parquet")):
        return False
    return bool(files.named_as(folder, files.PICTURE_SUFFIXES)) and _is_annotation(folder / annotated[0])


def _is_annotation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return False
    return any(word in beginning for word in _SPEAKS)
