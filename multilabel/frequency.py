"""Labels by how often they occur: one mean over thousands of labels hides what the rare ones lose."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from edgepress.multilabel.metrics import counts_known

MANY = 60
"""With fewer labels each one's own AP is read instead."""
Part = Literal["head", "middle", "tail"]
PARTS: tuple[Part, ...] = ("head", "middle", "tail")


class Third(NamedTuple):
    """A third of the labels that enter mAP, by the number of pictures that show them."""

    part: Part
    columns: np.ndarray
    """int64 `[K]`."""
    fewest: int
    """Number of pictures of its rarest label."""
    most: int


def thirds(targets: np.ndarray, ignore: np.ndarray, least: int = MANY) -> tuple[Third, ...]:
    """The labels that enter mAP in three parts of equal size, the most frequent first; none of fewer than `least`.

    Of labels with equally many pictures the first come first. Targets and ignore are `[N, C]`.
    """
    positives, negatives = counts_known(targets, ignore)
    columns = np.flatnonzero((positives > 0) & (negatives > 0))
    if len(columns) < least:
        return ()
    positives = positives[columns]
    order = np.argsort(-positives, kind="stable")
    return tuple(
        Third(part, columns[some], int(positives[some].min()), int(positives[some].max()))
        for part, some in zip(PARTS, np.array_split(order, len(PARTS)), strict=True)
    )
