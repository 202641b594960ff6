"""Decisions: from logits to probabilities that mean what they say, and to a yes or no by each label's own threshold.

numpy only, and plain numbers inside: it is a part of a bundle's manifest, so a device has it. How it is fitted stands
in `calibration/probabilities.py` and `calibration/thresholds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgepress.multilabel.labels import LabelName
from edgepress.multilabel.metrics import decide, sigmoid

Method = Literal["none", "temperature", "platt", "isotonic"]
SILENT = float(np.nextafter(1, 2))
"""The threshold of a label that is never answered yes: no probability is above 1, which a sigmoid may reach."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Affine(_Frozen):
    """p = sigmoid(slope·z + offset), a slope and an offset a label.

    `none` is slope 1 and offset 0. `temperature` (Guo et al. 2017, equation 9) is offset 0; the slope is 1 / T. `platt`
    has both (Platt 1999). Slopes are positive, so the order of the scores stays, and with it AP.
    """

    method: Literal["none", "temperature", "platt"]
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    @model_validator(mode="after")
    def _rises(self) -> Affine:
        if len(self.slopes) != len(self.offsets) or not all(slope > 0 for slope in self.slopes):
            raise ValueError("expected a slope above 0 and an offset a label")
        return self

    def __len__(self) -> int:
        return len(self.slopes)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """float64 `[N, C]` to probabilities float64 `[N, C]`."""
        return sigmoid(logits * np.array(self.slopes) + np.array(self.offsets))

    def after(self, slopes: np.ndarray, offsets: np.ndarray) -> Affine:
        """The calibrator of z that gives what this one gives for slope·z + offset; `[C]` each, slopes above 0.

        One of temperatures keeps its name, though with offsets.
        """
        combined = np.array(self.slopes) * slopes, np.array(self.slopes) * offsets + np.array(self.offsets)
        return Affine(method=self.method, slopes=tuple(combined[0].tolist()), offsets=tuple(combined[1].tolist()))

    def select(self, columns: Sequence[int]) -> Affine:
        """The same of these labels, in this order."""
        return Affine(
            method=self.method,
            slopes=tuple(self.slopes[column] for column in columns),
            offsets=tuple(self.offsets[column] for column in columns),
        )


class Isotonic(_Frozen):
    """p = w·step(z) + (1 − w)·sigmoid(slope·z + offset): a label's own rising steps, and what is pooled over labels.

    w < 1 and slope > 0, so the order of the scores stays here too.
    """

    method: Literal["isotonic"] = "isotonic"
    slopes: tuple[Annotated[float, Field(gt=0)], ...]
    offsets: tuple[float, ...]
    """Of the fit over the cells of all labels: alike, unless `after` has taken them to other logits."""
    weights: tuple[Annotated[float, Field(ge=0, lt=1)], ...]
    """w of each label; 0 where it has no steps."""
    knots: tuple[tuple[tuple[float, float], ...], ...]
    """A label's (logit, probability), rising; between two the line that joins them, outside them the nearest."""

    @model_validator(mode="after")
    def _rises(self) -> Isotonic:
        if not len(self.knots) == len(self.weights) == len(self.slopes) == len(self.offsets):
            raise ValueError("expected a slope, an offset, a weight and knots a label")
        for weight, knots in zip(self.weights, self.knots, strict=True):
            steps = np.array(knots).reshape(-1, 2)
            if (weight > 0) != (len(steps) > 0) or (np.diff(steps, axis=0) < 0).any():
                raise ValueError("expected knots that rise, and none where the weight is 0")
            if len(steps) and not 0 <= steps[0, 1] <= steps[-1, 1] <= 1:
                raise ValueError("expected knots with probabilities in [0, 1]")
        return self

    def __len__(self) -> int:
        return len(self.weights)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """float64 `[N, C]` to probabilities float64 `[N, C]`."""
        result = sigmoid(logits * np.array(self.slopes) + np.array(self.offsets))
        for column, (weight, knots) in enumerate(zip(self.weights, self.knots, strict=True)):
            if knots:
                at, value = np.array(knots).T
                result[:, column] += weight * (np.interp(logits[:, column], at, value) - result[:, column])
        return result

    def after(self, slopes: np.ndarray, offsets: np.ndarray) -> Isotonic:
        """The calibrator of z that gives what this one gives for slope·z + offset; `[C]` each, slopes above 0."""
        combined = np.array(self.slopes) * slopes, np.array(self.slopes) * offsets + np.array(self.offsets)
        moved = [
            tuple((float((at - offset) / slope), value) for at, value in knots)
            for knots, slope, offset in zip(self.knots, slopes, offsets, strict=True)
        ]
        return Isotonic(
            slopes=tuple(combined[0].tolist()),
            offsets=tuple(combined[1].tolist()),
            weights=self.weights,
            knots=tuple(moved),
        )

    def select(self, columns: Sequence[int]) -> Isotonic:
        """The same of these labels, in this order."""
        return Isotonic(
            slopes=tuple(self.slopes[column] for column in columns),
            offsets=tuple(self.offsets[column] for column in columns),
            weights=tuple(self.weights[column] for column in columns),
            knots=tuple(self.knots[column] for column in columns),
        )


