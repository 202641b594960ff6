"""Cross-validation: the pictures of a data set's splits, divided anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.inspection import too_poor
from edgepress.run.splits import Splits

LEAST = 3
"""A fold for test, one for val, and at least one to learn from."""


def folds_of(splits: Splits, count: int) -> list[Splits]:
    """As many divisions as there are folds: each fold is test once, the next one is val, and the others are train.

    Pictures are shuffled, always alike; copies of a picture stay together.

    Raises:
        InputError: fewer than three folds, fewer pictures than folds, or a val or test in which no label has both a
            positive and a negative.
    """
    pool = splits.train.followed_by(splits.val).followed_by(splits.test)
    hashes = pool.hashes()
    distinct = sorted(set(hashes))
    if not LEAST <= count <= len(distinct):
        raise InputError(f"folds is {count}; expected {LEAST} to {len(distinct)}, the number of different pictures")
    order = np.random.default_rng(0).permutation(len(distinct))
    fold_of = {distinct[at]: place % count for place, at in enumerate(order)}
    folds = np.array([fold_of[name] for name in hashes])
    made = []
    for number in range(count):
        following = (number + 1) % count
        made.append(
            Splits(
                train=_part(pool, ~np.isin(folds, (number, following)), f"train of fold {number + 1}"),
                val=_part(pool, folds == following, f"val of fold {number + 1}"),
                test=_part(pool, folds == number, f"test of fold {number + 1}"),
            )
        )
        for part in (made[-1].val, made[-1].test):
            if (why := too_poor(part)) is not None:
                raise InputError(f"{why}; give fewer folds")
    return made


def _part(pool: MultiLabelDataset, where: np.ndarray, name: str) -> MultiLabelDataset:
    return replace(pool.subset(np.flatnonzero(where)), split=name)
