"""A teacher is examined on val before it teaches: what it reaches, how it is calibrated, what it should not teach."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from edgepress.compress.reading import Reading
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Affine, FittedAnswers
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.grouped import grouped
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.metrics import average_precision, labels_counted, sigmoid

log = logging.getLogger("edgepress")
_NAMED = 8
"""Most labels that a line names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """What of a teacher's answers is taught."""

    taught: np.ndarray
    """bool `[C]`, the labels whose cells its terms see."""
    inside: np.ndarray
    """bool `[C]`, the labels whose embeddings its terms see."""
    calibrator: Affine | None = None
    """None where its logits are taken as they are."""
    val_mAP: float | None = None
    """In [0, 1], over the labels that it has; None where it was not asked about val."""
    precision: np.ndarray | None = None
    """float64 `[C]`, the share of right answers among those of val of which it is sure; None where val was not asked.
    Each label has one answer with the precision of all labels beside its own, so few answers decide little."""
    weak: np.ndarray | None = None
    """bool `[C]`, the labels whose AP on val is at or below prevalence."""


def examine(
    logits: np.ndarray,
    val: MultiLabelDataset,
    known: np.ndarray,
    single: np.ndarray,
    reading: Reading,
    whose: str,
    sure: float = 0.9,
) -> Examined:
    """Measure a teacher on val, and decide which of its answers are taught and how they are calibrated.

    Args:
        logits: the teacher's `[N, C]` for the pictures of val, in the order of its labels.
        known: bool `[C]`, the labels that the teacher has.
        single: bool `[C]`, the labels for which it has an embedding, if it has any.
        whose: what messages call the teacher.
        sure: the probability from which it is sure of a label.

    Raises:
        InputError: a logit is not finite, or labels are weak and the reading says stop.
    """
    if not np.isfinite(logits[:, known]).all():
        raise InputError(f"{whose}: its logits are not finite for pictures of {val.root}, split {val.split!r}")
    ignore = val.ignore | ~known
    # Of a group with labels that the teacher lacks, those that it has are ranked among themselves.
    names = val.labels.names
    has = LabelSpace(tuple(name for name, one in zip(names, known, strict=True) if one))
    scores = grouped(val.groups.among(has), names).log_odds(logits)
    precision, chance = average_precision(val.targets, scores, ignore), _prevalences(val.targets, ignore)
    counted = ~np.isnan(precision)
    if not counted.any():
        raise InputError(f"{whose}: no label that it has is shown by some pictures of {val.split!r} and not by others")
    val_map = float(precision[counted].mean())
    weak = counted & (np.nan_to_num(precision) <= chance)
    what = ", ".join(
        f"{name} ({100 * own:.1f}, by chance {100 * random:.1f})"
        for name, own, random in zip(np.array(names)[weak][:_NAMED], precision[weak], chance[weak], strict=False)
    ) + (f", … ({weak.sum()} in all)" if weak.sum() > _NAMED else "")
    if weak.any() and reading.weak == "stop":
        raise InputError(
            f"{whose}: its AP on {val.split} is at or below prevalence for {what}: set teacher_weak to mask, which "
            f"leaves them out of its terms, or to keep"
        )
    fitted = _calibrated(logits, val.targets, ignore | val.grouped.member, reading)
    said = [f"{whose}: val mAP {100 * val_map:.2f}" + (f" over {counted.sum()} labels" if not counted.all() else "")]
    if fitted is not None and fitted.calibrator.method != "none":
        losses = f"log loss on val {fitted.loss_before:.3f}, then {fitted.loss:.3f}"
        said.append(f"calibrated by {fitted.calibrator.method} ({losses})")
    if weak.any():
        said.append(f"at or below prevalence, {'but' if reading.weak == 'keep' else 'not'} taught: {what}")
    log.info("%s", "; ".join(said))
    taught = known & ~weak if reading.weak == "mask" else known
    calibrator = None if fitted is None or fitted.calibrator.method == "none" else fitted.calibrator
    trusted = _sure_precision(logits, calibrator, sure, val.targets == 1, ignore)
    found = {"calibrator": calibrator, "val_mAP": val_map, "precision": trusted, "weak": weak}
    return Examined(taught=taught, inside=taught & single, **found)


def _sure_precision(
    logits: np.ndarray, calibrator: Affine | None, sure: float, true: np.ndarray, ignore: np.ndarray
) -> np.ndarray:
    """Precision `[C]` of the answers with a probability of at least `sure`; 0 if there are none at all."""
    said = ((sigmoid(logits) if calibrator is None else calibrator(logits)) >= sure) & ~ignore
    right, count = (said & true).sum(axis=0), said.sum(axis=0)
    overall = right.sum() / max(count.sum(), 1)
    return (right + overall) / (count + 1)


def _calibrated(logits: np.ndarray, targets: np.ndarray, ignore: np.ndarray, reading: Reading) -> FittedAnswers | None:
    if reading.calibration == "none" or not labels_counted(targets, ignore):  # every label is in a group
        return None
    assert reading.calibrate is not None, "a reading that calibrates has the means"
    return reading.calibrate(logits, targets, ignore, reading.calibration)


def _prevalences(targets: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """Share of positives among the known cells of each label, float64 `[C]`; 0 where none is known."""
    known = (~ignore).sum(axis=0)
    return ((targets == 1) & ~ignore).sum(axis=0) / np.maximum(known, 1)
