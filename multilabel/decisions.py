"""Decisions: from logits to calibrated probabilities, and to a yes or no by each label's own threshold.

This module needs only numpy and holds only plain numbers: it is part of a bundle's manifest, so a device has it.
`calibration/decide/probabilities.py` and `calibration/decide/thresholds.py` fit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.grouped import GroupedLabels, grouped
from edgepress.multilabel.label_groups import NO_GROUPS, LabelGroups
from edgepress.multilabel.labels import LabelName, LabelSpace
from edgepress.multilabel.metrics import decide, sigmoid

_CELLS = 1 << 22
"""Number of probabilities that are held at once: 32 MB."""
Method = Literal["none", "temperature", "platt", "isotonic"]
SILENT = float(np.nextafter(1, 2))
"""The threshold of a label that is never answered yes: a sigmoid may reach 1, but no probability exceeds it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Affine(_Frozen):
    """p = sigmoid(slope·z + offset), with one slope and one offset per label.

    `none` has slope 1 and offset 0. `temperature` (Guo et al. 2017, equation 9) has offset 0 and slope 1 / T. `platt`
    has both (Platt 1999). Slopes are positive, so the order of the scores is kept, and with it AP.
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
        """Turn float64 logits `[N, C]` into float64 probabilities `[N, C]`."""
        return sigmoid(logits * np.array(self.slopes) + np.array(self.offsets))

    def after(self, slopes: np.ndarray, offsets: np.ndarray) -> Affine:
        """Return the calibrator of z that equals this one at slope·z + offset; both are `[C]`, and slopes are above 0.

        A calibrator of temperatures keeps its name, although it then has offsets.
        """
        combined = np.array(self.slopes) * slopes, np.array(self.slopes) * offsets + np.array(self.offsets)
        return Affine(method=self.method, slopes=tuple(combined[0].tolist()), offsets=tuple(combined[1].tolist()))

    def select(self, columns: Sequence[int]) -> Affine:
        """Return the same calibrator for these labels, in this order."""
        return Affine(
            method=self.method,
            slopes=tuple(self.slopes[column] for column in columns),
            offsets=tuple(self.offsets[column] for column in columns),
        )


class FittedAnswers(NamedTuple):
    """How a model's answers are calibrated, and what that is worth on the pictures that it was not fitted on."""

    calibrator: Affine
    loss: float
    """Log loss of the calibrated probabilities."""
    loss_before: float
    """Log loss of the sigmoid of the logits."""


class Isotonic(_Frozen):
    """p = w·step(z) + (1 − w)·sigmoid(slope·z + offset): each label's own rising steps, and a fit over all labels.

    Because w < 1 and slope > 0, the order of the scores is kept here too.
    """

    method: Literal["isotonic"] = "isotonic"
    slopes: tuple[Annotated[float, Field(gt=0)], ...]
    offsets: tuple[float, ...]
    """Slopes and offsets of the fit over all labels' cells: all equal, unless `after` moved them to other logits."""
    weights: tuple[Annotated[float, Field(ge=0, lt=1)], ...]
    """w of each label; 0 where the label has no steps."""
    knots: tuple[tuple[tuple[float, float], ...], ...]
    """Each label's rising (logit, probability) points, joined by lines; outside them the nearest point counts."""

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
        """Turn float64 logits `[N, C]` into float64 probabilities `[N, C]`."""
        result = sigmoid(logits * np.array(self.slopes) + np.array(self.offsets))
        for column, (weight, knots) in enumerate(zip(self.weights, self.knots, strict=True)):
            if knots:
                at, value = np.array(knots).T
                result[:, column] += weight * (np.interp(logits[:, column], at, value) - result[:, column])
        return result

    def after(self, slopes: np.ndarray, offsets: np.ndarray) -> Isotonic:
        """Return the calibrator of z that equals this one at slope·z + offset; both are `[C]`; slopes are above 0."""
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
        """Return the same calibrator for these labels, in this order."""
        return Isotonic(
            slopes=tuple(self.slopes[column] for column in columns),
            offsets=tuple(self.offsets[column] for column in columns),
            weights=tuple(self.weights[column] for column in columns),
            knots=tuple(self.knots[column] for column in columns),
        )


