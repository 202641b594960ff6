"""Multi-label metrics in numpy: AP, mAP, and precision, recall and F1 by label (C*) and overall (O*).

Every function takes targets `[N, C]` in {0, 1}, scores or decisions `[N, C]`, and a boolean ignore mask `[N, C]` whose
true cells count neither as positive nor as negative. One-dimensional input is a single label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepress.multilabel.cells import column_parts, columns_of, row_parts

_FEW = 8
"""Up to so many best labels are found one after the other, which is faster than sorting all."""


def average_precision(targets, scores, ignore=None) -> np.ndarray:
    """Average precision of each label, float64 `[C]`; NaN for a label without a positive and for one without a
    negative, because any scores rank a label perfectly if every known picture has it.

    AP = Σ_k (R_k − R_{k−1}) P_k over the distinct scores in falling order, as in scikit-learn's
    `average_precision_score`: equal scores are taken together, so the order of ties cannot matter.

    Raises:
        ValueError: the shapes differ, a target is neither 0 nor 1, or a score is NaN.
    """
    targets, scores = _two_dimensional(np.asarray(targets)), _two_dimensional(np.asarray(scores))
    if targets.shape != scores.shape:
        _check(targets, scores, ignore)  # raises
    ignore = _ignored(targets.shape, ignore)
    result = np.full(targets.shape[1], np.nan)
    for part in column_parts(targets.shape):  # a few labels at a time, because a copy of all may be gigabytes
        some, ranked, known = _check(*(columns_of(one, part) for one in (targets, scores, ignore)))
        for column in range(some.shape[1]):
            keep = known[:, column]
            if not some[keep, column].all():
                result[part.start + column] = _average_precision(some[keep, column], ranked[keep, column])
    return result


def mean_average_precision(targets, scores, ignore=None) -> float:
    """Mean AP in [0, 1] over the labels that have both a positive and a negative.

    Raises:
        ValueError: as in `average_precision`, or when no label has both.
    """
    per_label = average_precision(targets, scores, ignore)
    if np.isnan(per_label).all():
        raise ValueError("mAP is not defined: no label has both a positive and a negative picture")
    return float(np.nanmean(per_label))


def labels_counted(targets, ignore=None) -> int:
    """Number of labels that have a positive and a negative, and therefore enter mAP."""
    return int(counted_labels(targets, ignore).sum())


def counted_labels(targets, ignore=None) -> np.ndarray:
    """bool `[C]`: the labels that have a positive and a negative, and therefore enter mAP."""
    positives, negatives = counts_known(targets, ignore)
    return (positives > 0) & (negatives > 0)


@dataclass(frozen=True)
class LeftOut:
    """The labels that mAP leaves out, as column numbers."""

    without_positive: tuple[int, ...]
    without_negative: tuple[int, ...]
    """Labels whose known cells are all positive; a label without a known cell is counted among the others."""


def left_out(targets, ignore=None) -> LeftOut:
    """Find the labels that do not enter mAP, and why."""
    positives, negatives = counts_known(targets, ignore)
    none, all_ = positives == 0, (positives > 0) & (negatives == 0)
    return LeftOut(tuple(np.flatnonzero(none).tolist()), tuple(np.flatnonzero(all_).tolist()))


@dataclass(frozen=True, kw_only=True)
class F1Scores:
    """Precision, recall and F1, each in [0, 1]; 0/0 is 0."""

    CP: float
    """Mean of the labels' precisions."""
    CR: float
    CF1: float
    """2·CP·CR / (CP + CR): CF1 as the field defines it, from the two means, not the mean of the labels' F1."""
    OP: float
    """Precision over all (picture, label) decisions."""
    OR: float
    OF1: float


def f1_scores(targets, decisions, ignore=None) -> F1Scores:
    """CP, CR, CF1, OP, OR and OF1 of boolean decisions `[N, C]` (see `decide` and `top_k`).

    Labels without a positive are left out of CP and CR; their false alarms count in OP.
    """
    targets, decisions = _two_dimensional(np.asarray(targets)), _two_dimensional(np.asarray(decisions))
    if targets.shape != decisions.shape:
        _check(targets, decisions, ignore)  # raises
    ignored = _ignored(targets.shape, ignore)
    tallies = F1Tallies(targets.shape[1])
    for part in row_parts(targets, decisions, ignored):
        tallies.add(targets[part], decisions[part], ignored[part])
    return tallies.scores()


