"""The calibration set: a few hundred training pictures that between them show every label."""

from __future__ import annotations

import hashlib
import logging

import numpy as np

from multilabel.datasets import MultiLabelDataset, refuse_leaks
from multilabel.errors import InputError

log = logging.getLogger("edgepress")


def choose_calibration_set(
    train: MultiLabelDataset, others: list[MultiLabelDataset], count: int, seed: int = 0
) -> np.ndarray:
    """Places in `train`, int64 `[min(count, N)]`, sorted: every label at least once, rare labels first, then at random.

    Args:
        train: the split that pictures are drawn from.
        others: the splits that measure; a training picture whose content is also in one of them is refused.
        count: how many pictures.
        seed: the same seed draws the same pictures.

    Raises:
        InputError: a training picture also stands in another split, or count is too small to show every label.
    """
    if count < 1:
        raise InputError(f"calibration pictures: received {count}; expected at least 1")
    refuse_leaks(train, others)
    rng = np.random.default_rng(seed)
    chosen: set[int] = set()
    order = rng.permutation(len(train))
    positives = train.targets.sum(axis=0, dtype=np.int64)
    missing = [train.labels.names[label] for label in np.flatnonzero(positives == 0)]
    if missing:
        log.warning("no training picture shows %s: the calibration set cannot either", ", ".join(missing))
    covered = positives == 0
    for label in np.argsort(positives, kind="stable"):
        if covered[label]:
            continue
        # Of the pictures with this label, the one that shows most labels still missing.
        having = order[train.targets[order, label] == 1]
        gain = train.targets[having][:, ~covered].sum(axis=1)
        best = int(having[int(gain.argmax())])
        chosen.add(best)
        covered |= train.targets[best].astype(bool)
    if len(chosen) > count:
        raise InputError(f"{count} calibration pictures cannot show every label; at least {len(chosen)} are needed")
    for index in order:
        if len(chosen) >= min(count, len(train)):
            break
        chosen.add(int(index))
    return np.array(sorted(chosen), dtype=np.int64)


def calibration_hash(pictures: MultiLabelDataset) -> str:
    """sha256 over the sorted content hashes of the pictures: the same set gives the same name in any order."""
    return hashlib.sha256("".join(sorted(pictures.hashes())).encode()).hexdigest()