Calibrator = Annotated[Affine | Isotonic, Field(discriminator="method")]


PromiseKind = Literal["recall", "precision", "fpr"]
"""The recall or precision of a label is at least a level, or its false-positive rate at most."""


class Promise(_Frozen):
    """What thresholds promise of pictures like those that they were fitted on."""

    kind: PromiseKind
    level: float
    confidence: float
    """The probability, over draws of the pictures of the fit, that a label keeps the level on all pictures."""
    scope: Literal["each", "all"]
    """Whether the confidence is of each label by itself, or of all labels at once."""
    method: str
    counted: tuple[int, ...]
    """For each label the number of pictures of the fit that its rate was judged by: positives for a recall, negatives
    for a false-positive rate, predicted positives for a precision."""
    errors: tuple[int, ...]
    """How many of these the threshold gets wrong."""

    def __str__(self) -> str:
        name = {"fpr": "false-positive rate"}.get(self.kind, self.kind)
        bound = "at most" if self.kind == "fpr" else "at least"
        scope = "each label" if self.scope == "each" else "all labels at once"
        return f"{name} of {bound} {self.level:g} with {100 * self.confidence:g} % confidence for {scope}"


class Fit(_Frozen):
    """What the decisions were fitted on, and how."""

    thresholds: str
    """The criterion: `f1`, `recall=R`, `precision=P`, `fpr=F` or `fixed=T`; with a promise, `recall=R@C%` or such."""
    probabilities: str
    """The calibrator that was asked for; `auto` chooses one by cross-fitting."""
    split: str
    fingerprint: str
    """sha256 over the split's labels and pictures."""
    pictures: int
    positives: tuple[int, ...]
    """Number of pictures that show each label."""
    unreached: dict[LabelName, float] = {}
    """Labels whose target could not be reached, each with the best value reached; they are never answered yes."""
    ece_before: float
    """Expected calibration error of the sigmoid, as the mean over labels."""
    ece_after: float
    """The same error after calibration, where the fit used for a picture did not see that picture."""
    promise: Promise | None = None
    """What the thresholds promise; None where they were chosen for what they reach on these pictures."""

    @model_serializer(mode="wrap")
    def _without_no_promise(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a promise that there is not: versions that do not know the field read all other fits."""
        return {name: value for name, value in write(self).items() if name != "promise" or value is not None}


class Decisions(_Frozen):
    """What a bundle's logits mean: a probability and a yes or no for each label."""

    labels: tuple[LabelName, ...]
    thresholds: tuple[Annotated[float, Field(ge=0, le=SILENT)], ...]
    """Each label's threshold on its calibrated probability; a label is yes at or above it, and never if `SILENT`. It
    decides nothing for the labels of a `one_of` group, the most probable of which is yes."""
    calibrator: Calibrator
    groups: LabelGroups = NO_GROUPS
    """Labels that exclude each other, and labels that imply others: no answer contradicts them."""
    fit: Fit | None = None
    """None where nobody fitted the decisions: they are then the sigmoid and 0.5."""
    refitted_from: Decisions | None = None
    """Decisions of the model that this one was made from, if these were fitted to agree with them on other logits."""

    @model_validator(mode="after")
    def _one_a_label(self) -> Decisions:
        if not len(self.labels) == len(self.thresholds) == len(self.calibrator):
            raise ValueError(f"decisions: expected {len(self.labels)} thresholds and calibrators, one a label")
        if self.refitted_from is not None and self.refitted_from.labels != self.labels:
            raise ValueError("decisions: refitted from those of other labels")
        unknown = sorted(set(self.groups.names) - set(self.labels))
        if unknown:
            raise ValueError(f"decisions: {unknown[0]!r} is in the groups and no label")
        return self

    @model_serializer(mode="wrap")
    def _without_no_groups(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out groups that there are not: versions that do not know the field read all other decisions."""
        written = write(self)
        return written if self.groups else {name: value for name, value in written.items() if name != "groups"}

    @classmethod
    def plain(
        cls,
        labels: Sequence[str],
        thresholds: Sequence[float] | None = None,
        groups: LabelGroups = NO_GROUPS,
    ) -> Decisions:
        """The sigmoid (the softmax in a group), with thresholds of 0.5 or those given."""
        count = len(labels)
        identity = Affine(method="none", slopes=(1.0,) * count, offsets=(0.0,) * count)
        return cls(
            labels=tuple(labels),
            thresholds=tuple(thresholds or [0.5] * count),
            calibrator=identity,
            groups=groups,
        )

    @classmethod
    def of_groups(cls, labels: Sequence[str], groups: LabelGroups) -> Decisions | None:
        """What a model's logits mean for which nothing was fitted, by the groups of these labels; None without any."""
        own = groups.select(LabelSpace(tuple(labels)))
        return cls.plain(labels, groups=own) if own else None

    @cached_property
    def grouped(self) -> GroupedLabels:
        """The groups over the columns of the labels."""
        return grouped(self.groups, self.labels)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits `[N, C]` into what ranks the pictures of a label: its log-odds, and without groups the logits."""
        return self.grouped.log_odds(logits)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits `[N, C]` into calibrated probabilities, float64 `[N, C]`; none is below that of a label that
        implies it.

        Raises:
            InputError: the logits have another shape.
        """
        logits = np.asarray(logits, dtype=np.float64)
        if logits.ndim != 2 or logits.shape[1] != len(self.labels):
            raise InputError(f"received logits {list(logits.shape)}; expected [N, {len(self.labels)}]")
        return self.grouped.raised(self.calibrator(self.scores(logits)))

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits `[N, C]` into yes or no, bool `[N, C]`; raises the same errors as `probabilities`."""
        logits = np.asarray(logits)
        rows = max(_CELLS // len(self.labels), 1)  # at once, because probabilities take eight times an answer
        if logits.ndim != 2 or logits.shape[1] != len(self.labels) or len(logits) <= rows:
            return self.answers(self.probabilities(logits))
        parts = range(0, len(logits), rows)
        return np.concatenate([self.answers(self.probabilities(logits[start : start + rows])) for start in parts])

    def answers(self, probabilities: np.ndarray, thresholds: float | None = None) -> np.ndarray:
        """Turn probabilities `[N, C]`, as `probabilities` gives them, into yes or no, bool `[N, C]`.

        Args:
            thresholds: one for all labels, instead of their own.
        """
        bars = np.array(self.thresholds) if thresholds is None else thresholds
        return self.grouped.settled(probabilities, decide(probabilities, bars))

    def ordered(self, names: Sequence[str]) -> Decisions:
        """Return the same decisions with the labels in another order.

        Raises:
            ValueError: a name is not among the labels.
        """
        columns = [self.labels.index(name) for name in names]
        before = self.refitted_from.ordered(names) if self.refitted_from else None
        return Decisions(
            labels=tuple(names),
            thresholds=tuple(self.thresholds[column] for column in columns),
            calibrator=self.calibrator.select(columns),
            groups=self.groups,
            refitted_from=before,
        )


def flips_per_yes(before: np.ndarray, after: np.ndarray, ignore: np.ndarray) -> float:
    """Decisions `[N, C]` that differ, per decision of the first that says yes, without ignored cells; where the first
    says yes to nothing, their number.

    Example:
        >>> before, after = np.array([[True, False], [True, False]]), np.array([[True, True], [True, False]])
        >>> flips_per_yes(before, after, np.zeros((2, 2), bool))
        0.5
    """
    known = ~ignore
    return float((before != after)[known].sum() / max(int(before[known].sum()), 1))


def changed_share(before: np.ndarray, after: np.ndarray, ignore: np.ndarray) -> float:
    """Share of the decisions `[N, C]` that differ, without ignored cells; 0 where every cell is ignored."""
    known = ~ignore
    return float((before != after)[known].mean()) if known.any() else 0.0