class F1Tallies:
    """The counts by label that `f1_scores` follows from, taken some pictures at a time."""

    def __init__(self, labels: int) -> None:
        self._positives, self._predicted, self._hits = np.zeros((3, labels), np.int64)

    def add(self, targets, decisions, ignore=None) -> None:
        """Count some pictures' decisions `[n, C]`; the arguments are those of `f1_scores`."""
        if not np.isin(decisions, (0, 1)).all():
            raise ValueError("decisions hold values other than 0 and 1: call decide or top_k on scores first")
        targets, decisions, valid = _check(targets, decisions, ignore)
        decisions = decisions.astype(bool)
        positive = (targets == 1) & valid
        self._positives += positive.sum(axis=0)
        self._predicted += (decisions & valid).sum(axis=0)
        self._hits += (positive & decisions).sum(axis=0)

    def scores(self) -> F1Scores:
        """What the decisions that were counted reach."""
        counted = self._positives > 0
        precision = _ratio(self._hits, self._predicted)[counted]
        recall = _ratio(self._hits, self._positives)[counted]
        cp = float(precision.mean()) if counted.any() else 0.0
        cr = float(recall.mean()) if counted.any() else 0.0
        op = float(_ratio(self._hits.sum(), self._predicted.sum()))
        or_ = float(_ratio(self._hits.sum(), self._positives.sum()))
        return F1Scores(CP=cp, CR=cr, CF1=_harmonic(cp, cr), OP=op, OR=or_, OF1=_harmonic(op, or_))


def decide(scores, thresholds: float | np.ndarray = 0.5) -> np.ndarray:
    """Scores at or above the threshold: bool, in the shape of scores; one threshold, or one per label `[C]`."""
    return np.asarray(scores) >= np.asarray(thresholds)


def top_k(scores, k: int, ignore=None) -> np.ndarray:
    """The k best labels of each picture: bool `[N, C]`. In a tie, the label that comes first wins.

    Ignored cells do not count among the k.
    """
    scores = _two_dimensional(np.asarray(scores, dtype=np.float64))
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"top-k: received k = {k}; expected 1 to {scores.shape[1]}, the number of labels")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN: the model's output is broken, a ranking is not defined")
    allowed = _valid(scores.shape, ignore)
    result = np.zeros(scores.shape, dtype=bool)
    left = np.where(allowed, scores, -np.inf)
    rows = np.arange(len(scores))
    for _ in range(k if k <= _FEW else 0):
        best = left.argmax(axis=1)  # the first of equal ones
        result[rows, best] = True
        left[rows, best] = -np.inf
    # Ignored cells go last, even after a score of -inf: all labels are sorted where such cells were among the best, and
    # where k is large.
    sort = (result.sum(axis=1) < k) | (result & (~allowed | (scores == -np.inf))).any(axis=1)
    ranked = np.lexsort((-scores[sort], ~allowed[sort]), axis=1)[:, :k]
    sorted_ = np.zeros(ranked.shape[:1] + scores.shape[1:], dtype=bool)
    np.put_along_axis(sorted_, ranked, True, axis=1)
    result[sort] = sorted_
    return result & allowed


def counts_known(targets, ignore=None) -> tuple[np.ndarray, np.ndarray]:
    """Number of pictures that are known to show each label, and of those that are known not to: int64 `[C]` each."""
    targets = _two_dimensional(np.asarray(targets))
    ignore = _ignored(targets.shape, ignore)
    positives, negatives = np.zeros((2, targets.shape[1]), np.int64)
    for part in row_parts(targets, ignore):
        some, _, valid = _check(targets[part], np.zeros(targets[part].shape, bool), ignore[part])
        positives += ((some == 1) & valid).sum(axis=0)
        negatives += ((some == 0) & valid).sum(axis=0)
    return positives, negatives


