"""How far an engine's answers are from its reference's on the same pictures: logits, decisions, mAP; and budgets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions, changed_share
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import average_precision, decide, f1_scores, sigmoid, top_k

DROP_BUDGET = {"fp32": 0.1, "fp16": 0.2, "int8": 1.0}
"""Largest drop in mAP, in points (0 to 100), by precision."""
DIFF_BUDGET = {"fp32": 0.05, "fp16": 0.5}
"""Largest difference of a logit, by precision: a float engine computes the same model, and mAP alone would not see
logits that are all scaled or shifted. INT8 has no such bound."""
FLIP_BUDGET = {"fp32": 0.001, "fp16": 0.005, "int8": 0.1}
"""Largest share of (picture, label) decisions that change. Thresholds chosen for F1 stand where many pictures are: INT8
that keeps its mAP changes 2 to 6 % of decisions there (quickstart)."""
TOP = 3
"""How many of a picture's best labels are compared as a set; fewer where there are fewer labels."""
MOST_DB = 150.0
"""No float32 value is known better than 2^-25 of itself, which is 150 dB: equal logits are told as this."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Three levels; ignored cells count in none. None is what is not defined where a logit is NaN or infinite."""

    max_abs_diff: float | None
    mean_abs_diff: float | None
    sqnr_db: float | None
    """Signal to noise of the logits: 10·log10(Σ reference² / Σ difference²), at most 150."""
    not_finite: int
    """Logits that are NaN or infinite."""
    flip_rate: float
    """Share of decisions that differ from the reference's, each by its own calibration and thresholds, which are the
    sigmoid and 0.5 where none were fitted."""
    flip_rate_kept: float | None
    """The same had this engine kept the reference's; None where it did."""
    top1_agreement: float | None
    """Share of pictures whose best label is the reference's."""
    topk_agreement: float | None
    """Share of pictures whose `top_k` best labels are the reference's, as a set."""
    top_k: int
    mAP: float | None
    """In [0, 1]."""
    mAP_reference: float
    drop_points: float | None
    """mAP_reference - mAP, in points (0 to 100)."""


def agree(
    logits: np.ndarray,
    reference: np.ndarray,
    data: MultiLabelDataset,
    decisions: Decisions,
    reference_targets: np.ndarray | None = None,
    reference_ignore: np.ndarray | None = None,
) -> Agreement:
    """Compare logits `[N, C]` with a reference `[N, C]`, both in the data set's order of labels.

    Args:
        decisions: the engine's, in any order of labels.
        reference_targets: the labels `[N, C]` that the reference's mAP is of; the data set's by default, as is
            `reference_ignore`.

    Raises:
        InputError: no label has a positive picture.
    """
    reference_targets = data.targets if reference_targets is None else reference_targets
    reference_ignore = data.ignore if reference_ignore is None else reference_ignore
    finite = bool(np.isfinite(logits).all())
    known = ~data.ignore
    difference = np.abs(logits.astype(np.float64) - reference)[known] if finite else None
    own = decisions.ordered(data.labels.names)
    theirs = own.refitted_from or own
    answers = theirs.decide(reference)
    few = min(TOP, logits.shape[1])
    map_reference = _mean(average_precision(reference_targets, reference, reference_ignore))
    map_engine = _mean(average_precision(data.targets, logits, data.ignore)) if finite else None
    return Agreement(
        max_abs_diff=None if difference is None else float(difference.max()),
        mean_abs_diff=None if difference is None else float(difference.mean()),
        sqnr_db=None if difference is None else signal_to_noise(reference[known], difference),
        not_finite=int((~np.isfinite(logits)).sum()),
        flip_rate=changed_share(answers, own.decide(logits), data.ignore),
        flip_rate_kept=changed_share(answers, theirs.decide(logits), data.ignore) if own.refitted_from else None,
        top1_agreement=_same_best(logits, reference, 1, data.ignore) if finite else None,
        topk_agreement=_same_best(logits, reference, few, data.ignore) if finite else None,
        top_k=few,
        mAP=map_engine,
        mAP_reference=map_reference,
        drop_points=None if map_engine is None else 100 * (map_reference - map_engine),
    )


