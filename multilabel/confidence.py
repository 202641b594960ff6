"""How sure a drop in mAP is: a paired bootstrap over pictures, in numpy alone.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993: the bootstrap of paired data (chapter 9: the pairs are
drawn, not their halves) and the percentile interval (chapter 13).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from edgepress.multilabel.plural import plural

RESAMPLES = 1000
LEVEL = 0.95
LEAST_PICTURES = 10
"""Fewer pictures get no interval. They have few resamples (n pictures have C(2n-1, n): 1 for one picture, 126 for five,
92378 for ten), so the interval would be far too narrow, and [0, 0] for one picture whatever the engine. This is only a
floor: ten pictures prove little, as the width of their interval shows."""
_LABELS = 64
"""Number of labels whose orders of pictures are held at once."""
_CELLS = 1 << 18
"""Number of counts processed at once: some 10 MB, whatever the number of pictures."""


class Scored(NamedTuple):
    """Scores `[N, C]` of a split's pictures, finite, and the labels they are judged by."""

    targets: np.ndarray
    scores: np.ndarray
    ignore: np.ndarray


def drop_interval(
    reference: Scored,
    engine: Scored,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    counts: np.ndarray | None = None,
) -> tuple[float, float] | None:
    """The 95 % interval of the drop in mAP, in points (0 to 100), had other pictures of the same kind been taken; None
    of fewer than `LEAST_PICTURES`.

    Pictures are drawn with replacement, as many as there are, the same for the engine and its reference, so difficulty
    that both share cancels. In each resample a label without a positive is left out, as mAP does; a resample without
    any positive is left out whole. The ends are the 2.5 and 97.5 % quantiles of the resampled drops, the percentile
    interval. Over simulated engines with a known drop it held the truth 95 to 98 % of the time, the basic interval 94
    to 98, and BCa, which must estimate a bias and a skewness from few positives, 90 to 94 (`benchmarks/coverage.py`).

    Args:
        counts: what `resample_counts` gave, where it is known already.

    Raises:
        ValueError: no label has a positive.
    """
    if not all(((one.targets == 1) & ~one.ignore).any() for one in (reference, engine)):
        raise ValueError("mAP is not defined: no label has a positive picture")
    if len(reference.targets) < LEAST_PICTURES:
        return None
    if counts is None:
        counts = resample_counts(len(reference.targets), resamples, seed)
    before, after = (resampled_mean_average_precision(*one, counts) for one in (reference, engine))
    low, high = np.nanquantile(100 * (before - after), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def doubt(interval: tuple[float, float] | None, allowed: float, pictures: int) -> str | None:
    """Why a drop that is allowed is not proven to be: part of a sentence, or None where it is proven.

    Args:
        interval: interval of the drop, as `drop_interval` gives it.
        allowed: the allowed drop in points.
    """
    if interval is None:
        few = plural(pictures, "test picture proves", "test pictures prove")
        return f"{few} nothing: give at least {LEAST_PICTURES}, better hundreds"
    if interval[1] <= allowed:
        return None
    return (
        f"on {plural(pictures, 'picture')} the true drop may be up to "
        f"{math.ceil(1000 * interval[1]) / 1000:g} (95 %), beyond the allowed {allowed:g}: "
        "give more test pictures, or allow a larger drop"
    )


def resample_counts(pictures: int, resamples: int, seed: int = 0) -> np.ndarray:
    """How often each picture is in each resample: int16 `[pictures, resamples]`; every column sums to `pictures`."""
    rng = np.random.default_rng(seed)
    counts = np.empty((pictures, resamples), np.int16)
    for column in range(resamples):
        counts[:, column] = np.bincount(rng.integers(0, pictures, pictures), minlength=pictures)
    return counts


def resampled_mean_average_precision(
    targets: np.ndarray, scores: np.ndarray, ignore: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """mAP of every resample, float64 `[R]`: like `mean_average_precision` with each picture repeated `counts` times.

    NaN where no label of a resample has both a positive and a negative.

    Args:
        targets: `[N, C]`, as are `scores` and `ignore`.
        counts: int16 `[N, R]`.
    """
    total, labels = np.zeros(counts.shape[1]), np.zeros(counts.shape[1], np.int64)
    step = max(_CELLS // max(len(counts), 1), 1)
    parts = [slice(start, start + step) for start in range(0, counts.shape[1], step)]
    blocks = [np.ascontiguousarray(counts[:, some]) for some in parts]
    for first in range(0, targets.shape[1], _LABELS):  # so that memory does not hold an order per label
        orders = {}
        for column in range(first, min(first + _LABELS, targets.shape[1])):
            keep = np.flatnonzero(~ignore[:, column])
            orders[column] = keep[np.argsort(-scores[keep, column], kind="stable")]
        for some, block in zip(parts, blocks, strict=True):  # a block stays in the processor's cache for all of these
            for column, order in orders.items():
                positive = targets[order, column] == 1
                if positive.any() and not positive.all():
                    ap, counted = _average_precision(positive, scores[order, column], block[order])
                    total[some] += ap
                    labels[some] += counted
    return np.divide(total, labels, out=np.full_like(total, np.nan), where=labels > 0)


def _average_precision(positive: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One label's AP in every resample, and whether it has a positive and a negative there (0 where not): `[R]` each.

    Args:
        positive: bool `[n]` in falling order of scores `[n]`; at least one is true, and at least one is false.
        counts: `[n, R]`.
    """
    # Equal scores enter together, and AP needs the precision only at positives.
    run = np.cumsum(np.append(0, scores[1:] != scores[:-1]))
    where = np.flatnonzero(positive)
    wanted, first = np.unique(run[where], return_index=True)
    ends = np.searchsorted(run, wanted, side="right")
    starts = np.append(0, ends[:-1])
    ranks = np.cumsum(np.add.reduceat(counts[: ends[-1]], starts, axis=0, dtype=np.int32), axis=0)
    gained = np.add.reduceat(counts[where], first, axis=0, dtype=np.int32)
    hits = np.cumsum(gained, axis=0)
    positives = hits[-1]
    ap = (gained * (hits / np.maximum(ranks, 1))).sum(axis=0) / np.maximum(positives, 1)
    counted = (positives > 0) & (counts.sum(axis=0, dtype=np.int64) > positives)
    return np.where(counted, ap, 0), counted
