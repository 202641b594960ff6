"""What a report shows about a model beyond its figures, measured while its logits are here, so without pictures."""

from __future__ import annotations

import numpy as np

from edgepress.calibration.decide.probabilities import reliability
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.confidence import (
    LEAST_PICTURES,
    LEVEL,
    RESAMPLES,
    resample_counts,
    resampled_average_precision,
)
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.manifest import Quantization
from edgepress.multilabel.metrics import average_precision, counts_known, sigmoid
from edgepress.run.result import Interval, LabelScore, Reliability
from edgepress.run.run_report import Curves

WORST = 20
"""Number of nodes that a report keeps from an INT8 model's sensitivity."""


def label_scores(logits: np.ndarray, data: MultiLabelDataset, *, intervals: bool = True) -> tuple[LabelScore, ...]:
    """AP of every label, in the data set's order.

    Args:
        logits: finite, `[N, C]`, in the order of the pictures and labels of `data`.
        intervals: whether each AP gets its interval, which is slow. A float engine has the student's answers, and so
            its intervals.
    """
    precisions = average_precision(data.targets, data.scores(logits), data.ignore)
    positives, _ = counts_known(data.targets, data.ignore)
    found = label_intervals(logits, data) if intervals else dict.fromkeys(data.labels.names)
    return tuple(
        LabelScore(
            label=name,
            positives=int(positives[column]),
            AP=None if np.isnan(precisions[column]) else float(precisions[column]),
            interval=found[name],
        )
        for column, name in enumerate(data.labels.names)
    )


def label_intervals(logits: np.ndarray, data: MultiLabelDataset) -> dict[str, Interval | None]:
    """The 95 % interval of each label's AP, had other pictures of the same kind been taken; None without a positive, or
    with fewer than `LEAST_PICTURES`.

    Like `multilabel.confidence.drop_interval`, for one label at a time: pictures are drawn with replacement, a
    resample without a positive of the label is left out of its interval, and the ends are the 2.5 and 97.5 % quantiles.

    Args:
        logits: finite, `[N, C]`, in the order of the pictures and labels of `data`.
    """
    if len(data) < LEAST_PICTURES:
        return dict.fromkeys(data.labels.names)
    counts, scores = resample_counts(len(data), RESAMPLES), data.scores(logits)
    found: dict[str, Interval | None] = {}
    every = resampled_average_precision(data.targets, scores, data.ignore, counts)
    for name, drawn in zip(data.labels.names, every, strict=True):
        if np.isnan(drawn).all():
            found[name] = None
        else:
            low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found[name] = (float(low), float(high))
    return found


def reliability_bins(decisions: Decisions, logits: np.ndarray, data: MultiLabelDataset) -> Reliability:
    """How often labels are present at each probability, over the cells of all labels, before and after calibration.

    Bins are of equal mass.

    Args:
        decisions: in the order of the labels of `data`.
        logits: `[N, C]`, in the order of the pictures and labels of `data`.
    """
    known = ~data.ignore

    def bins(p: np.ndarray) -> tuple[tuple[float, float, int], ...]:
        (found,) = reliability(data.targets[known][:, None], p[known][:, None])
        return tuple((float(mean), float(share), int(count)) for mean, share, count in zip(*found, strict=True))

    return Reliability(
        sigmoid=bins(sigmoid(np.asarray(decisions.scores(logits), np.float64))),
        calibrated=bins(decisions.probabilities(logits)),
    )


def training_curves(bundle: Bundle) -> Curves:
    """A torch bundle's losses by term and its val mAP; there are no values if it was trained elsewhere."""
    history = bundle.manifest.facts.history
    terms = history[0].terms if history else {}
    return Curves(
        model=bundle.name,
        terms={name: tuple(epoch.terms[name] for epoch in history) for name in terms},
        val_mAP=tuple(epoch.val_mAP for epoch in history),
        best_epoch=bundle.manifest.facts.best_epoch,
    )


def int8_search(bundle: Bundle) -> Quantization | None:
    """How an INT8 bundle was quantised, what was tried, and its worst nodes; None for a float bundle."""
    found = bundle.manifest.calibration
    return found and found.model_copy(update={"sensitivity": found.sensitivity[:WORST]})
