"""The gate on decisions: sound engines pass, each fault does not, and few pictures prove nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.decision_gate import FAULTS, MODELS, SOUND, engine
from edgepress.deploy.verify.decision_gate import (
    BOUNDS,
    ENOUGH,
    Bounded,
    Bounds,
    DecisionGate,
    LabelDrop,
    measure_gate,
)
from edgepress.multilabel.confidence import resample_counts
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.judgement import judge

WEAK, MIDDLING, _ = MODELS


def gate_of(kind: str, seed: int = 0, pictures: int = 1500) -> DecisionGate:
    found, precision = engine(MIDDLING, kind, pictures, 500, seed)
    return found.gate(BOUNDS[precision])


@pytest.mark.parametrize("kind", SOUND)
def test_sound_engines_pass(kind):
    for seed in range(3):
        assert gate_of(kind, seed).reasons() == []


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_no_pass(kind):
    for seed in range(3):
        assert judge(gate_of(kind, seed).reasons()).verdict != "pass"


def test_a_threshold_that_moved_is_found_by_the_yes_that_it_costs_where_f1_does_not_show_it():
    found = gate_of("thresholds 0.1 higher")
    assert found.OF1_drop.value < found.OF1_drop.allowed
    assert found.net_flips.value < -found.net_flips.allowed
    assert any("predicted positives, as a share" in str(reason) for reason in found.reasons())


def test_the_label_that_is_wrong_is_named_with_what_it_lost():
    found, _ = engine(MIDDLING, "two labels' columns swapped", 1500, 500, 0)
    gate = found.gate(BOUNDS["int8"])
    said = [str(reason) for reason in gate.reasons() if reason.kind == "decisions"]
    named = {re.match(r"(\d+): its (?:recall|precision) drops", line) for line in said}
    worst = {int(match.group(1)) for match in named if match}
    moved = np.abs(found.logits - found.reference).mean(axis=0)
    assert worst == set(np.argsort(-moved)[:2].tolist())


def made(pictures: int, lost: int, bounds: Bounds = BOUNDS["int8"], positives: int | None = None) -> DecisionGate:
    """One label, half (or some) of whose pictures show it and are found, except that an engine no longer finds some."""
    positives = pictures // 2 if positives is None else positives
    targets = (np.arange(pictures) < positives)[:, None]
    after = targets.copy()
    after[:lost] = False
    ignore = np.zeros(targets.shape, bool)
    return measure_gate(targets, after, targets, ignore, ("cat",), bounds, resample_counts(pictures, 500))


@pytest.mark.parametrize(
    ("pictures", "lost", "verdict"), [(1000, 10, "pass"), (1000, 55, "unproven"), (1000, 100, "fail"), (400, 0, "pass")]
)
def test_a_label_passes_within_its_bound_fails_beyond_and_is_unproven_between(pictures, lost, verdict):
    loose = Bounds(flips=1, net_flips=1, f1_drop=100, label_drop=12)
    assert judge(made(pictures, lost, loose).reasons()).verdict == verdict


def test_a_label_with_few_positives_is_named_and_binds_only_where_its_loss_is_no_chance():
    loose = Bounds(flips=1, net_flips=1, f1_drop=100, label_drop=12)
    small = made(400, 3, loose, positives=ENOUGH // 3)
    assert small.reasons() == []
    assert (small.few, small.labels_proven) == (("cat",), 0)
    assert small.caution().startswith("1 of 1 labels have fewer than 100 positives")
    assert {one.found for one in small.labels} == {"few"}
    assert judge(made(400, 20, loose, positives=ENOUGH // 3).reasons()).verdict == "fail"
    assert made(400, 3, loose, positives=5).labels == ()  # fewer than 10 say nothing of the label


def test_a_reference_that_never_says_yes_proves_nothing_by_its_decisions():
    targets = np.ones((20, 1), bool)
    nothing = np.zeros_like(targets)
    silent = measure_gate(nothing, nothing, targets, nothing, ("cat",), BOUNDS["int8"], None)
    assert silent.predicted_positives == 0
    assert silent.caution().startswith("the reference answers yes to no label of any picture")


def test_every_overall_bound_fails_beyond_and_is_unproven_where_only_its_interval_is_beyond():
    found = gate_of("int8")
    for name, measured in (("flips", found.flips), ("net_flips", found.net_flips), ("f1_drop", found.CF1_drop)):
        value = abs(measured.value) if name == "net_flips" else measured.value
        highest = max(measured.high, -measured.low) if name == "net_flips" else measured.high
        limits = [max(value - 0.001, 0), (value + highest) / 2, highest + 1e-6]
        wanted = ["fail" if value > limits[0] else "unproven", "unproven", "pass"]
        for limit, verdict in zip(limits, wanted, strict=True):
            loose = Bounds(flips=9, net_flips=9, f1_drop=100, label_drop=100).override(**{name: limit})
            other, _ = engine(MIDDLING, "int8", 1500, 500, 0)
            reasons = other.gate(loose).reasons()
            if name == "f1_drop":
                reasons = [one for one in reasons if "CF1" in str(one)]
            assert judge(reasons).verdict == verdict, (name, limit)


def test_a_rise_is_not_told_as_a_loss_and_what_is_unproven_is_said_to_be_allowed():
    """It read `-0.30 points of OF1 lost ...; 2 is allowed, but its 95 % interval is -1.20 to 2.40`."""
    better = Bounded(value=-0.3, low=-1.2, high=2.4, allowed=2.0)
    fewer = Bounded(value=-0.05, low=-0.1204, high=0.0, allowed=0.1)
    good = Bounded(value=0.0, low=0.0, high=0.0, allowed=1.0)
    unproven = LabelDrop(label="cat", measure="recall", drop=9.0, low=1.0, high=14.11, count=150, found="unproven")
    few = unproven.model_copy(update={"drop": 15.0, "count": 20})
    gate = DecisionGate(
        predicted_positives=40,
        flips=good,
        net_flips=fewer,
        OF1_drop=better,
        CF1_drop=good,
        labels=(unproven, few),
        allowed_label_drop=12.0,
        labels_proven=1,
        few=(),
    )
    assert [str(reason) for reason in gate.reasons("ask")] == [
        "0.050 fewer predicted positives, as a share (of 40 predicted positives), which is allowed, but the true share "
        "may be up to 0.121 (95 %), beyond the allowed 0.1: ask",
        "OF1 rises by 0.30 points (at the bundle's thresholds), which is allowed, but the true drop may be up to 2.4 "
        "(95 %), beyond the allowed 2: ask",
        "cat: its recall drops by 9.0 points on 150 positives, which is allowed, but the true drop may be up to 14.2 "
        "(95 %), beyond the allowed 12: ask",
        "cat: its recall drops by 15.0 points on 20 positives, more than the allowed 12, but the true drop may be "
        "within it (1.0 to 14.1, 95 %): ask",
    ]


def test_without_intervals_only_what_is_measured_is_judged():
    found, _ = engine(WEAK, "int8", 200, 500, 0)
    gate = found.gate(BOUNDS["int8"], intervals=False)
    assert (gate.flips.low, gate.flips.high, gate.labels) == (None, None, ())
    few = engine(WEAK, "int8", 9, 500, 0)[0].gate(BOUNDS["int8"])
    assert few.flips.low is None
    assert DecisionGate.model_validate_json(gate.model_dump_json()) == gate


def test_bounds_that_are_no_numbers_are_refused():
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"flips is .*; expected a number of at least 0"):
            BOUNDS["fp32"].override(flips=wrong)
    assert BOUNDS["fp32"].override(flips=None) == BOUNDS["fp32"]
