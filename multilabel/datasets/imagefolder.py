"""The imagefolder layout of Hugging Face datasets, with many labels a picture.

root/labels.txt              the label names, one a line, in order
root/<split>/metadata.jsonl  {"file_name": "00000.jpg", "labels": ["food", "dessert"], "ignore": ["fruit"]}
root/<split>/00000.jpg       `ignore` is optional: labels of which nobody knows whether they apply
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from multilabel.errors import InputError
from multilabel.labels import LabelSpace


def recognise(root: Path) -> bool:
    """Does the folder look like this layout?"""
    return (root / "labels.txt").is_file()


def splits(root: Path) -> list[str]:
    """The names of the folders that hold a metadata.jsonl."""
    return sorted(path.parent.name for path in root.glob("*/metadata.jsonl"))


def read(root: Path, split: str) -> tuple[LabelSpace, list[Path], np.ndarray, np.ndarray]:
    """Labels, paths `[N]`, targets uint8 `[N, C]` and ignore mask bool `[N, C]` of one split.

    Raises:
        InputError: as `load_dataset`.
    """
    labels = LabelSpace.from_file(root / "labels.txt")
    folder = root / _inside(split, f"split {split!r}")
    listing = folder / "metadata.jsonl"
    if not listing.is_file():
        known = ", ".join(splits(root)) or "none"
        raise InputError(f"{root}: no split {split!r} (no {listing.name} in that folder); splits here: {known}")
    paths: list[Path] = []
    targets: list[np.ndarray] = []
    ignore: list[np.ndarray] = []
    seen: dict[str, int] = {}
    try:
        lines = listing.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise InputError(f"{listing}: not UTF-8 text; expected one JSON object a line") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{listing}, line {number}"
        row = _parse(line, where)
        inside = _inside(row["file_name"], where)
        name = str(inside)
        if name in seen:
            raise InputError(f"{where}: {name!r} stands twice (first on line {seen[name]})")
        seen[name] = number
        path = folder / inside
        if not _is_file(path):
            raise InputError(f"{path}: no such file, named by {where}")
        paths.append(path)
        targets.append(_encode(labels, row["labels"], where))
        ignore.append(_encode(labels, row.get("ignore", []), where).astype(bool))
        if (targets[-1].astype(bool) & ignore[-1]).any():
            raise InputError(f"{where}: a label stands both in labels and in ignore")
    if not paths:
        raise InputError(f"{listing}: the split {split!r} is empty; expected at least one picture")
    return labels, paths, np.stack(targets), np.stack(ignore)


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); expected an object with file_name and labels") from None
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or not row["file_name"]:
        raise InputError(f"{where}: expected an object with a file_name and a list of labels")
    for key in ("labels", "ignore"):
        names = row.get(key, [] if key == "ignore" else None)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{where}: {key} of {row['file_name']!r} is {names!r}; expected a list of label names")
    return row


def _inside(name: str, where: str) -> PurePosixPath:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: the path {name!a} is not valid text") from None
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\x00" in name or "\\" in name or not path.parts:
        raise InputError(f"{where}: the path {name!r} leaves the data set's folder; expected one below it")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system takes
        return False


def _encode(labels: LabelSpace, names: list[str], where: str) -> np.ndarray:
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise InputError(f"{where}: label {unknown[0]!r} is not in labels.txt; add it there or correct the line")
    return labels.encode(names)
