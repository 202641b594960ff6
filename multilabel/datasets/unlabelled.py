"""Pictures that nobody labelled: a folder, with whatever folders are in it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import UNLABELLED, MultiLabelDataset, files
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace


def load_unlabelled(path: str | Path, labels: LabelSpace) -> MultiLabelDataset:
    """Every picture below a folder, in the order of its names, with no target and every cell ignored.

    Args:
        labels: those of the data set that the pictures will be mixed with.

    Raises:
        InputError: no such folder, or no picture in it.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with pictures that nobody labelled")
    paths = sorted(
        Path(folder, name)
        for folder, _, _ in os.walk(root)  # links to folders are not followed, so none leads round in a circle
        for name in files.named_as(Path(folder), files.PICTURE_SUFFIXES)
    )
    if not paths:
        raise InputError(f"{root}: no picture in it; expected files that end in {', '.join(files.PICTURE_SUFFIXES)}")
    shape = (len(paths), len(labels))
    return MultiLabelDataset(
        root=root,
        split=UNLABELLED,
        labels=labels,
        paths=list(paths),
        targets=np.zeros(shape, np.uint8),
        ignore=np.ones(shape, bool),
    )
