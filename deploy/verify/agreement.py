"""How far an engine's answers are from its reference's on the same pictures (logits, decisions, mAP), and may be."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from edgepress.deploy.engines.golden import ALLOWED_DIFF
from edgepress.multilabel.judgement import Reason
from edgepress.multilabel.manifest import Precision

ALLOWED_DROP: dict[Precision, float] = {"fp32": 0.1, "fp16": 0.2, "int8": 1.0}
"""Largest drop in mAP, in points (0 to 100), by precision."""
TOP = 3
"""How many of a picture's best labels are compared as a set; fewer where there are fewer labels."""


class Agreement(BaseModel):
    """Agreement at three levels, without ignored cells; None is what a NaN or infinite logit leaves undefined."""

    model_config = ConfigDict(frozen=True)

    max_abs_diff: float | None
    mean_abs_diff: float | None
    sqnr_db: float | None
    """Signal to noise of the logits: 10·log10(Σ reference² / Σ difference²), at most `MOST_DB`."""
    not_finite: int
    """Number of logits that are NaN or infinite."""
    flip_rate: float
    """Share of decisions that differ from the reference's. Each side uses its own calibration and thresholds, or the
    sigmoid and 0.5 where none were fitted."""
    flip_rate_kept: float | None
    """The same share if this engine had kept the reference's calibration and thresholds; None where it did."""
    top1_agreement: float | None
    """Share of pictures whose best label is the reference's."""
    topk_agreement: float | None
    """Share of pictures whose `top_k` best labels are the reference's, as a set."""
    top_k: int
    mAP: float | None
    """mAP in [0, 1]."""
    mAP_reference: float
    drop_points: float | None
    """mAP_reference - mAP, in points (0 to 100)."""


def beyond_allowed(found: Agreement, precision: Precision, drop: float, *, same_pixels: bool = True) -> list[Reason]:
    """The logits and the mAP that are beyond what is allowed for a precision.

    Args:
        drop: the allowed drop in points.
        same_pixels: whether both had the same pixels; where they had not, no bound holds for the logits themselves.
    """
    reasons = []
    if found.not_finite:
        reasons.append(Reason(kind="logits", text=f"{found.not_finite} logits are not finite"))
    if found.drop_points is not None and found.drop_points > drop:
        text = f"mAP drops by {found.drop_points:.2f} points; {drop:g} are allowed for {precision}"
        reasons.append(Reason(kind="drop", text=text))
    if same_pixels and found.max_abs_diff is not None and found.max_abs_diff > ALLOWED_DIFF.get(precision, math.inf):
        allowed = f"{ALLOWED_DIFF[precision]:g} is allowed for {precision}"
        reasons.append(Reason(kind="logits", text=f"a logit differs by {found.max_abs_diff:.3g}; {allowed}"))
    return reasons
