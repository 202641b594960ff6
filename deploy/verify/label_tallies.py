"""Counts of decisions by label and by resample, from which every number of the gate on decisions follows.

Almost every cell is a no that is right on both sides. Only the others are counted, so the cost grows with the number of
positives and predicted positives, not with pictures times labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from edgepress.multilabel.cells import column_parts, columns_of

_CELLS = 1 << 21
"""Number of counts that are gathered at once: 4 MB."""
_POSITIVE, _BEFORE, _AFTER = 4, 2, 1
"""A cell's kind is a sum of these: what it is, and what both sides answer."""
_KINDS = 8


class Drops(NamedTuple):
    """The drop of a measure by label, in points."""

    columns: np.ndarray
    """The labels that are measured, int64 `[K]`."""
    drop: np.ndarray
    """Float64 `[K]`."""
    error: np.ndarray
    """Standard error of each, as if one more decision had changed, so that none is 0."""
    critical: float
    """97.5 % quantile, over resamples, of the largest (drop there - drop) / error of all labels."""


class _Sums(NamedTuple):
    """Numbers of cells; each is an int `[...]`."""

    positives: np.ndarray
    before: np.ndarray
    after: np.ndarray
    hits_before: np.ndarray
    hits_after: np.ndarray

    @classmethod
    def of(cls, kinds: np.ndarray) -> _Sums:
        """From the number of cells of each kind, `[8, ...]`."""

        def holding(*bits: int) -> np.ndarray:
            return sum(kinds[kind] for kind in range(_KINDS) if all(kind & bit for bit in bits))

        return cls(
            holding(_POSITIVE),
            holding(_BEFORE),
            holding(_AFTER),
            holding(_POSITIVE, _BEFORE),
            holding(_POSITIVE, _AFTER),
        )

    def drops(self, measure: Literal["recall", "precision"]) -> np.ndarray:
        """In points; 0/0 is 0."""
        if measure == "recall":
            return 100 * (_ratio(self.hits_before, self.positives) - _ratio(self.hits_after, self.positives))
        return 100 * (_ratio(self.hits_before, self.before) - _ratio(self.hits_after, self.after))


class _Overall(NamedTuple):
    """What all labels together give: in the sample a number each, in the resamples `[R]`."""

    flips: np.ndarray
    net: np.ndarray
    OF1_drop: np.ndarray
    CF1_drop: np.ndarray


@dataclass(frozen=True, eq=False)
class LabelTallies:
    """Number of cells of every kind, by label, in the sample and in its resamples."""

    kinds: np.ndarray
    """Of the sample, int64 `[8, C]`; kind 0 is not counted."""
    _drawn: _Overall | None
    _recall: np.ndarray | None
    """Drops of recall in the resamples, float32 `[C, R]`, and of precision."""
    _precision: np.ndarray | None
    _sums: _Sums = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sums", _Sums.of(self.kinds))

    @classmethod
    def of(
        cls, before: np.ndarray, after: np.ndarray, targets: np.ndarray, ignore: np.ndarray, counts: np.ndarray | None
    ) -> LabelTallies:
        """Count the cells of `[N, C]`; arguments as `measure_gate`."""
        labels = before.shape[1]
        resamples = 0 if counts is None else counts.shape[1]
        kinds = np.zeros((_KINDS, labels), np.int64)
        total, means = np.zeros((_KINDS, resamples), np.int64), _Means(resamples)
        recall, precision = (np.empty((labels, resamples), np.float32) for _ in range(2))
        for part in column_parts(before.shape):  # some labels at a time, so that memory does not hold a second [N, C]
            some = _kinds_of(*(columns_of(one, part) for one in (before, after, targets, ignore)))
            for column, kind in enumerate(some.T, part.start):
                kinds[1:, column] = np.bincount(kind, minlength=_KINDS)[1:]
                if counts is not None:
                    drawn = _resampled(kind, counts)
                    total += drawn
                    sums = _Sums.of(drawn)
                    means.add(sums)
                    recall[column], precision[column] = sums.drops("recall"), sums.drops("precision")
        if counts is None:
            return cls(kinds, None, None, None)
        overall = _Overall(*_pooled(total, _Sums.of(total)), means.CF1_drop())
        return cls(kinds, overall, recall, precision)

    @property
    def positives(self) -> np.ndarray:
        """Number of positives of each label, int64 `[C]`."""
        return self._sums.positives

    @property
    def predicted(self) -> np.ndarray:
        """How often the reference answers yes, by label, int64 `[C]`."""
        return self._sums.before

    def overall(self) -> tuple[tuple[float, np.ndarray | None], ...]:
        """Flips and net flips per predicted positive, and the drops of OF1 and CF1 in points, each with its values in
        the resamples."""
        total = self.kinds.sum(axis=1)
        means = _Means(1)
        for column in range(self.kinds.shape[1]):
            means.add(_Sums.of(self.kinds[:, column, None]))
        measured = (*_pooled(total, _Sums.of(total)), means.CF1_drop()[0])
        drawn = (None,) * len(measured) if self._drawn is None else tuple(self._drawn)
        return tuple((float(value), some) for value, some in zip(measured, drawn, strict=True))

    def exact_drops(self, measure: Literal["recall", "precision"]) -> np.ndarray:
        """What every label loses on these pictures, in points, float64 `[C]`."""
        return self._sums.drops(measure)

    def drops(self, measure: Literal["recall", "precision"], least: int) -> Drops | None:
        """What each label with at least `least` positives and predicted positives loses; None where there is none, or
        nothing was resampled."""
        drawn = self._recall if measure == "recall" else self._precision
        columns = np.flatnonzero((self.positives >= least) & (self.predicted >= least))
        if drawn is None or not len(columns):
            return None
        drop = self.exact_drops(measure)[columns]
        error = (self._recall_error() if measure == "recall" else self._precision_error())[columns]
        largest = np.full(drawn.shape[1], -np.inf)
        for place, column in enumerate(columns):
            np.maximum(largest, (drawn[column] - drop[place]) / error[place], out=largest)
        return Drops(columns, drop, error, float(np.quantile(largest, 0.975)))

    def _recall_error(self) -> np.ndarray:
        """Of the difference of paired shares: √(changed − net²/n) / n (Agresti and Min 2005, one more changed)."""
        lost, gained = self.kinds[_POSITIVE + _BEFORE], self.kinds[_POSITIVE + _AFTER]
        count = np.maximum(self.positives, 1)
        return 100 * np.sqrt(lost + gained + 1 - (lost - gained) ** 2 / count) / count

    def _precision_error(self) -> np.ndarray:
        """By the delta method: the root of the sum of what each picture adds to the difference, squared."""
        before, after = np.maximum(self._sums.before, 1), np.maximum(self._sums.after, 1)
        right = self._sums.hits_before / before, self._sums.hits_after / after
        squared = 1.0 / before**2
        for kind in range(1, _KINDS):
            target = float(bool(kind & _POSITIVE))
            adds = (
                bool(kind & _BEFORE) * (target - right[0]) / before - bool(kind & _AFTER) * (target - right[1]) / after
            )
            squared = squared + self.kinds[kind] * adds**2
        return 100 * np.sqrt(squared)


