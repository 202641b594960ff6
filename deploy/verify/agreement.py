"""How far an engine's answers are from its reference's on the same pictures (logits, decisions, mAP), and budgets."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from edgepress.deploy.engines.golden import DIFF_BUDGET
from edgepress.multilabel.judgement import Reason
from edgepress.multilabel.manifest import Precision

DROP_BUDGET: dict[Precision, float] = {"fp32": 0.1, "fp16": 0.2, "int8": 1.0}
"""Largest drop in mAP, in points (0 to 100), by precision."""
FLIP_BUDGET: dict[Precision, float] = {"fp32": 0.001, "fp16": 0.005, "int8": 0.1}
"""Largest share of (picture, label) decisions that change. Thresholds chosen for F1 are where many pictures are: INT8
that keeps its mAP changes 2 to 6 % of decisions there (quickstart)."""
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


def beyond_budgets(found: Agreement, precision: Precision, budget: float) -> list[Reason]:
    """The values that are beyond the budgets of a precision.

    Args:
        budget: largest drop in mAP points.
    """
    reasons = []
    if found.not_finite:
        reasons.append(Reason(kind="logits", text=f"{found.not_finite} logits are not finite"))
    if found.drop_points is not None and found.drop_points > budget:
        text = f"mAP drops by {found.drop_points:.2f} points; the budget for {precision} is {budget:g}"
        reasons.append(Reason(kind="drop", text=text))
    if found.flip_rate > FLIP_BUDGET[precision]:
        allowed = f"the budget for {precision} is {FLIP_BUDGET[precision]:.1%}"
        reasons.append(Reason(kind="decisions", text=f"{found.flip_rate:.2%} of the decisions changed; {allowed}"))
    if found.max_abs_diff is not None and found.max_abs_diff > DIFF_BUDGET.get(precision, math.inf):
        allowed = f"the budget for {precision} is {DIFF_BUDGET[precision]:g}"
        reasons.append(Reason(kind="logits", text=f"a logit differs by {found.max_abs_diff:.3g}; {allowed}"))
    return reasons
