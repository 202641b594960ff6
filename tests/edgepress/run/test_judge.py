"""Where an engine and a run are judged: every check alone, and the order in which engines are named changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepress.multilabel.judgement import Reason, judge
from edgepress.multilabel.manifest import Quantization
from edgepress.multilabel.ratio import Ratio
from edgepress.run.judge import judge_engine, judge_run, missed_on_val, slower_than_fp32
from edgepress.run.latency_budget import choose_engine
from edgepress.run.recipe import Recipe, load_recipe
from edgepress.run.result import EngineResult, HeldTo, OnHost, StudentDrop
from edgepress.run.run_report import LatencyBudget, RunReport, read_report

HERE = "a processor"
SLOW = Ratio(ratio=1.12, low=1.05, high=1.2)


def calibration(**more: Any) -> Quantization:
    return Quantization(pictures=8, sha256="", split="train", method="min-max", **more)


@pytest.fixture(scope="module")
def passing(run_folder) -> EngineResult:
    """An engine that passes whatever it was given, of one millisecond."""
    (one,) = (one for one in read_report(run_folder).engines if one.engine == "onnx-fp32")
    assert one.verdict == "pass"
    return with_p50(one, 1.0)


def with_p50(result: EngineResult, p50: float) -> EngineResult:
    cell = result.bench.cells[0]
    bench = replace(result.bench, cells=[replace(cell, model=replace(cell.model, p50_ms=p50))])
    return result.model_copy(update={"bench": bench})


def test_the_quickstart_searches_for_fewer_changed_decisions_than_it_must_prove():
    """With as many on val as on test, an engine on x86 without VNNI was unproven by the few test pictures."""
    recipe = load_recipe(Path(__file__).parents[3] / "examples" / "quickstart.yaml", {}, Recipe)
    assert recipe.quantize.flips <= 0.6 * recipe.verify.flips.int8


def judged(result: EngineResult, budget: LatencyBudget | None = None, **changes: Any) -> EngineResult:
    result = result.model_copy(update=changes)
    return result.model_copy(update={"judgement": judge_engine(result, HERE, budget)})


def kinds(result: EngineResult) -> list[str]:
    return [reason.kind for reason in result.reasons]


def test_nothing_speaks_against_what_passed(passing):
    assert judged(passing).verdict == "pass"


@pytest.mark.parametrize(
    ("found", "kind", "verdict"),
    [("machine", "machine", "not run"), ("build", "build", "not built"), ("model", "model", "fail")],
)
def test_a_refusal_is_judged_by_its_kind(found, kind, verdict):
    one = EngineResult(engine="a", precision="fp32", refusal=Reason(kind=found, text="no"))
    assert (judged(one).verdict, kinds(judged(one))) == (verdict, [kind])


def test_int8_that_its_search_measured_slower_fails_where_it_was_measured(passing):
    here, elsewhere = (calibration(latency=SLOW, measured_on=name) for name in (HERE, "another processor"))
    assert str(slower_than_fp32(here, HERE)) == "slower than fp32 (1.12 times, 1.05 to 1.20)"
    assert slower_than_fp32(elsewhere, HERE) is slower_than_fp32(calibration(), HERE) is slower_than_fp32(None, HERE)
    assert judged(passing, int8=here).verdict == "fail"
    assert judged(passing, int8=elsewhere).verdict == "pass"


def test_int8_that_was_searched_on_a_device_is_held_to_its_times_there(passing):
    there = calibration(latency=SLOW, measured_on="Cortex-A76", on_device=True)
    assert str(slower_than_fp32(there, HERE)) == "slower than fp32 on Cortex-A76 (1.12 times, 1.05 to 1.20)"
    assert judged(passing, int8=there).verdict == "fail"
    faster = there.model_copy(update={"latency": Ratio(ratio=0.4, low=0.38, high=0.42)})
    held = HeldTo(engine="onnx-fp16", digest="d", ratio=SLOW)  # here, where it was not chosen to be fast
    assert judged(passing, int8=faster, held_to=held).verdict == "pass"
    assert judged(passing, int8=faster.model_copy(update={"on_device": False}), held_to=held).verdict == "fail"


@pytest.mark.parametrize(("drop", "over"), [(-1.0, False), (0.49, False), (0.51, True)])
def test_a_search_that_missed_its_budget_says_by_how_much(drop, over):
    missed = missed_on_val(calibration(val_mAP_float=0.5, val_mAP=0.5 - drop / 100, budget=0.5))
    assert (missed is not None) == over
    if missed is not None:
        assert str(missed) == "val mAP drops by 0.51 points; 0.5 are allowed"
    assert missed_on_val(None) is missed_on_val(calibration(val_mAP=0.1, val_mAP_float=0.5))


@pytest.mark.parametrize(("flips", "over"), [(0.2, False), (0.21, True), (None, False)])
def test_a_search_that_changed_too_many_decisions_says_how_many(flips, over):
    kept = {"val_mAP_float": 0.5, "val_mAP": 0.5, "budget": 0.5}
    missed = missed_on_val(calibration(**kept, val_flips=flips, allowed_flips=0.2))
    assert (missed is not None) == over
    if missed is not None:
        assert str(missed) == "0.210 decisions change on val per predicted positive; 0.2 are allowed"


@pytest.mark.parametrize(("low", "verdict"), [(1.4, "fail"), (0.98, "pass"), (1.01, "pass")])
def test_int8_that_is_slower_than_its_float_engine_beyond_chance_fails(passing, low, verdict):
    held = HeldTo(engine="onnx-fp16", digest="d", ratio=Ratio(ratio=1.5, low=low, high=1.6))
    one = judged(passing, held_to=held)
    assert one.verdict == verdict
    assert [str(reason).startswith("slower than onnx-fp16") for reason in one.reasons] == [True] * (verdict == "fail")


def test_a_fine_tuned_engine_is_held_to_the_student_it_stands_for(passing):
    """By the drop and by its interval, as verify holds an engine to what it was made from."""
    budget = passing.verification.budget_points

    def held(points: float, high: float | None) -> EngineResult:
        drop = StudentDrop(points=points, interval=None if high is None else (points - 1, high))
        return judged(passing, student_drop=drop, finetuned=True)

    assert held(budget - 0.01, budget).verdict == "pass"
    unproven = held(budget - 0.01, budget + 1)
    assert (unproven.verdict, kinds(unproven)) == ("unproven", ["interval"])
    told = f"mAP is {budget - 0.01:.2f} points below the student's own, which is allowed, but on 12 pictures the true"
    assert str(unproven.reasons[0]).startswith(told)
    assert str(held(-0.3, budget + 1).reasons[0]).startswith("mAP is 0.30 points above the student's own, which is")
    worse = held(budget + 0.01, budget + 1)
    assert (worse.verdict, kinds(worse)) == ("fail", ["drop"])


def test_an_engine_over_the_latency_budget_does_not_pass(passing):
    """It was told as `pass: over the latency budget`."""
    budget = LatencyBudget(budget_ms=8.0)
    over = judged(with_p50(passing, 9.25), budget)
    assert (over.verdict, kinds(over)) == ("fail", ["latency"])
    assert str(over.reasons[0]) == "over the latency budget: p50 is 9.25 ms, 8 ms are allowed"
    assert judged(with_p50(passing, 8.0), budget).verdict == "pass"
    assert judged(with_p50(passing, 9.25), None).verdict == "pass"


def test_with_a_host_its_time_counts(passing):
    budget = LatencyBudget(budget_ms=8.0, host="me@board")
    seen = OnHost(judgement=judge([]), p50_ms=9.0)
    assert kinds(judged(passing, budget, on_host=seen)) == ["latency"]
    assert judged(passing, budget, on_host=seen.model_copy(update={"p50_ms": 7.0})).verdict == "pass"


def test_the_engine_to_ship_is_the_best_on_val_and_of_equals_the_faster(passing):
    budget = LatencyBudget(budget_ms=8.0)
    results = [
        judged(with_p50(passing, 5.0), budget, engine="slow"),
        judged(with_p50(passing, 3.0), budget, engine="quick"),
        judged(with_p50(passing, 1.0), budget, engine="int8", int8=calibration(val_mAP=0.4)),
        judged(with_p50(passing, 9.0), budget, engine="over", int8=calibration(val_mAP=0.9)),
    ]
    for order in (results, results[::-1]):
        chosen = choose_engine(order, budget, 0.5)
        assert chosen.ship == "quick"
        assert judge_run(order, chosen) == "pass"  # that another is over the budget is no failure of the run
    none = choose_engine(results[-1:], budget, 0.5)
    assert none.ship is None
    assert judge_run(results, none) == "fail"


def test_on_a_host_an_engine_must_hold_what_was_found_here(passing):
    budget = LatencyBudget(budget_ms=8.0, host="me@board")
    seen = OnHost(judgement=judge([]), p50_ms=2.0)
    only_there = judged(
        EngineResult(engine="a", precision="fp32", bundle="a", refusal=Reason(kind="machine", text="not here")),
        budget,
        on_host=seen,
    )
    assert choose_engine([only_there], budget, 0.5).ship == "a"
    assert choose_engine([judged(with_p50(passing, 1.0), budget)], budget, 0.5).ship is None  # never seen there
    worse = judged(passing, budget, on_host=seen, student_drop=StudentDrop(points=9.0, interval=None))
    assert choose_engine([worse], budget, 0.5).ship is None
    refused = OnHost(judgement=judge([Reason(kind="drop", text="mAP drops")]), p50_ms=2.0)
    assert choose_engine([judged(passing, budget, on_host=refused)], budget, 0.5).ship is None


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (None, None, "pass"),
        ("machine", None, "pass"),  # this machine cannot run it, the host can
        (None, "machine", "fail"),  # no engine runs there
        (None, "drop", "fail"),
        ("drop", None, "fail"),  # what was found here about the model counts there too
    ],
)
def test_a_host_without_a_latency_budget_decides(passing, here, there, said):
    seen = OnHost(judgement=judge([there and Reason(kind=there, text="there")]), p50_ms=None if there else 2.0)
    refusal = here and Reason(kind=here, text="here")
    one = passing if here is None else EngineResult(engine="a", precision="fp32", bundle="a", refusal=refusal)
    result = judged(one, None, on_host=seen)
    assert judge_run([result], None) == said
    assert (result.to_ship.verdict == "pass") == (said == "pass")


@pytest.mark.parametrize(
    ("verdicts", "required", "said"),
    [
        ({"a": None}, (), "pass"),
        ({"a": None, "b": "machine"}, (), "pass"),
        ({"a": None, "b": "drop"}, (), "fail"),
        ({"a": None, "b": "interval"}, (), "fail"),
        ({"a": "machine", "b": "build"}, (), "fail"),
        ({"a": None, "b": "drop"}, ("a",), "pass"),
        ({"a": None, "b": "machine"}, ("a", "b"), "fail"),
        ({}, (), "fail"),
    ],
)
def test_a_run_passes_where_what_it_needs_does(verdicts, required, said):
    results = [
        EngineResult(
            engine=name,
            precision="fp32",
            required=name in required,
            judgement=judge([kind and Reason(kind=kind, text="because")]),
        )
        for name, kind in verdicts.items()
    ]
    assert judge_run(results, None) == judge_run(results[::-1], None) == said


def test_the_report_names_the_folder_to_ship(run_folder):
    """Of INT8 it may be the fine-tuned student's; the row's own name is the folder that missed its budget."""
    from edgepress.report.comparison import compare_runs
    from edgepress.report.overview import headline

    report = read_report(run_folder)
    tuned = [one.model_copy(update={"bundle": f"{one.engine}-finetuned", "finetuned": True}) for one in report.engines]
    changed: RunReport = report.model_copy(update={"engines": tuple(tuned)})
    folder = f"{changed.to_ship.engine}-finetuned"
    assert headline(changed)[0].startswith(f"{folder} is the fastest engine that passes")
    assert compare_runs({"a": changed, "b": report})["runs"][0]["to_ship"] == folder
