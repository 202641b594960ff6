"""verify: is this engine still the model it came from? On real pictures, against torch's own logits."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from deploy.engines import Engine, open_engine
from deploy.reference import REFERENCE, Reference
from multilabel.bundle import Bundle
from multilabel.datasets import MultiLabelDataset
from multilabel.decisions import changed_share
from multilabel.errors import EngineUnavailableError, InputError
from multilabel.metrics import average_precision, labels_counted

log = logging.getLogger("edgepress")

DROP_BUDGET = {"fp32": 0.1, "fp16": 0.2, "int8": 1.0}
"""Largest drop in mAP, in points (0 to 100), by precision."""
DIFF_BUDGET = {"fp32": 0.05, "fp16": 0.5}
"""Largest difference of a logit, by precision: a float engine computes the same model, and mAP alone would not see
logits that are all scaled or shifted. INT8 has no such bound."""
FLIP_BUDGET = {"fp32": 0.001, "fp16": 0.005, "int8": 0.1}
"""Largest share of (picture, label) decisions that change. Thresholds chosen for F1 stand where many pictures are: INT8
that keeps its mAP changes 2 to 6 % of decisions there (quickstart)."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was compared, how far apart it was, and the verdict."""

    engine: str
    precision: str
    reference: str
    """Whose logits the engine's were compared with."""
    num_images: int
    labels_counted: int
    mAP: float | None
    """In [0, 1]; None where the logits are not finite."""
    mAP_reference: float
    drop_points: float | None
    """mAP_reference - mAP, in points (0 to 100)."""
    max_abs_diff: float | None
    mean_abs_diff: float | None
    flip_rate: float
    """Share of decisions that differ from the reference's, each by its own calibration and thresholds, which are the
    sigmoid and 0.5 where none were fitted; ignored cells are left out here too."""
    flip_rate_kept: float | None
    """The same had this engine kept the reference's; None where it did."""
    budget_points: float
    verdict: str
    """`pass` or `fail`."""
    reasons: list[str] = field(default_factory=list)
    """Why it failed."""
    ran: dict[str, str] = field(default_factory=dict)
    """Runtime, provider and precision that really executed."""
    logits: np.ndarray | None = field(default=None, repr=False, compare=False)
    """The engine's own, float32 `[N, C]`, in the data set's order of labels; not in `as_dict`."""

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(replace(self, logits=None)).items() if name != "logits"}


def verify(bundle: Bundle, data: MultiLabelDataset, device: str = "cpu", budget: float | None = None) -> Verification:
    """Run a bundle's engine over a split and compare it with the model it came from.

    The reference is `reference.npz` where it covers every picture of the split; elsewhere the fp32 ONNX among the
    bundle's parents (for that ONNX itself, its torch parent).

    Args:
        budget: largest drop in mAP points; by default `DROP_BUDGET` of the bundle's precision.

    Raises:
        InputError: the data set has other labels, a picture cannot be read, or there is no reference for it.
        EngineUnavailableError: this machine cannot run the engine.
    """
    if budget is not None and not math.isfinite(budget):
        raise InputError(f"budget is {budget}; expected a number of mAP points")
    columns = _columns(bundle, data)
    reference, name, targets, ignore = _reference(bundle, data)
    with open_engine(bundle, device) as engine:
        logits, ran = predict_split(engine, data), engine.ran
    # From here on everything is in the data set's order of labels, matched by name.
    return compare(
        bundle,
        logits[:, columns],
        reference,
        data,
        reference_name=name,
        reference_targets=targets,
        reference_ignore=ignore,
        budget=budget,
        ran=ran,
    )