class _Means:
    """The sums of precision and recall over the labels that a resample shows, for CF1."""

    def __init__(self, resamples: int) -> None:
        self.labels = np.zeros(resamples, np.int64)
        self.values = np.zeros((4, resamples))

    def add(self, sums: _Sums) -> None:
        """Add one label, `[R]`."""
        shown = sums.positives > 0
        self.labels += shown
        self.values += shown * np.stack(
            [
                _ratio(sums.hits_before, sums.before),
                _ratio(sums.hits_before, sums.positives),
                _ratio(sums.hits_after, sums.after),
                _ratio(sums.hits_after, sums.positives),
            ]
        )

    def CF1_drop(self) -> np.ndarray:
        """In points, `[R]`."""
        cp, cr, cp_after, cr_after = self.values / np.maximum(self.labels, 1)
        return 100 * (_harmonic(cp, cr) - _harmonic(cp_after, cr_after))


def _kinds_of(before: np.ndarray, after: np.ndarray, targets: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """The kind of every cell, uint8 `[N, K]`; 0 where it is ignored."""
    kinds = (targets == 1) * np.uint8(_POSITIVE)
    kinds += before * np.uint8(_BEFORE) + after * np.uint8(_AFTER)
    kinds[ignore] = 0
    return kinds


def _resampled(kind: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Number of cells of each kind in each resample of one label, int64 `[8, R]`; kind 0 is not counted."""
    rows = np.flatnonzero(kind)
    rows = rows[np.argsort(kind[rows], kind="stable")]
    found = np.zeros((_KINDS, counts.shape[1]), np.int64)
    if not len(rows):
        return found
    present, starts = np.unique(kind[rows], return_index=True)
    step = max(_CELLS // len(rows), 1)
    for at in range(0, counts.shape[1], step):
        some = counts[rows, at : at + step] if step < counts.shape[1] else counts[rows]
        found[present, at : at + step] = np.add.reduceat(some, starts, axis=0, dtype=np.int32)
    return found


def _pooled(total: np.ndarray, sums: _Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flips and net flips per predicted positive, and the drop of OF1 in points, of all labels together."""
    lost, gained = total[_BEFORE] + total[_POSITIVE + _BEFORE], total[_AFTER] + total[_POSITIVE + _AFTER]
    yes = np.maximum(sums.before, 1)  # where the reference never answers yes, every flip counts whole
    of1 = [_ratio(2 * hits, made + sums.positives) for hits, made in _both(sums)]
    return (lost + gained) / yes, (gained - lost) / yes, 100 * (of1[0] - of1[1])


def _both(sums: _Sums) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (sums.hits_before, sums.before), (sums.hits_after, sums.after)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return numerator / np.maximum(denominator, 1)  # a count: where it is 0, so is the numerator


def _harmonic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(2 * a * b, a + b, out=np.zeros_like(a), where=a + b > 0)
