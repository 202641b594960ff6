"""The imagefolder layout of Hugging Face datasets, with many labels a picture.

root/labels.txt              the label names, one a line, in order
root/<split>/metadata.jsonl  {"file_name": "00000.jpg", "labels": ["food", "dessert"], "ignore": ["fruit"]}
root/<split>/00000.jpg       `ignore` is optional: labels of which nobody knows whether they apply
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.labels import LabelSpace

_KEYS = {"file_name", "labels", "ignore"}
LOOKS_FOR = "labels.txt and, in a folder a split, metadata.jsonl"


def recognise(root: Path) -> bool:
    """Does the folder look like this layout?"""
    return (root / "labels.txt").is_file()


def splits(root: Path) -> list[str]:
    """The names of the folders that hold a metadata.jsonl."""
    return sorted(path.parent.name for path in root.glob("*/metadata.jsonl"))


def read(root: Path, split: str) -> tuple[LabelSpace, list[Path], np.ndarray, np.ndarray]:
    """Labels, paths `[N]`, targets uint8 `[N, C]` and ignore mask bool `[N, C]` of one split, in the file's order.

    Raises:
        InputError: as `load_dataset`.
    """
    labels = LabelSpace.from_file(root / "labels.txt")
    folder = root / files.inside(split, f"split {split!r}")
    listing = folder / "metadata.jsonl"
    if not listing.is_file():
        raise files.unknown_split(root, split, f"{listing.name} in that folder", splits(root))
    paths: list[Path] = []
    targets: list[np.ndarray] = []
    ignore: list[np.ndarray] = []
    once, pictures = files.Once(), files.Pictures(folder)
    for number, line in files.numbered_lines(listing, "one JSON object a line"):
        where = f"{listing}, line {number}"
        row = _parse(line, where)
        inside = files.inside(row["file_name"], where)
        once.add(str(inside), number, where)
        paths.append(pictures.find(inside, where))
        targets.append(files.encode(labels, row["labels"], where))
        ignore.append(files.encode(labels, row.get("ignore", []), where).astype(bool))
        if (targets[-1].astype(bool) & ignore[-1]).any():
            raise InputError(f"{where}: a label stands both in labels and in ignore")
    if not paths:
        raise files.empty_split(listing, split)
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
    for key in row.keys() - _KEYS:  # others may hold anything; a misspelt one would lose what it says
        if difflib.get_close_matches(key.lower(), _KEYS, n=1, cutoff=0.8):
            raise InputError(f"{where}: unknown key {key!r}{did_you_mean(key, _KEYS)}")
    return row
