"""Pictures that nobody labelled: a folder, with all folders in it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import UNLABELLED, MultiLabelDataset, files
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace


def load_unlabelled(path: str | Path, labels: LabelSpace) -> MultiLabelDataset:
    """Read every picture below a folder, in the order of names, with no target and every cell ignored.

    Args:
        labels: the labels of the data set with which the pictures will be mixed.

    Raises:
        InputError: there is no such folder, or it holds no picture.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with pictures that nobody labelled")
    paths = sorted(
        Path(folder, name)
        for folder, _, _ in os.walk(root)  # links to folders are not followed, so there are no cycles
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