Calibrator = Annotated[Affine | Isotonic, Field(discriminator="method")]


class Fit(_Frozen):
    """On what decisions were fitted, and how."""

    thresholds: str
    """The criterion: `f1`, `recall=R`, `precision=P` or `fixed=T`."""
    probabilities: str
    """What was asked for; `auto` chooses by cross-fitting."""
    split: str
    fingerprint: str
    """sha256 over the split's labels and pictures."""
    pictures: int
    positives: tuple[int, ...]
    """Pictures that show each label."""
    unreached: dict[LabelName, float] = {}
    """Labels whose target could not be reached there, with the best that could: they stay silent."""
    ece_before: float
    """Expected calibration error of the sigmoid, mean over labels."""
    ece_after: float
    """The same after calibration, each picture by a fit that did not see it."""


class Decisions(_Frozen):
    """What a bundle's logits mean: a probability and a yes or no for each label."""

    labels: tuple[LabelName, ...]
    thresholds: tuple[Annotated[float, Field(ge=0, le=SILENT)], ...]
    """Of each label, on its calibrated probability; yes at or above it, and never where it is `SILENT`."""
    calibrator: Calibrator
    fit: Fit | None = None
    """None for those nobody fitted: sigmoid and 0.5."""
    refitted_from: Decisions | None = None
    """Those of the model that this one was made from, where these were fitted to agree with them on other logits."""

    @model_validator(mode="after")
    def _one_a_label(self) -> Decisions:
        if not len(self.labels) == len(self.thresholds) == len(self.calibrator):
            raise ValueError(f"decisions: expected {len(self.labels)} thresholds and calibrators, one a label")
        if self.refitted_from is not None and self.refitted_from.labels != self.labels:
            raise ValueError("decisions: refitted from those of other labels")
        return self

    @classmethod
    def plain(cls, labels: Sequence[str], thresholds: Sequence[float] | None = None) -> Decisions:
        """The sigmoid, and 0.5 or the thresholds given."""
        count = len(labels)
        identity = Affine(method="none", slopes=(1.0,) * count, offsets=(0.0,) * count)
        return cls(labels=tuple(labels), thresholds=tuple(thresholds or [0.5] * count), calibrator=identity)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Logits `[N, C]` to calibrated probabilities, float64 `[N, C]`.

        Raises:
            ValueError: another shape.
        """
        logits = np.asarray(logits, dtype=np.float64)
        if logits.ndim != 2 or logits.shape[1] != len(self.labels):
            raise ValueError(f"received logits {list(logits.shape)}; expected [N, {len(self.labels)}]")
        return self.calibrator(logits)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """Logits `[N, C]` to yes or no, bool `[N, C]`; errors as `probabilities`."""
        return decide(self.probabilities(logits), np.array(self.thresholds))

    def ordered(self, names: Sequence[str]) -> Decisions:
        """The same with the labels in another order.

        Raises:
            ValueError: a name that is not among the labels.
        """
        columns = [self.labels.index(name) for name in names]
        before = self.refitted_from.ordered(names) if self.refitted_from else None
        return Decisions(
            labels=tuple(names),
            thresholds=tuple(self.thresholds[column] for column in columns),
            calibrator=self.calibrator.select(columns),
            refitted_from=before,
        )


def changed_share(before: np.ndarray, after: np.ndarray, ignore: np.ndarray) -> float:
    """Share of the decisions `[N, C]` that differ, ignored cells left out; 0 where every cell is ignored."""
    known = ~ignore
    return float((before != after)[known].mean()) if known.any() else 0.0