def over_budget(found: Agreement, precision: str, budget: float) -> list[str]:
    """What went beyond the budgets of a precision, a sentence each.

    Args:
        budget: largest drop in mAP points.
    """
    reasons = []
    if found.not_finite:
        reasons.append(f"{found.not_finite} logits are not finite")
    if found.drop_points is not None and found.drop_points > budget:
        reasons.append(f"mAP drops by {found.drop_points:.2f} points; the budget for {precision} is {budget:g}")
    if found.flip_rate > FLIP_BUDGET[precision]:
        reasons.append(
            f"{found.flip_rate:.2%} of the decisions changed; the budget for {precision} is "
            f"{FLIP_BUDGET[precision]:.1%}"
        )
    if found.max_abs_diff is not None and found.max_abs_diff > DIFF_BUDGET.get(precision, math.inf):
        reasons.append(
            f"a logit differs by {found.max_abs_diff:.3g}; the budget for {precision} is {DIFF_BUDGET[precision]:g}"
        )
    return reasons


def label_rows(
    logits: np.ndarray, reference: np.ndarray, data: MultiLabelDataset, targets: np.ndarray, ignore: np.ndarray
) -> list[dict[str, Any]]:
    """AP of every label before and after, the one that moved most first; those without an AP stand last.

    Args:
        targets: the labels `[N, C]` that the reference's AP is of, with their `ignore`.

    Returns:
        For each label: label, positives (pictures), AP_reference, AP and moved_points (AP - AP_reference, in points);
        None where it has no positive, or a logit that is not finite.
    """
    before = average_precision(targets, reference, ignore)
    after = np.full_like(before, np.nan)
    finite = np.isfinite(logits).all(axis=0)
    after[finite] = average_precision(data.targets[:, finite], logits[:, finite], data.ignore[:, finite])
    moved = 100 * (after - before)
    positives = ((data.targets == 1) & ~data.ignore).sum(axis=0)
    order = np.lexsort((np.arange(len(moved)), -np.nan_to_num(np.abs(moved), nan=-1)))
    return [
        {
            "label": data.labels.names[column],
            "positives": int(positives[column]),
            "AP_reference": _number(before[column]),
            "AP": _number(after[column]),
            "moved_points": _number(moved[column]),
        }
        for column in order
    ]


def f1_rows(logits: np.ndarray, data: MultiLabelDataset, decisions: Decisions) -> dict[str, dict[str, float]] | None:
    """The field's CP, CR, CF1, OP, OR, OF1 (see `multilabel.metrics.f1_scores`) of logits `[N, C]`.

    Returns:
        By how labels are answered yes: `thresholds` (the bundle's), `0.5` (on the sigmoid) and `top_3` (the best labels
        of each picture, or all of fewer). None where a logit is not finite.
    """
    if not np.isfinite(logits).all():
        return None
    found = {
        "thresholds": decisions.decide(logits),
        "0.5": decide(sigmoid(logits)),
        "top_3": top_k(logits, min(3, logits.shape[1]), data.ignore),
    }
    scores = {name: asdict(f1_scores(data.targets, answers, data.ignore)) for name, answers in found.items()}
    return {name: {key: row[key] for key in ("CP", "CR", "CF1", "OP", "OR", "OF1")} for name, row in scores.items()}


def signal_to_noise(signal: np.ndarray, noise: np.ndarray) -> float:
    """10·log10(Σ signal² / Σ noise²) in dB, at most `MOST_DB`."""
    return decibels(float(np.square(signal, dtype=np.float64).sum()), float(np.square(noise, dtype=np.float64).sum()))


def decibels(signal_power: float, noise_power: float) -> float:
    """Two sums of squares as dB, from `-MOST_DB` to `MOST_DB`; `-MOST_DB` where one is not finite."""
    if not (math.isfinite(signal_power) and math.isfinite(noise_power)):
        return -MOST_DB
    if noise_power == 0:
        return MOST_DB
    if signal_power == 0:
        return -MOST_DB
    return min(max(10 * math.log10(signal_power / noise_power), -MOST_DB), MOST_DB)


def _same_best(logits: np.ndarray, reference: np.ndarray, k: int, ignore: np.ndarray) -> float:
    return float((top_k(logits, k, ignore) == top_k(reference, k, ignore)).all(axis=1).mean())


def _mean(per_label: np.ndarray) -> float:
    if np.isnan(per_label).all():
        raise InputError("no label has a positive picture in this split: mAP is not defined")
    return float(np.nanmean(per_label))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
