"""What thresholds and calibrated probabilities achieve per label: F1, precision, recall, calibration error."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepress.calibration.decide.probabilities import calibration_noise, expected_calibration_error
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.metrics import decide, sigmoid


def label_f1(targets, decisions, ignore) -> np.ndarray:
    """F1 of each label, float64 `[C]`; NaN for a label that no picture shows. The mean of these is macro-F1."""
    known = ~np.asarray(ignore, bool)
    positive, predicted = (np.asarray(targets) == 1) & known, np.asarray(decisions, bool) & known
    shown = positive.sum(axis=0)
    hit = (positive & predicted).sum(axis=0)
    return np.where(shown > 0, 2 * hit / np.maximum(shown + predicted.sum(axis=0), 1), np.nan)


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


def measure_decisions(decisions: Decisions, logits: np.ndarray, data: MultiLabelDataset) -> dict[str, float]:
    """Measure what calibration and thresholds change on pictures that they were not fitted on; each is in [0, 1].

    `ece_*` are means over labels, and `ece_pooled_*` over the cells of all labels; `ece_by_chance` is the error that
    exact probabilities would show on as many pictures: see `calibration_noise`.

    Args:
        logits: `[N, C]`, in the order of the pictures and labels of `data`, which is also the order of the decisions.
    """
    sigmoids, probabilities = sigmoid(np.asarray(logits, np.float64)), decisions.probabilities(logits)
    known = ~data.ignore
    result = {
        "macro_F1_at_half": float(np.nanmean(label_f1(data.targets, decide(sigmoids), data.ignore))),
        "macro_F1": float(np.nanmean(label_f1(data.targets, decisions.decide(logits), data.ignore))),
    }
    for name, p in (("before", sigmoids), ("after", probabilities)):
        result[f"ece_{name}"] = float(np.nanmean(expected_calibration_error(data.targets, p, data.ignore)))
        pooled = expected_calibration_error(data.targets[known][:, None], p[known][:, None])
        result[f"ece_pooled_{name}"] = float(pooled[0])
    result["ece_by_chance"] = float(np.nanmean(calibration_noise(probabilities, data.ignore)))
    return result


def label_rows(
    decisions: Decisions, logits: np.ndarray, unseen: tuple[np.ndarray, np.ndarray], data: MultiLabelDataset
) -> list[dict[str, Any]]:
    """One row per label, and then their mean: F1 and calibration error before and after, precision and recall.

    Args:
        decisions: decisions that were fitted on `data`.
        logits: `[N, C]`, in the order of the pictures and labels of `data`.
        unseen: probabilities and decisions `[N, C]` by fits that did not see the picture: see `cross_fitted`.

    Returns:
        A value is None if the label has no positive, no known cell, or, for precision, no yes.
    """
    assert decisions.fit is not None
    sigmoids = sigmoid(np.asarray(logits, np.float64))
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
    rows: list[dict[str, Any]] = [
        {"label": name, "positives": n} for name, n in zip(decisions.labels, positives, strict=True)
    ]
    rows.append({"label": "mean", "positives": float(np.mean(positives))})
    for column, values in columns.items():
        known = values[~np.isnan(values)]
        for row, value in zip(rows, [*values, known.mean() if len(known) else np.nan], strict=True):
            row[column] = None if np.isnan(value) else float(value)
    return rows
