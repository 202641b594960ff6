"""The verdicts of a run: on each engine, from everything that was found about it, and on the run itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from edgepress.calibration.int8.search import SLOWER
from edgepress.multilabel.confidence import doubt
from edgepress.multilabel.judgement import Judgement, Reason, judge
from edgepress.multilabel.manifest import Quantization
from edgepress.multilabel.ratio import Ratio
from edgepress.run.result import EngineResult
from edgepress.run.run_report import LatencyBudget


def judge_engine(result: EngineResult, processor: str, budget: LatencyBudget | None) -> Judgement:
    """Everything that speaks against an engine.

    Args:
        processor: the processor here; measurements of the search on another one do not count.
    """
    found = result.verification
    return judge(
        [
            result.refusal,
            *(found.judgement.reasons if found is not None else ()),
            _below_student(result),
            slower_than_fp32(result.int8, processor),
            _slower_than_float(result),
            _over_budget(result, budget),
        ]
    )


def judge_run(results: Iterable[EngineResult], budget: LatencyBudget | None) -> Literal["pass", "fail"]:
    """If engines are required, they must all pass. Otherwise all engines that this machine, or the recipe's host, can
    run must pass, and at least one. With a latency budget at least one engine must be within it; the run passes even
    if others are not.
    """
    if budget is not None and budget.ship is None:
        return "fail"
    judged = [one for one in results if one.role == "engine"]
    wanted = [one for one in judged if one.required] or judged
    found = [one.to_ship.reasons if one.to_ship is not None else () for one in wanted]
    verdicts = {judge(reason for reason in reasons if reason.kind != "latency").verdict for reasons in found}
    accepted = {"pass"} if any(one.required for one in judged) else {"pass", "not run", "not built"}
    return "pass" if "pass" in verdicts and verdicts <= accepted else "fail"


def missed_on_val(found: Quantization | None) -> Reason | None:
    """What the search for an INT8 model lost on val beyond what is allowed; None if it kept to it or had no bound."""
    if found is None or found.val_mAP is None or found.val_mAP_float is None or found.budget is None:
        return None
    drop = 100 * (found.val_mAP_float - found.val_mAP)
    if drop > found.budget:
        return Reason(kind="drop", text=f"val mAP drops by {drop:.2f} points; {found.budget:g} are allowed")
    if found.val_flips is None or found.allowed_flips is None or found.val_flips <= found.allowed_flips:
        return None
    said = f"{found.val_flips:.3f} decisions change on val per predicted positive; {found.allowed_flips:g} are allowed"
    return Reason(kind="decisions", text=said)


def slower_than_fp32(found: Quantization | None, processor: str) -> Reason | None:
    """Why an INT8 model is no gain on this machine, or on the device that it was searched for, if it was timed there.

    Args:
        processor: the processor here.
    """
    if found is None or found.latency is None or not found.latency.slower(SLOWER):
        return None
    if not found.on_device and found.measured_on != processor:
        return None
    where = f" on {found.measured_on}" if found.on_device else ""
    return _slower(f"fp32{where}", found.latency)


def _below_student(result: EngineResult) -> Reason | None:
    """Why an engine of the fine-tuned student, against which it was verified, may not replace the student itself, by
    the allowed drop and interval of `verify`."""
    drop, found = result.student_drop, result.verification
    if drop is None or found is None:
        return None
    side = "above" if round(drop.points, 2) < 0 else "below"
    apart = f"mAP is {abs(drop.points):.2f} points {side} the student's own"
    if drop.points > found.budget_points:
        return Reason(kind="drop", text=f"{apart}; {found.budget_points:g} are allowed")
    unproven = doubt(drop.interval, found.budget_points, found.num_images)
    return None if unproven is None else Reason(kind="interval", text=f"{apart}, which is allowed, but {unproven}")


def _slower_than_float(result: EngineResult) -> Reason | None:
    held = result.held_to
    if held is None or not held.ratio.slower(SLOWER):
        return None
    if result.int8 is not None and result.int8.on_device:  # it was chosen by its times there, not here
        return None
    return _slower(held.engine, held.ratio)


def _slower(than: str, ratio: Ratio) -> Reason:
    """By how much it is slower, within which interval, and what disturbed the timing, which a repeat makes again."""
    again = ": repeat this on an idle machine, which times it again" if ratio.cautions else ""
    told = "; ".join([str(ratio), *ratio.cautions])
    return Reason(kind="slower", text=f"slower than {than} ({told}){again}")


def _over_budget(result: EngineResult, budget: LatencyBudget | None) -> Reason | None:
    if budget is None:
        return None
    p50 = result.p50_to_ship
    if p50 is None or p50 <= budget.budget_ms:
        return None
    where = f" on {budget.host}" if budget.host else ""
    allowed = f"{budget.budget_ms:g} ms are allowed"
    return Reason(kind="latency", text=f"over the latency budget: p50 is {p50:.3g} ms{where}, {allowed}")
