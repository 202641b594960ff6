"""A folder a label: root/<split>/<label>/picture.jpg.

A picture has the label of its folder. The same file name with the same content in several label folders of a split is
one picture with several labels, known by its first path; the same content under another name stays another picture.
Files that are no pictures, and pictures anywhere else, are passed over. Labels are in the order of labels.txt where it
is there, else in the alphabet's over all splits.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.pictures import picture_hash

LOOKS_FOR = "<split>/<label>/ with pictures"


def recognise(root: Path) -> bool:
    """Does the folder look like this layout?"""
    return any(_has_label(root / name) for name in files.folders_of(root))


def splits(root: Path) -> list[str]:
    """The folders that hold a label folder with a picture."""
    return [name for name in files.folders_of(root) if _has_label(root / name)]


def read(root: Path, split: str) -> tuple[LabelSpace, list[Path], np.ndarray, np.ndarray]:
    """Labels, paths `[N]`, targets uint8 `[N, C]` and ignore mask bool `[N, C]` (all false), by label and file name.

    Raises:
        InputError: as `load_dataset`; a label folder that labels.txt lacks; a picture that cannot be read where its
            name stands in several label folders.
    """
    folder = root / files.plain(split, f"split {split!r}")
    known = splits(root)
    if split not in known:
        if split in files.folders_of(root):
            raise files.empty_split(folder, split)
        raise files.unknown_split(root, split, "folder of that name", known)
    labels = files.labels_or(root, (label for name in known for label in files.folders_of(root / name)))
    found: list[tuple[str, str]] = []
    for label in files.folders_of(folder):
        files.inside(label, f"{folder}, label folder")
        if label not in labels:
            raise InputError(f"{folder}: label {label!r} is not in labels.txt; add it there or rename the folder")
        for name in _pictures(folder / label):
            files.inside(name, f"{folder / label}")
            found.append((label, name))
    rows: dict[tuple[str, str | None], int] = {}
    paths: list[Path] = []
    cells: list[tuple[int, int]] = []
    for (label, name), content in zip(found, _contents(folder, found), strict=True):
        path = folder / label / name
        # Without a namesake of the same size no other file is the same picture, and its content is not read.
        row = rows.setdefault((name, content) if content else (f"{label}/{name}", None), len(paths))
        if row == len(paths):
            paths.append(path)
        cells.append((row, labels.index(label)))
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    targets[tuple(np.array(cells).T)] = 1
    return labels, paths, targets, np.zeros(targets.shape, dtype=bool)


def _contents(folder: Path, found: list[tuple[str, str]]) -> list[str | None]:
    """The hash of every picture that has a namesake of its size, None of all others."""
    names = Counter(name for _, name in found)
    sizes = [_size(folder / label / name) if names[name] > 1 else -1 for label, name in found]
    alike = Counter((name, size) for (_, name), size in zip(found, sizes, strict=True))
    return [
        picture_hash(folder / label / name) if size >= 0 and alike[name, size] > 1 else None
        for (label, name), size in zip(found, sizes, strict=True)
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a picture file") from None


def _pictures(folder: Path) -> list[str]:
    return files.named_as(folder, files.PICTURE_SUFFIXES)


def _has_label(split: Path) -> bool:
    return any(_pictures(split / label) for label in files.folders_of(split))