def compare(
    bundle: Bundle,
    logits: np.ndarray,
    reference: np.ndarray,
    data: MultiLabelDataset,
    *,
    reference_name: str,
    reference_targets: np.ndarray,
    reference_ignore: np.ndarray,
    budget: float | None,
    ran: dict[str, str],
) -> Verification:
    """The verdict on logits `[N, C]` against a reference `[N, C]`, both in the data set's order of labels."""
    precision = bundle.manifest.precision
    budget = DROP_BUDGET[precision] if budget is None else budget
    reasons = []
    if bundle.labels.names != data.labels.names:
        reasons.append("the data set has the bundle's labels in another order: give its labels.txt the bundle's order")
    changed = ((reference_targets != data.targets) | (reference_ignore != data.ignore)).any(axis=1).sum()
    if changed:
        reasons.append(f"the labels of {changed} pictures have changed since the reference was made: export again")
    finite = np.isfinite(logits).all()
    if not finite:
        reasons.append(f"{int((~np.isfinite(logits)).sum())} of {logits.size} logits are not finite")
    known = ~data.ignore
    difference = np.abs(logits.astype(np.float64) - reference)[known]
    own = bundle.decisions.ordered(data.labels.names)
    theirs = own.refitted_from or own
    answers = theirs.decide(reference)
    flips = changed_share(answers, own.decide(logits), data.ignore)
    kept = changed_share(answers, theirs.decide(logits), data.ignore) if own.refitted_from else None
    map_reference = _mean(average_precision(reference_targets, reference, reference_ignore))
    map_engine = _mean(average_precision(data.targets, logits, data.ignore)) if finite else None
    drop = None if map_engine is None else 100 * (map_reference - map_engine)
    if drop is not None and drop > budget:
        reasons.append(f"mAP drops by {drop:.2f} points; the budget for {precision} is {budget:g}")
    if flips > FLIP_BUDGET[precision]:
        reasons.append(
            f"{flips:.2%} of the decisions changed; the budget for {precision} is {FLIP_BUDGET[precision]:.1%}"
        )
    largest = float(difference.max()) if finite else None
    if largest is not None and largest > DIFF_BUDGET.get(precision, math.inf):
        reasons.append(f"a logit differs by {largest:.3g}; the budget for {precision} is {DIFF_BUDGET[precision]:g}")
    return Verification(
        engine=bundle.name,
        precision=precision,
        reference=reference_name,
        num_images=len(data),
        labels_counted=labels_counted(data.targets, data.ignore),
        mAP=map_engine,
        mAP_reference=map_reference,
        drop_points=drop,
        max_abs_diff=largest,
        mean_abs_diff=float(difference.mean()) if finite else None,
        flip_rate=flips,
        flip_rate_kept=kept,
        budget_points=budget,
        verdict="fail" if reasons else "pass",
        reasons=reasons,
        ran=ran,
        logits=logits,
    )


def predict_split(engine: Engine, data: MultiLabelDataset, batch: int = 32) -> np.ndarray:
    """An engine's float32 logits `[N, C]` on a split, in its order.

    Raises:
        InputError: a picture cannot be read; names it.
    """
    parts = []
    for start in range(0, len(data), batch):
        parts.append(engine(np.stack([engine.preprocess.load(path) for path in data.paths[start : start + batch]])))
    return np.concatenate(parts)


def float_onnx(bundle: Bundle) -> Bundle | None:
    """The nearest fp32 ONNX among a bundle's parents, where they all stand beside it; else None."""
    parent = bundle.open_parent()
    while parent is not None and (parent.manifest.kind, parent.manifest.precision) != ("onnx", "fp32"):
        parent = parent.open_parent()
    return parent


def _columns(bundle: Bundle, data: MultiLabelDataset) -> list[int]:
    """Where each of the data set's labels stands among the bundle's; the two must hold the same names."""
    if set(bundle.labels.names) != set(data.labels.names):
        bundle.labels.require_equal(data.labels, f"the bundle {bundle.path}", f"the data set {data.root}")
    return [bundle.labels.index(name) for name in data.labels.names]


def _reference(bundle: Bundle, data: MultiLabelDataset) -> tuple[np.ndarray, str, np.ndarray, np.ndarray]:
    """Reference logits in the data set's order, their name, and the targets and ignore mask they were made with."""
    if bundle.manifest.kind == "torch":
        raise InputError(f"{bundle.path}: a torch bundle is what engines are verified against; verify its ONNX instead")
    file = bundle.path / REFERENCE
    if REFERENCE in bundle.manifest.files:
        stored = Reference.load(file)
        rows = stored.rows(data.hashes())
        if rows is not None and set(stored.labels) == set(data.labels.names):
            columns = [stored.labels.index(name) for name in data.labels.names]
            return (
                stored.logits[rows][:, columns],
                f"torch ({REFERENCE})",
                stored.targets[rows][:, columns],
                stored.ignore[rows][:, columns],
            )
    parent = float_onnx(bundle)
    if parent is None and (bundle.manifest.kind, bundle.manifest.precision) == ("onnx", "fp32"):
        parent = bundle.open_parent()  # the torch model; anything nearer would be compared with itself
    if parent is None:
        raise InputError(
            f"{bundle.path}: its {REFERENCE} does not cover these pictures, and the bundle it was made from "
            f"({bundle.manifest.parent.name if bundle.manifest.parent else 'none'}) does not stand beside it, unchanged"
        )
    log.info("%s does not cover these pictures: the reference is %s", REFERENCE, parent.path)
    columns = _columns(parent, data)
    try:
        with open_engine(parent) as engine:
            return predict_split(engine, data)[:, columns], parent.name, data.targets, data.ignore
    except EngineUnavailableError as error:  # of the reference, not of the engine that is asked about
        raise InputError(f"{bundle.path}: the reference {parent.path} cannot run here: {error}") from error


def _mean(per_label: np.ndarray) -> float:
    if np.isnan(per_label).all():
        raise InputError("no label has a positive picture in this split: mAP is not defined")
    return float(np.nanmean(per_label))
