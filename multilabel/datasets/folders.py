"""One folder per label: root/<split>/<label>/picture.jpg, or in any folder below the label's.

A picture has the label of its folder. A file with the same name and content in several label folders of a split is
one picture with several labels, known by its first path; the same content under another name remains another picture.
Labels are in the order of labels.txt if it exists, otherwise in alphabetical order over all splits. The pictures of a
folder `no_label`, as Datumaro writes it, have no label.

Any tree of pictures looks like this. Without `--format folders`, it is therefore read only if nothing beside the
pictures describes labels and no folder has the name of something else.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import SPLIT_NAMES
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.foreign import conversion
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.pictures import picture_hash
from edgepress.multilabel.plural import plural

LOOKS_FOR = "<split>/<label>/ with pictures"
OPTIONS: frozenset[str] = frozenset()

_NO_LABEL = re.compile(
    r"(images?|imgs?|labels?|masks?|annotations?|default|jpegimages|pictures|photos|segmentations?|data|unlabell?ed"
    r"|(train|val|test).*)",
    re.IGNORECASE,
)
"""Names of folders that are not labels."""
_WITHOUT = "no_label"
_JOINS = (r"[+&,;|]", r"[\s_-]and[\s_-]", r"_", r"-", r"\s+")
"""What may join the names of labels in that of a folder."""
_NO_PICTURES = re.compile(r"(labels?|masks?|annotations?|segmentations?|ground[ _-]?truths?|gt)", re.IGNORECASE)
"""Names of folders whose pictures are no pictures of labels."""
_MASK = re.compile(r"(?P<of>.+)[ _-](mask|seg|segmentation|gt)([ _-]?\d+)?", re.IGNORECASE)
"""The stem of a picture that shows where something is in another."""
_SPEAKS = re.compile(
    r"metadata\..*|.*annotations?[^/]*|.*\.(json|jsonl|ya?ml|xml|csv|tsv|parquet|coco|npz|mat)", re.IGNORECASE
)
"""Names of files that describe labels."""


class DoubtfulError(InputError):
    """A tree of folders that is not believed to be a folder a label. Exit code 2."""


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return any(_has_label(root / name) for name in files.folders_of(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The folders that hold a label folder with a picture.

    Raises:
        InputError: something speaks against this layout, and the format was not requested.
    """
    found = [name for name in files.folders_of(root) if _has_label(root / name)]
    if options.format != "folders" and (why := doubt(root, found)) is not None:
        if (other := conversion(root)) is not None:
            raise DoubtfulError(f"{root}: {other}")
        raise DoubtfulError(f"{root}: not read as a folder a label, because {why}; --format folders insists")
    return found


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, ordered by label and file name.

    Raises:
        InputError: as for `load_dataset`; also a label folder that is not in labels.txt, one whose name joins those of
            others, or a picture that cannot be read and whose name is in several label folders.
    """
    folder = root / files.plain(split, f"split {split!r}")
    known = splits(root, options)
    if split not in known:
        if split in files.folders_of(root):
            raise files.empty_split(folder, split)
        raise files.unknown_split(root, split, "folder of that name", known)
    named = (label for name in known for label in files.folders_of(root / name))
    labels = files.labels_or(root, (label for label in named if label != _WITHOUT))
    _refuse_joined(root, labels)
    found: list[tuple[str, Path]] = []
    for label in files.folders_of(folder):
        files.inside(label, f"{folder}, label folder")
        if label not in labels and label != _WITHOUT:
            raise InputError(f"{folder}: label {label!r} is not in labels.txt; add it there or rename the folder")
        for path in files.below(folder / label, files.PICTURE_SUFFIXES):
            if "\\" in path.name or not path.name.isascii():  # nothing else in a listing leads out of it
                files.inside(path.name, f"{path.parent}")
            _refuse_nested(path, folder / label, labels)
            found.append((label, path))
    rows: dict[tuple[str, str], int] = {}
    copies: list[Path] = []
    paths: list[Path] = []
    cells: list[tuple[int, int]] = []
    for (label, path), content in zip(found, _contents([path for _, path in found]), strict=True):
        # If no other file has its name and size, no other file is the same picture, so its content is not read.
        row = rows.setdefault((path.name, content), len(paths)) if content else len(paths)
        if row == len(paths):
            paths.append(path)
        else:
            copies.append(path)
        if label in labels:
            cells.append((row, labels.index(label)))
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    if cells:
        targets[tuple(np.array(cells).T)] = 1
    without = sum(label == _WITHOUT for label, _ in found) if _WITHOUT not in labels else 0
    read = (f"picture in {_WITHOUT}/ is read as one", f"pictures in {_WITHOUT}/ are read as pictures")
    notes: tuple[str, ...] = (f"{plural(without, *read)} without a label",) if without else ()
    if alike := [label for label in labels if label.lower() in SPLIT_NAMES]:
        notes += (
            f"{shown(alike)} {'is a label' if len(alike) == 1 else 'are labels'} here, although splits are named so",
        )
    inner = {path.parent.relative_to(folder).as_posix(): None for label, path in found if path.parent != folder / label}
    if inner:
        notes += (
            f"folders within a label's folder say nothing more: their pictures have that label: {shown(inner, 5)}",
        )
    ignore = np.zeros(targets.shape, dtype=bool)
    return Contents(labels=labels, paths=paths, targets=targets, ignore=ignore, notes=notes, copies=tuple(copies))


def _refuse_nested(path: Path, folder: Path, labels: LabelSpace) -> None:
    """Raise an error if a picture lies in the folder of one label and below it in one that is named as another."""
    if len(path.parts) == len(folder.parts) + 1:
        return
    inner = next((part for part in path.relative_to(folder).parts[:-1] if part in labels and part != folder.name), None)
    if inner is not None:
        raise InputError(
            f"{path}: is below the label {folder.name!r} and the folder {inner!r}, which is a label as well; expected "
            "the picture in the folder of each label that it has, directly below the split"
        )


def _refuse_joined(root: Path, labels: LabelSpace) -> None:
    """Raise an error if the name of a folder joins those of others, so that its pictures may have several labels."""
    if files.is_file(root / "labels.txt"):
        return
    for name in labels:
        for mark in _JOINS:
            parts = [part.strip() for part in re.split(mark, name)]
            if len(parts) > 1 and all(part in labels for part in parts):
                raise InputError(
                    f"{root}: the folder {name!r} joins {', '.join(map(repr, parts))}, which are folders as well; "
                    "expected each picture in the folder of every label that it has, or labels.txt with all of these "
                    f"names, where {name!r} is a label of its own"
                )


def doubt(root: Path, splits: list[str]) -> str | None:
    """What speaks against one folder per label; None if nothing does."""
    if splits and not any(re.sub(r"[\d_-]+$", "", name.lower()) in SPLIT_NAMES for name in splits):
        return f"none of the folders {_some(splits)} is named as a split (train, val, test): expected <split>/<label>/"
    if (other := next((name for name in splits if _NO_PICTURES.fullmatch(name)), None)) is not None:
        return f"{other} is named as no split is"
    for split in splits:
        for label in files.folders_of(root / split):
            if _NO_LABEL.fullmatch(label):
                return f"{split}/{label} is named as no label is"
    for below, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(below).relative_to(root)
        if len(inside.parts) >= 2 and (other := next((name for name in folders if _NO_PICTURES.fullmatch(name)), None)):
            return f"{inside / other} is named as pictures are not that show the label"
        if (mask := _mask_in(names)) is not None:
            return f"{inside / mask} is named as a mask of the picture beside it"
        speaking = _speaking(Path(below), names, at_root=below == str(root))
        if speaking is not None:
            beside = speaking.endswith(".txt") and any(
                name.startswith(speaking[: -len("txt")]) and name.lower().endswith(files.PICTURE_SUFFIXES)
                for name in names
            )
            told = " (--format tags reads tags with commas between them, or one a line)" if beside else ""
            return f"{inside / speaking} speaks of labels, and this layout would not read it{told}"
    return None


def _mask_in(names: list[str]) -> str | None:
    """The first file that is named as a mask of another."""
    stems = {os.path.splitext(name)[0] for name in names if name.lower().endswith(files.PICTURE_SUFFIXES)}
    found = ((name, _MASK.fullmatch(os.path.splitext(name)[0])) for name in sorted(names) if name[0] != ".")
    return next((name for name, parts in found if parts and parts["of"] in stems), None)


def _speaking(folder: Path, names: list[str], *, at_root: bool) -> str | None:
    """The first file in a folder that describes labels."""
    stems = {os.path.splitext(name)[0] for name in names if name.lower().endswith(files.PICTURE_SUFFIXES)}
    for name in sorted(names):
        if name.startswith(".") or (at_root and name == "labels.txt"):
            continue
        if name.lower().endswith(files.PICTURE_SUFFIXES):
            continue
        if _SPEAKS.fullmatch(name):
            return name
        if name.lower().endswith(".txt"):
            likely = name[: -len(".txt")] in stems or folder.name.lower() == "labels"
            if likely or files.mentions_any(folder / name, files.PICTURE_SUFFIXES):
                return name
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _contents(found: list[Path]) -> list[str | None]:
    """The hash of every picture with the name and size of another; None for all others."""
    names = Counter(path.name for path in found)
    sizes = [_size(path) if names[path.name] > 1 else -1 for path in found]
    alike = Counter((path.name, size) for path, size in zip(found, sizes, strict=True))
    return [
        picture_hash(path) if size >= 0 and alike[path.name, size] > 1 else None
        for path, size in zip(found, sizes, strict=True)
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a picture file") from None


def _has_label(split: Path) -> bool:
    return any(files.below(split / label, files.PICTURE_SUFFIXES) for label in files.folders_of(split))
