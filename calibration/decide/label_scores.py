"""What thresholds and calibrated probabilities achieve per label: F1, precision, recall, calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgepress.calibration.decide.probabilities import calibration_noise, expected_calibration_error, log_loss
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.metrics import decide, sigmoid


class DecisionScores(BaseModel):
    """What calibrated probabilities and fitted thresholds are worth on pictures; each is in [0, 1]."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    macro_F1_at_half: float
    """By the sigmoid at 0.5."""
    macro_F1: float
    ece_before: float
    """Mean over labels, by the sigmoid."""
    ece_after: float
    ece_pooled_before: float
    """Over the cells of all labels, by the sigmoid."""
    ece_pooled_after: float
    ece_by_chance: float
    """The error that exact probabilities would show on as many pictures; see `calibration_noise`."""


@dataclass(frozen=True, kw_only=True)
class DecisionRow:
    """What a label's probability and threshold are worth; a value is None if the label has no positive, no known cell,
    or, for precision, no yes."""

    label: str
    """Its name; `mean` for the mean over the labels."""
    positives: float
    threshold: float | None
    F1_at_half: float | None
    F1: float | None
    precision: float | None
    recall: float | None
    ece_before: float | None
    ece_after: float | None


def label_f1(targets, decisions, ignore) -> np.ndarray:
    """F1 of each label, float64 `[C]`; NaN for a label that no picture shows. The mean of these is macro-F1."""
    known = ~np.asarray(ignore, bool)
    positive, predicted = (np.asarray(targets) == 1) & known, np.asarray(decisions, bool) & known
    shown = positive.sum(axis=0)
    hit = (positive & predicted).sum(axis=0)
    return np.where(shown > 0, 2 * hit / np.maximum(shown + predicted.sum(axis=0), 1), np.nan)


def macro_f1(decisions: np.ndarray, data: MultiLabelDataset) -> float:
    """Mean over labels of F1, of decisions bool `[N, C]` in the order of the pictures and labels of `data`."""
    return float(np.nanmean(label_f1(data.targets, decisions, data.ignore)))


def label_precision(targets, decisions, ignore) -> np.ndarray:
    """Precision of each label, float64 `[C]`; NaN for a label that is never answered yes."""
    known = ~np.asarray(ignore, bool)
    predicted = np.asarray(decisions, bool) & known
    count = predicted.sum(axis=0)
    hit = ((np.asarray(targets) == 1) & predicted).sum(axis=0)
    return np.where(count > 0, hit / np.maximum(count, 1), np.nan)


def label_recall(targets, decisions, ignore) -> np.ndarray:
    """Recall of each label, float64 `[C]`; NaN for a label that no picture shows."""
    return label_precision(decisions, np.asarray(targets) == 1, ignore)


def measure_decisions(decisions: Decisions, logits: np.ndarray, data: MultiLabelDataset) -> DecisionScores:
    """Measure what calibration and thresholds change on pictures that they were not fitted on.

    Args:
        logits: `[N, C]`, in the order of the pictures and labels of `data`, which is also the order of the decisions.
    """
    sigmoids = sigmoid(np.asarray(decisions.scores(logits), np.float64))
    probabilities = decisions.probabilities(logits)
    known = ~data.ignore

    def ece(p: np.ndarray) -> float:
        return float(np.nanmean(expected_calibration_error(data.targets, p, data.ignore)))

    def pooled(p: np.ndarray) -> float:
        return float(expected_calibration_error(data.targets[known][:, None], p[known][:, None])[0])

    return DecisionScores(
        macro_F1_at_half=macro_f1(decide(sigmoids), data),
        macro_F1=macro_f1(decisions.decide(logits), data),
        ece_before=ece(sigmoids),
        ece_after=ece(probabilities),
        ece_pooled_before=pooled(sigmoids),
        ece_pooled_after=pooled(probabilities),
        ece_by_chance=float(np.nanmean(calibration_noise(probabilities, data.ignore))),
    )


def label_rows(
    decisions: Decisions, logits: np.ndarray, unseen: tuple[np.ndarray, np.ndarray], data: MultiLabelDataset
) -> list[DecisionRow]:
    """One row per label, and then their mean: F1 and calibration error before and after, precision and recall.

    Args:
        decisions: decisions that were fitted on `data`.
        logits: `[N, C]`, in the order of the pictures and labels of `data`.
        unseen: probabilities and decisions `[N, C]` by fits that did not see the picture: see `cross_fitted`.
    """
    assert decisions.fit is not None
    sigmoids = sigmoid(np.asarray(decisions.scores(logits), np.float64))
    columns = {
        "threshold": np.array(decisions.thresholds),
        "F1_at_half": label_f1(data.targets, decide(sigmoids), data.ignore),
        "F1": label_f1(data.targets, unseen[1], data.ignore),
        "precision": label_precision(data.targets, unseen[1], data.ignore),
        "recall": label_recall(data.targets, unseen[1], data.ignore),
        "ece_before": expected_calibration_error(data.targets, sigmoids, data.ignore),
        "ece_after": expected_calibration_error(data.targets, unseen[0], data.ignore),
    }
    positives = decisions.fit.positives
    names, shown = (*decisions.labels, "mean"), (*positives, float(np.mean(positives)))
    cells = {name: _with_mean(values) for name, values in columns.items()}
    return [
        DecisionRow(label=label, positives=count, **{name: cells[name][row] for name in cells})
        for row, (label, count) in enumerate(zip(names, shown, strict=True))
    ]


def told_choice(decisions: Decisions, logits: np.ndarray, unseen: np.ndarray, data: MultiLabelDataset) -> str:
    """Which calibrator was taken, by whom, and what it is worth by log loss; where the ECE rises, why it was taken.

    Log loss is a proper score (Gneiting and Raftery 2007): its expectation is least for the true probabilities, so it
    can choose. ECE is none. A constant has an ECE of 0, and on few pictures ECE is mostly chance.

    Args:
        decisions, logits, data: as for `label_rows`.
        unseen: probabilities `[N, C]` by fits that did not see the picture: see `cross_fitted`.
    """
    assert decisions.fit is not None
    fit, method = decisions.fit, decisions.calibrator.method
    sigmoids = sigmoid(np.asarray(decisions.scores(logits), np.float64))
    before, after = (log_loss(data.targets, p, data.ignore) for p in (sigmoids, unseen))
    worth = f"{after:.4f} against {before:.4f} of the sigmoid, on pictures that it was not fitted on"
    if method == "none":
        why = ", because no calibrator has a lower log loss" if fit.probabilities == "auto" else ", as it was asked"
        return f"The probability is the sigmoid{why}."
    if fit.probabilities == "auto":
        said = f"auto chose {method} by log loss: {worth}."
    else:
        better = "" if after <= before else "; --probabilities auto takes what has the least"
        said = f"{method} was asked for. Its log loss is {worth}{better}."
    if round(fit.ece_after, 3) <= round(fit.ece_before, 3):
        return said
    chance = float(np.nanmean(calibration_noise(unseen, data.ignore)))
    return (
        f"{said} The mean ECE rises from {fit.ece_before:.3f} to {fit.ece_after:.3f} all the same: exact probabilities "
        f"would show {chance:.3f} by chance on so many pictures, and log loss is the better judge of probabilities."
    )


def _with_mean(values: np.ndarray) -> list[float | None]:
    """The values, and at the end the mean of those that are known; None is one that is not."""
    known = values[~np.isnan(values)]
    return [None if np.isnan(value) else float(value) for value in (*values, known.mean() if len(known) else np.nan)]
