"""How far logits and decisions are apart, taken some pictures at a time."""

from __future__ import annotations

import numpy as np

from edgepress.multilabel.noise import decibels


class LogitDifference:
    """The differences of an engine's logits from its reference's."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._total, self._signal, self._noise, self._known = 0.0, 0.0, 0.0, 0

    def add(self, logits: np.ndarray, reference: np.ndarray, known: np.ndarray) -> None:
        """Take some pictures' finite logits `[n, C]`; cells that are not known are left out."""
        noise = np.subtract(logits, reference, dtype=np.float64)[known]
        self._signal += float(np.square(reference[known], dtype=np.float64).sum())
        self._noise += float(np.square(noise).sum())
        difference = np.abs(noise, out=noise)
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self._total += float(difference.sum())
        self._known += len(difference)

    @property
    def mean(self) -> float:
        return self._total / max(self._known, 1)

    @property
    def sqnr_db(self) -> float:
        """Signal to noise in dB; see `multilabel.noise`."""
        return decibels(self._signal, self._noise)


class Flips:
    """Decisions that differ."""

    def __init__(self) -> None:
        self._changed, self._known = 0, 0

    def add(self, before: np.ndarray, after: np.ndarray, ignore: np.ndarray) -> None:
        """Take some pictures' decisions, bool `[n, C]`, without ignored cells."""
        known = ~ignore
        self._changed += int(((before != after) & known).sum())
        self._known += int(known.sum())

    @property
    def share(self) -> float:
        """Their share of all; 0 where every cell is ignored."""
        return self._changed / max(self._known, 1)
