"""What a report shows of a model beyond its row's numbers, measured where its logits are: it needs no pictures then."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepress.calibration.decide.probabilities import reliability
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.verify.confidence import (
    LEAST_PICTURES,
    LEVEL,
    RESAMPLES,
    resample_counts,
    resampled_mean_average_precision,
)
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.metrics import average_precision, sigmoid
from edgepress.run.flips import find_flips

WORST = 20
"""Nodes that a report keeps of an INT8 model's sensitivity."""
_NO_METRICS = ("loss", "val_mAP", "seconds")


def engine_evidence(
    bundle: Bundle, decisions: Decisions, logits: np.ndarray, labels: list[dict[str, Any]], data: MultiLabelDataset
) -> dict[str, Any]:
    """What a verified engine's row keeps for the report: labels, reliability and flips.

    Args:
        decisions: the engine's, in the order of the labels of `data`.
        logits: finite, `[N, C]`, in the order of the pictures and labels of `data`.
        labels: of `deploy.verify.agreement.label_rows`. Those of INT8 get an `interval`; a float engine's answers are
            the student's, and so are its intervals.
    """
    found: dict[str, Any] = {"labels": labels, "reliability": reliability_bins(decisions, logits, data)}
    if bundle.manifest.precision == "int8":
        intervals = label_intervals(logits, data)
        found["labels"] = [{**row, "interval": intervals[row["label"]]} for row in labels]
    reference = Reference.load(bundle.path / REFERENCE)
    rows = reference.rows(data.hashes())
    assert rows is not None, "a run exports, and verifies on, the same pictures"
    columns = [reference.labels.index(name) for name in data.labels.names]
    found["flips"] = find_flips(decisions, logits, reference.logits[rows][:, columns], data)
    return found


def label_precisions(logits: np.ndarray, data: MultiLabelDataset) -> list[dict[str, Any]]:
    """AP of every label, in the data set's order, with its interval.

    Args:
        logits: finite, `[N, C]`, in the order of the pictures and labels of `data`.

    Returns:
        For each label: label, positives (pictures), AP in [0, 1] and interval; the last two None where it has no
        positive.
    """
    precisions = average_precision(data.targets, logits, data.ignore)
    positives = ((data.targets == 1) & ~data.ignore).sum(axis=0)
    intervals = label_intervals(logits, data)
    return [
        {
            "label": name,
            "positives": int(positives[column]),
            "AP": None if np.isnan(precisions[column]) else float(precisions[column]),
            "interval": intervals[name],
        }
        for column, name in enumerate(data.labels.names)
    ]


def label_intervals(logits: np.ndarray, data: MultiLabelDataset) -> dict[str, tuple[float, float] | None]:
    """The 95 % interval of each label's AP, had other pictures of the same kind been taken; None without a positive,
    and of fewer than `LEAST_PICTURES`.

    As `deploy.verify.confidence.drop_interval`, of one label at a time: pictures are drawn with replacement, a resample
    without a positive of the label is left out of its interval, and the ends are the 2.5 and 97.5 % quantiles.

    Args:
        logits: finite, `[N, C]`, in the order of the pictures and labels of `data`.
    """
    if len(data) < LEAST_PICTURES:
        return dict.fromkeys(data.labels.names)
    counts = resample_counts(len(data), RESAMPLES)
    found: dict[str, tuple[float, float] | None] = {}
    for column, name in enumerate(data.labels.names):
        one = slice(column, column + 1)
        drawn = resampled_mean_average_precision(data.targets[:, one], logits[:, one], data.ignore[:, one], counts)
        if np.isnan(drawn).all():
            found[name] = None
        else:
            low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found[name] = (float(low), float(high))
    return found


def reliability_bins(
    decisions: Decisions, logits: np.ndarray, data: MultiLabelDataset
) -> dict[str, list[tuple[float, float, int]]]:
    """How often what is given a probability is so, over the cells of all labels, before and after calibration.

    Args:
        decisions: in the order of the labels of `data`.
        logits: `[N, C]`, in the order of its pictures and labels.

    Returns:
        `sigmoid` and `calibrated`: of each bin of equal mass the mean probability, the share of positives, the cells.
    """
    known = ~data.ignore
    targets = data.targets[known][:, None]
    found = {}
    for name, p in (
        ("sigmoid", sigmoid(np.asarray(logits, np.float64))),
        ("calibrated", decisions.probabilities(logits)),
    ):
        ((predicted, observed, counts),) = reliability(targets, p[known][:, None])
        bins = zip(predicted, observed, counts, strict=True)
        found[name] = [(float(mean), float(share), int(count)) for mean, share, count in bins]
    return found


def training_curves(bundle: Bundle) -> dict[str, Any]:
    """A torch bundle's losses by term and its val mAP, a value an epoch; no epochs of one that was trained elsewhere.

    The terms are as they were weighted: an epoch's loss is their sum.
    """
    history = bundle.manifest.facts.get("history", [])
    terms = [name for name in (history[0] if history else {}) if name not in _NO_METRICS and "_groups" not in name]
    return {
        "model": bundle.name,
        "terms": {name: [entry[name] for entry in history] for name in terms},
        "val_mAP": [entry["val_mAP"] for entry in history],
        "best_epoch": bundle.manifest.facts.get("best_epoch"),
    }


def int8_search(bundle: Bundle) -> dict[str, Any] | None:
    """How an INT8 bundle was quantised, what was tried and its worst nodes; None of a float one."""
    calibration = bundle.manifest.calibration
    if calibration is None:
        return None
    found = calibration.model_dump(mode="json")
    return {**found, "sensitivity": found["sensitivity"][:WORST], "nodes": len(found["sensitivity"])}
