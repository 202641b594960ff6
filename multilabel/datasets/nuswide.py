r"""NUS-WIDE.

root/ConceptsList/Concepts81.txt (or root/Concepts81.txt)  the labels, one per line, in order
root/ImageList/{Train,Test}Imagelist.txt                   pictures, one per line: actor\0001_2124494179.jpg
root/TrainTestLabels/Labels_<concept>_{Train,Test}.txt     0 or 1 for each of those pictures, one per line
root/Flickr/ or root/images/                               the pictures

TrainTestLabels may also be in Groundtruth/, as in the original archive. Pictures without a label are kept.

Lists that others cleaned (SRN, CVPR 2017) are read too, in the root or in clean/:

root/nus_wide_{train,test}_imglist.txt   pictures, one per line; what follows a space is left out
root/nus_wide_{train,test}_label.txt     0 or 1 for each concept, for each of those pictures
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.plural import plural

OPTIONS: frozenset[str] = frozenset()
LOOKS_FOR = (
    "ImageList/TrainImagelist.txt or TestImagelist.txt, and TrainTestLabels; or nus_wide_train_imglist.txt and "
    "nus_wide_train_label.txt (NUS-WIDE)"
)

_SPLITS = {"train": "Train", "test": "Test"}


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    if _cleaned(root):
        return True
    return bool(splits(root, options)) and any(folder.is_dir() for folder in _label_folders(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """`train` and `test`, if they have a list."""
    return sorted(_cleaned(root)) or sorted(split for split, name in _SPLITS.items() if _list(root, name).is_file())


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the list's order.

    Raises:
        InputError: as for `load_dataset`; also a concept's file that is missing, holds anything but 0 and 1, or has
            another number of lines than the list has pictures.
    """
    files.plain(split, f"split {split!r}")
    if split not in (known := splits(root, options)):
        looked_for = f"ImageList/{_SPLITS[split]}Imagelist.txt" if split in _SPLITS else "such list in ImageList"
        raise files.unknown_split(root, split, looked_for, known)
    within = [root / "ConceptsList" / "Concepts81.txt", root / "Concepts81.txt"]
    listed = next((path for path in within if files.is_file(path)), within[0])
    labels = LabelSpace.from_file(listed)
    cleaned = _cleaned(root).get(split)
    listing = cleaned or _list(root, _SPLITS[split])
    if cleaned and files.is_file(original := _list(root, _SPLITS[split])):
        raise InputError(
            f"both {original} and {cleaned} list the split {split!r}; expected one of them: move the other away"
        )
    pictures = Pictures(root / "Flickr", root / "images")
    paths: list[Path] = []
    lines: dict[Path, int] = {}
    for number, line in files.numbered_lines(listing, "one picture a line"):
        where = f"{listing}, line {number}"
        path = pictures.find(line.split()[0] if cleaned else line, where)
        if lines.setdefault(path, number) != number:
            raise InputError(f"{where}: {line!r} occurs twice (first on line {lines[path]})")
        paths.append(path)
    if not paths:
        raise files.empty_split(listing, split)
    notes = tuple(pictures.notes)
    del pictures, lines  # as large as the targets
    if cleaned:
        targets = _rows(cleaned.with_name(f"nus_wide_{split}_label.txt"), len(paths), labels)
    else:
        targets = _columns(root, split, len(paths), labels, listed)
    ignore = np.zeros(targets.shape, dtype=bool)
    return Contents(labels=labels, paths=paths, targets=targets, ignore=ignore, notes=notes)


def _columns(root: Path, split: str, count: int, labels: LabelSpace, listed: Path) -> np.ndarray:
    """uint8 `[N, C]` from a file for each concept."""
    folder = next((folder for folder in _label_folders(root) if folder.is_dir()), _label_folders(root)[0])
    targets = np.empty((count, len(labels)), dtype=np.uint8)
    for column, label in enumerate(labels):
        name = files.plain(f"Labels_{label}_{_SPLITS[split]}.txt", f"{listed}: label {label!r}")
        targets[:, column] = _column(folder / name, count, label)
    return targets


def _cleaned(root: Path) -> dict[str, Path]:
    """The cleaned lists by split, where they lie."""
    found = {}
    for split in _SPLITS:
        name = f"nus_wide_{split}_imglist.txt"
        where = next((folder / name for folder in (root, root / "clean") if files.is_file(folder / name)), None)
        if where is not None:
            found[split] = where
    return found


def _list(root: Path, name: str) -> Path:
    return root / "ImageList" / f"{name}Imagelist.txt"


def _label_folders(root: Path) -> list[Path]:
    return [root / "TrainTestLabels", root / "Groundtruth" / "TrainTestLabels"]


def _column(path: Path, count: int, label: str) -> np.ndarray:
    """uint8 `[N]` for one concept; 81 files of 160,000 lines are 13 million values, so lines are not looped over."""
    data = files.read_bytes(path, f"0 or 1 a line, for label {label!r}")
    words = data.split()
    values = np.frombuffer(b"".join(words), dtype=np.uint8) - ord("0")  # other bytes wrap around to values above 1
    if len(words) != len(values) or (values > 1).any():
        for number, line in enumerate(data.split(b"\n"), start=1):
            if line.strip() not in (b"0", b"1", b""):
                raise InputError(f"{path}, line {number}: {line[:40]!r} for label {label!r}; expected 0 or 1")
    if len(words) != count:
        raise InputError(f"{path}: {len(words)} values for label {label!r}; the list has {count} pictures")
    return values


def _rows(path: Path, count: int, labels: LabelSpace) -> np.ndarray:
    """uint8 `[N, C]` from a file with a line for each picture."""
    data = files.read_bytes(path, "0 or 1 for each concept, a line a picture")
    words = data.split()
    values = np.frombuffer(b"".join(words), dtype=np.uint8) - ord("0")
    lines = [line for line in data.split(b"\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        if len(line.split()) != len(labels) or not set(line.split()) <= {b"0", b"1"}:
            raise InputError(f"{path}, line {number}: {line[:40]!r}; expected {len(labels)} times 0 or 1")
    if len(lines) != count:
        raise InputError(f"{path}: {plural(len(lines), 'line')}; the list has {plural(count, 'picture')}")
    return values.reshape(count, len(labels))
