"""Decisions: probabilities and yes or no by hand-computed numbers, in a bundle, and refused where they do not fit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from edgepress.multilabel.bundle import MANIFEST, Bundle, write_bundle
from edgepress.multilabel.decisions import Affine, Decisions, Isotonic, changed_share, flips_per_yes
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.preprocess import Preprocess

LABELS = ("dog", "cat")
PLATT = Affine(method="platt", slopes=(0.5, 2.0), offsets=(0.0, -1.0))
STEPS = Isotonic(
    slopes=(1.0, 1.0), offsets=(0.0, 0.0), weights=(0.5, 0.0), knots=(((-1.0, 0.1), (1.0, 0.5), (3.0, 0.9)), ())
)
DECISIONS = Decisions(labels=LABELS, thresholds=(0.6, 0.25), calibrator=PLATT)
LOGITS = np.array([[2.0, 0.0], [-4.0, 1.0]], np.float32)


def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def write(path: Path, **fields) -> Bundle:
    given = {"labels": LABELS, "preprocess": Preprocess(size=32), **fields}
    with write_bundle(path, kind="onnx", precision="fp32", model="model.onnx", **given) as folder:
        (folder / "model.onnx").write_bytes(b"model")
    return Bundle.open(path)


def test_probabilities_and_answers_are_those_computed_by_hand():
    expected = [[sigma(1.0), sigma(-1.0)], [sigma(-2.0), sigma(1.0)]]
    assert DECISIONS.probabilities(LOGITS) == pytest.approx(np.array(expected))
    assert DECISIONS.decide(LOGITS).tolist() == [[True, True], [False, True]]  # 0.73 0.27 / 0.12 0.73


@pytest.mark.parametrize(
    ("logit", "step"), [(-9.0, 0.1), (-1.0, 0.1), (0.0, 0.3), (1.0, 0.5), (2.0, 0.7), (3.0, 0.9), (9.0, 0.9)]
)
def test_steps_are_joined_by_lines_and_mixed_with_the_pooled_fit(logit, step):
    first, second = STEPS(np.array([[logit, logit]]))[0]
    assert first == pytest.approx(0.5 * step + 0.5 * sigma(logit))
    assert second == pytest.approx(sigma(logit))


@pytest.mark.parametrize("calibrator", [PLATT, STEPS])
def test_extreme_logits_stay_finite_and_in_order(calibrator):
    logits = np.repeat(np.array([[-1000.0], [-100.0], [0.0], [100.0], [1000.0]]), 2, axis=1)
    p = calibrator(logits)
    assert np.isfinite(p).all()
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p, axis=0) >= 0).all()


@pytest.mark.parametrize("calibrator", [PLATT, STEPS])
def test_after_a_line_and_another_order_are_the_same_function(calibrator):
    logits = np.random.default_rng(0).normal(0, 3, (50, 2))
    slopes, offsets = np.array([2.0, 0.5]), np.array([-1.0, 3.0])
    assert calibrator.after(slopes, offsets)(logits) == pytest.approx(calibrator(logits * slopes + offsets))
    decisions = Decisions(labels=LABELS, thresholds=(0.3, 0.7), calibrator=calibrator)
    turned = decisions.ordered(("cat", "dog"))
    assert turned.labels == ("cat", "dog")
    assert turned.probabilities(logits[:, ::-1]) == pytest.approx(decisions.probabilities(logits)[:, ::-1])
    assert (turned.decide(logits[:, ::-1]) == decisions.decide(logits)[:, ::-1]).all()


def test_a_bundle_gives_back_what_was_fitted(tmp_path):
    fitted = Decisions(labels=LABELS, thresholds=(1 / 3, 0.1), calibrator=STEPS, refitted_from=DECISIONS)
    assert write(tmp_path / "b", decisions=fitted).decisions == fitted


def test_a_bundle_without_them_decides_by_the_sigmoid_and_a_half(tmp_path):
    decisions = write(tmp_path / "b").decisions
    assert decisions.thresholds == (0.5, 0.5)
    assert decisions.fit is None
    assert decisions.probabilities(np.array([[0.0, math.log(3)]])) == pytest.approx(np.array([[0.5, 0.75]]))
    assert decisions.decide(np.array([[0.0, math.log(3) + 1e-9]])).tolist() == [[True, True]]


def test_a_changed_threshold_is_refused(tmp_path):
    write(tmp_path / "b", decisions=DECISIONS)
    file = tmp_path / "b" / MANIFEST
    text = file.read_text()
    assert text.count("0.25") == 1
    file.write_text(text.replace("0.25", "0.26"))
    with pytest.raises(InputError, match="changed since the bundle was made"):
        Bundle.open(tmp_path / "b")


def test_decisions_of_other_labels_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="decisions"):
        write(tmp_path / "b", decisions=DECISIONS.ordered(("cat", "dog")))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Affine(method="platt", slopes=(1.0, 0.0), offsets=(0.0, 0.0)),
        lambda: Affine(method="platt", slopes=(1.0,), offsets=(0.0, 0.0)),
        lambda: Affine(method="platt", slopes=(math.nan,), offsets=(0.0,)),
        lambda: Isotonic(slopes=(1.0,), offsets=(0.0,), weights=(0.5,), knots=(((0.0, 0.5), (1.0, 0.4)),)),
        lambda: Isotonic(slopes=(1.0,), offsets=(0.0,), weights=(0.5,), knots=((),)),
        lambda: Isotonic(slopes=(1.0,), offsets=(0.0,), weights=(1.0,), knots=(((0.0, 0.5),),)),
        lambda: Isotonic(slopes=(1.0,), offsets=(0.0,), weights=(0.5,), knots=(((0.0, 1.5),),)),
        lambda: Decisions(labels=LABELS, thresholds=(0.5,), calibrator=PLATT),
        lambda: Decisions(labels=LABELS, thresholds=(0.5, 1.5), calibrator=PLATT),
        lambda: Decisions(labels=("a", "b"), thresholds=(0.5, 0.5), calibrator=PLATT, refitted_from=DECISIONS),
    ],
)
def test_what_is_no_calibrator_is_refused(make):
    with pytest.raises(ValidationError):
        make()


def test_logits_of_another_shape_are_named():
    with pytest.raises(InputError, match=r"received logits \[2, 3\]; expected \[N, 2\]"):
        DECISIONS.probabilities(np.zeros((2, 3)))


def test_the_share_that_changed_leaves_ignored_cells_out():
    before, after = np.array([[True, False], [True, True]]), np.array([[True, True], [False, True]])
    assert changed_share(before, after, np.zeros((2, 2), bool)) == 0.5
    assert changed_share(before, after, np.array([[False, True], [False, False]])) == pytest.approx(1 / 3)
    assert changed_share(before, after, np.ones((2, 2), bool)) == 0


def test_flips_are_counted_per_yes_of_the_first_and_leave_ignored_cells_out():
    before, after = np.array([[True, False], [True, True]]), np.array([[True, True], [False, True]])
    none = np.zeros((2, 2), bool)
    assert flips_per_yes(before, after, none) == pytest.approx(2 / 3)
    assert flips_per_yes(before, after, np.array([[False, True], [False, False]])) == pytest.approx(1 / 3)
    assert flips_per_yes(none, after, none) == 3
    assert flips_per_yes(before, after, np.ones((2, 2), bool)) == 0


GROUPED = Decisions(
    labels=("front", "back", "bird", "animal"),
    thresholds=(0.9, 0.9, 0.5, 0.95),
    calibrator=Affine(method="none", slopes=(1.0,) * 4, offsets=(0.0,) * 4),
    groups=LabelGroups(one_of=(("front", "back"),), implies={"bird": ("animal",)}),
)


def test_groups_give_a_softmax_and_answers_that_do_not_contradict():
    p = GROUPED.probabilities(np.array([[1.0, 2.0, 3.0, -3.0]]))
    assert p[0] == pytest.approx([sigma(-1.0), sigma(1.0), sigma(3.0), sigma(3.0)])
    assert GROUPED.answers(p).tolist() == [[False, True, True, True]]
    ordered = GROUPED.ordered(("animal", "back", "front", "bird"))
    assert ordered.decide(np.array([[-3.0, 2.0, 1.0, 3.0]])).tolist() == [[True, True, False, True]]


def test_groups_are_in_the_manifest_and_decisions_without_them_are_written_as_before(tmp_path):
    made = write(tmp_path / "grouped", labels=GROUPED.labels, decisions=GROUPED)
    assert made.decisions == GROUPED
    assert made.decisions.grouped.always_one.tolist() == [True, True, False, False]
    assert "groups" not in write(tmp_path / "plain", decisions=DECISIONS).manifest.decisions.model_dump()
    with pytest.raises(ValidationError, match="'x' is in the groups and no label"):
        Decisions.plain(LABELS, groups=LabelGroups(implies={"x": ("dog",)}))


def test_many_pictures_are_decided_a_part_at_a_time_with_the_same_answers(monkeypatch):
    logits = np.random.default_rng(0).normal(0, 2, (37, 4))
    whole = GROUPED.decide(logits)
    monkeypatch.setattr("edgepress.multilabel.decisions._CELLS", 20)
    assert (GROUPED.decide(logits) == whole).all()
    with pytest.raises(InputError, match=r"received logits \[37, 3\]"):
        GROUPED.decide(logits[:, :3])