def prevalence(targets, ignore=None) -> float:
    """Mean share of positives over the counted labels: the mAP that random scores reach."""
    positives, negatives = counts_known(targets, ignore)
    counted = (positives > 0) & (negatives > 0)
    yes, no = positives[counted], negatives[counted]
    return float((yes / (yes + no)).mean()) if counted.any() else 0.0


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−z)) without overflow, in the precision of the input."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


LEAST = np.float32(1e-7)
"""Probabilities nearer to 0 or 1 than this are taken to be as near as this; its logit is -16.1."""


def logit(probabilities: np.ndarray) -> np.ndarray:
    """log p − log (1 − p), float32, of probabilities that are kept `LEAST` away from 0 and 1."""
    p = np.clip(np.asarray(probabilities, np.float32), LEAST, np.float32(1) - LEAST)
    return np.log(p) - np.log(np.float32(1) - p)


def _average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    positives = int(targets.sum())
    if positives == 0:
        return float("nan")
    order = np.argsort(-scores)
    scores, targets = scores[order], targets[order]
    # The last position of each run of equal scores: precision and recall change only there.
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    hits = np.cumsum(targets, dtype=np.int64)[last]
    gained = np.diff(hits, prepend=0) / positives
    return float(np.sum(gained * hits / (last + 1)))


def _check(targets, scores, ignore) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    targets = _two_dimensional(np.asarray(targets))
    scores = _two_dimensional(np.asarray(scores))
    if scores.dtype != bool:
        scores = scores.astype(np.float64)
    if targets.shape != scores.shape:
        raise ValueError(f"targets {list(targets.shape)} and scores {list(scores.shape)}: expected the same shape")
    valid = _valid(targets.shape, ignore)
    if not np.isin(targets[valid], (0, 1)).all():
        raise ValueError("targets hold values other than 0 and 1 where the ignore mask is false")
    if scores.dtype != bool and np.isnan(scores[valid]).any():
        raise ValueError("scores hold NaN: the model's output is broken, a ranking is not defined")
    # An ignored cell may hold any value (-1 is common): from here on it is 0 and masked.
    return np.where(valid, targets, 0).astype(np.uint8), scores, valid


def _valid(shape: tuple[int, ...], ignore) -> np.ndarray:
    return np.ones(shape, dtype=bool) if ignore is None else ~_ignored(shape, ignore)


def _ignored(shape: tuple[int, ...], ignore) -> np.ndarray:
    """The ignore mask, bool `[N, C]`; without one a view of a single cell."""
    if ignore is None:
        return np.broadcast_to(np.False_, shape)
    ignore = _two_dimensional(np.asarray(ignore, dtype=bool))
    if ignore.shape != shape:
        raise ValueError(f"ignore mask {list(ignore.shape)}: expected the same shape as scores, {list(shape)}")
    return ignore


def _two_dimensional(array: np.ndarray) -> np.ndarray:
    if array.ndim not in (1, 2):
        raise ValueError(f"received an array of shape {list(array.shape)}; expected [N, C] or [N]")
    return array[:, None] if array.ndim == 1 else array


def _ratio(numerator, denominator) -> np.ndarray:
    numerator = np.asarray(numerator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=np.asarray(denominator) > 0)


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def told_constant(logits: np.ndarray, names: Sequence[str]) -> str | None:
    """What is to be said of labels whose logit is the same for every picture; None where there is none such.

    Args:
        logits: finite `[N, C]`; of fewer than two pictures nothing is said.
        names: `[C]`.
    """
    if len(logits) < 2:
        return None
    lowest, highest = logits[0], logits[0]
    for part in row_parts(logits):
        some = logits[part]
        lowest, highest = np.minimum(lowest, some.min(axis=0)), np.maximum(highest, some.max(axis=0))
    constant = highest - lowest <= 1e-6 * np.maximum(np.abs(highest), 1)
    if constant.all():
        return f"every one of {len(logits)} pictures gets the same answer: the model tells nothing apart"
    if not constant.any():
        return None
    found = [name for name, same in zip(names, constant, strict=True) if same]
    named = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    return f"{len(found)} of {len(names)} labels have the same logit for each of {len(logits)} pictures: {named}"
