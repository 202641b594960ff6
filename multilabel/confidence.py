"""How sure a drop in mAP is: a paired bootstrap over pictures, in numpy alone.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993: the bootstrap of paired data (chapter 9: the pairs are
drawn, not their halves) and the percentile interval (chapter 13).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edgepress.multilabel.cells import column_parts, columns_of
from edgepress.multilabel.metrics import counts_known
from edgepress.multilabel.plural import plural

RESAMPLES = 1000
LEVEL = 0.95
LEAST_PICTURES = 10
"""Fewer pictures get no interval. They have few resamples (n pictures have C(2n-1, n): 1 for one picture, 126 for five,
92378 for ten), so the interval would be far too narrow, and [0, 0] for one picture whatever the engine. This is only a
floor: ten pictures prove little, as the width of their interval shows."""
_CELLS = 1 << 18
"""Number of counts processed at once: some 10 MB."""
_TOGETHER = 16
"""Fewest resamples that are processed at once: a picture's counts are copied together, and of fewer each copy costs as
much."""


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
    if not all(counts_known(one.targets, one.ignore)[0].any() for one in (reference, engine)):
        raise ValueError("mAP is not defined: no label has a positive picture")
    if len(reference.targets) < LEAST_PICTURES:
        return None
    if counts is None:
        counts = resample_counts(len(reference.targets), resamples, seed)
    before, after = (resampled_mean_average_precision(*one, counts) for one in (reference, engine))
    low, high = np.nanquantile(100 * (before - after), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def moved(points: float, digits: int = 2) -> str:
    """A drop in words: one below 0 is a rise.

    Example:
        >>> moved(0.5), moved(-0.5), moved(-0.001)
        ('drops by 0.50 points', 'rises by 0.50 points', 'drops by 0.00 points')
    """
    rises = round(points, digits) < 0
    return f"{'rises' if rises else 'drops'} by {abs(points):.{digits}f} points"


def rounded_up(value: float, digits: int = 3) -> float:
    """So that what is said to be beyond a bound is not rounded down to it."""
    return math.ceil(10**digits * value) / 10**digits


def doubt(
    interval: tuple[float, float] | None,
    allowed: float,
    pictures: int,
    remedy: str = "give more test pictures, or allow a larger drop",
) -> str | None:
    """Why a drop that is allowed is not proven to be: part of a sentence, or None where it is proven.

    Args:
        interval: interval of the drop, as `drop_interval` gives it.
        allowed: the allowed drop in points.
        remedy: what to do, in words.
    """
    if interval is None:
        few = plural(pictures, "test picture proves", "test pictures prove")
        return f"{few} nothing: give at least {LEAST_PICTURES}, better hundreds"
    if interval[1] <= allowed:
        return None
    return (
        f"on {plural(pictures, 'picture')} the true drop may be up to "
        f"{rounded_up(interval[1]):g} (95 %), beyond the allowed {allowed:g}: {remedy}"
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
    for drawn in resampled_average_precision(targets, scores, ignore, counts):
        counted = ~np.isnan(drawn)
        total += np.where(counted, drawn, 0)
        labels += counted
    return np.divide(total, labels, out=np.full_like(total, np.nan), where=labels > 0)


def resampled_average_precision(
    targets: np.ndarray, scores: np.ndarray, ignore: np.ndarray, counts: np.ndarray
) -> Iterator[np.ndarray]:
    """AP of one label after the other in every resample, float64 `[R]`: NaN where it has no positive or no negative.

    Args:
        targets: `[N, C]`, as are `scores` and `ignore`.
        counts: int16 `[N, R]`.
    """
    step = max(_CELLS // max(len(counts), 1), _TOGETHER)
    parts = [slice(start, start + step) for start in range(0, counts.shape[1], step)]
    blocks = [np.ascontiguousarray(counts[:, some]) for some in parts]
    drawn = counts.sum(axis=0, dtype=np.int64)
    for columns in column_parts(targets.shape):  # so that memory does not hold an order per label
        copied = [columns_of(one, columns) for one in (targets, scores, ignore)]
        ranked = [_Ranked.of(*(one[:, column] for one in copied)) for column in range(copied[0].shape[1])]
        found = np.full((len(ranked), counts.shape[1]), np.nan)
        for some, block in zip(parts, blocks, strict=True):  # a block stays in the processor's cache for all of these
            for place, one in enumerate(ranked):
                if one is not None:
                    found[place, some] = one.average_precision(block, drawn[some])
        yield from found


class _Ranked(NamedTuple):
    """One label's known pictures in falling order of their scores, as far as its last positive."""

    order: np.ndarray
    """Rows of the pictures, int64 `[n]`."""
    starts: np.ndarray
    """Where what is between one positive's score and the next begins in `order`; equal scores enter together."""
    positives: np.ndarray
    """Rows of the positives, in this order."""
    firsts: np.ndarray
    """Where the positives of each of these scores begin among them."""
    kept: np.ndarray | None
    """Rows of the known pictures; None where all are."""

    @classmethod
    def of(cls, targets: np.ndarray, scores: np.ndarray, ignore: np.ndarray) -> _Ranked | None:
        """Rank the pictures, `[N]` each; None for a label without a positive, or without a negative."""
        kept = np.flatnonzero(~ignore)
        order = kept[np.argsort(-scores[kept], kind="stable")]
        where = np.flatnonzero(targets[order] == 1)
        if not 0 < len(where) < len(order):
            return None
        ranked = scores[order]
        run = np.cumsum(np.append(0, ranked[1:] != ranked[:-1]))
        wanted, firsts = np.unique(run[where], return_index=True)
        ends = np.searchsorted(run, wanted, side="right")
        return cls(
            order[: ends[-1]].copy(),
            np.append(0, ends[:-1]),
            order[where],
            firsts,
            None if len(kept) == len(ignore) else kept,
        )

    def average_precision(self, counts: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """AP in every resample, `[R]`; NaN where it has no positive or no negative.

        Args:
            counts: `[N, R]`.
            drawn: their sums, `[R]`.
        """
        # AP needs the precision only at positives.
        ranks = np.cumsum(
            np.add.reduceat(np.take(counts, self.order, axis=0), self.starts, axis=0, dtype=np.int32), axis=0
        )
        gained = np.add.reduceat(np.take(counts, self.positives, axis=0), self.firsts, axis=0, dtype=np.int32)
        hits = np.cumsum(gained, axis=0)
        positives = hits[-1]
        ap = (gained * (hits / np.maximum(ranks, 1))).sum(axis=0) / np.maximum(positives, 1)
        known = drawn if self.kept is None else np.take(counts, self.kept, axis=0).sum(axis=0, dtype=np.int64)
        return np.where((positives > 0) & (known > positives), ap, np.nan)
