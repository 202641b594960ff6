"""Folders of labelled pictures, one reader a format, all giving a `MultiLabelDataset`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from multilabel.datasets import imagefolder
from multilabel.errors import InputError
from multilabel.labels import LabelSpace
from multilabel.pictures import check_picture, picture_hash

Format = Literal["auto", "imagefolder"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiLabelDataset:
    """One split of a labelled set of pictures."""

    root: Path
    split: str
    labels: LabelSpace
    paths: list[Path]
    """`[N]` picture files; each is known to exist, none is decoded yet."""
    targets: np.ndarray
    """uint8 `[N, C]`, multi-hot."""
    ignore: np.ndarray
    """bool `[N, C]`, true where nobody knows the answer."""

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: np.ndarray) -> MultiLabelDataset:
        """The pictures at `indices`, in that order."""
        return MultiLabelDataset(
            root=self.root,
            split=self.split,
            labels=self.labels,
            paths=[self.paths[i] for i in indices],
            targets=self.targets[indices],
            ignore=self.ignore[indices],
        )

    def check_pictures(self) -> None:
        """Read every picture once, so that a broken one stops the work before it starts and not in the middle.

        Raises:
            InputError: names the first that is missing, truncated, too large or no picture.
        """
        for path in self.paths:
            check_picture(path)

    def hashes(self) -> list[str]:
        """sha256 of every picture file, in order."""
        return [picture_hash(path) for path in self.paths]

    def fingerprint(self) -> str:
        """sha256 over labels, targets, ignore mask and the content of every picture: changes when any of them does."""
        digest = hashlib.sha256(json.dumps(self.labels.names).encode())
        digest.update("".join(self.hashes()).encode())
        digest.update(self.targets.tobytes())
        digest.update(self.ignore.tobytes())
        return digest.hexdigest()


def load_dataset(path: str | Path, split: str = "test", format: Format = "auto") -> MultiLabelDataset:
    """Read one split of a data set.

    Args:
        path: the data set's root folder.
        split: the name of any of its splits.
        format: how the folder is laid out; `auto` recognises it.

    Raises:
        InputError: no such folder or split, an empty split, a line that cannot be read, an unknown label, a picture
            that is missing or outside the folder; names the file, the line and the label.
    """
    root = Path(path)
    if format not in get_args(Format):
        raise InputError(f"unknown format {format!r}: expected one of {', '.join(get_args(Format))}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a data set with labels.txt and a folder a split")
    if not imagefolder.recognise(root):
        raise InputError(
            f"{root}: not recognised as a data set; expected labels.txt and, in a folder a split, metadata.jsonl"
        )
    labels, paths, targets, ignore = imagefolder.read(root, split)
    return MultiLabelDataset(root=root, split=split, labels=labels, paths=paths, targets=targets, ignore=ignore)
