"""Promises: they hold where the truth is known, they are MAPIE's, and they are refused where pictures are too few."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from benchmarks.guarantees import SETTINGS, promise
from edgepress.calibration.decide.criterion import Criterion
from edgepress.calibration.decide.promises import Wanted, promised_threshold, require_enough
from edgepress.calibration.decide.thresholds import align_decisions, fit_decisions, promise_again
from edgepress.multilabel.decisions import SILENT, Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from tests.calibration.decide.test_thresholds import dataset, draw


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_promise_holds_as_often_as_it_says(setting):
    """60 draws of five labels, or of all ten: with a truth of 95 %, fewer than 87 % come by chance once in 200."""
    assert promise(setting, 60)["kept"] >= 0.87


def test_without_its_bound_a_recall_is_kept_half_the_time():
    """The negative control: the threshold that has the recall on val alone."""
    setting = SETTINGS[0]._replace(thresholds="recall=0.9@50%")
    assert 0.4 < promise(setting, 60)["kept"] < 0.75


def scored(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.random(count) < 0.3
    return targets.astype(np.uint8), 1 / (1 + np.exp(-(2 * targets + rng.normal(size=count) - 1)))


@pytest.mark.parametrize(("kind", "level"), [("recall", 0.8), ("precision", 0.6), ("fpr", 0.15)])
def test_it_is_the_threshold_of_mapies_learn_then_test(kind, level):
    """MAPIE's fixed sequence of binary Hoeffding-Bentkus p-values over our thresholds, from the side that is easiest to
    show. A precision is tested only from the first threshold with enough predicted positives on: MAPIE begins where
    there is one, is not convinced, and finds nothing."""
    control = pytest.importorskip("mapie.risk_control", reason="mapie is an extra of the tests")
    targets, scores = scored()
    distinct = np.unique(scores)
    cuts = np.append(distinct[0] / 2, (distinct[:-1] + distinct[1:]) / 2)
    if kind == "precision":
        cuts = cuts[: len(cuts) - 10]
    risk = control.false_positive_rate if kind == "fpr" else kind
    oracle = control.BinaryClassificationController(
        lambda values: np.stack([1 - values, values], axis=1),
        risk,
        target_level=level,
        confidence_level=0.95,
        list_predict_params=cuts,
        fwer_method="fixed_sequence",
    ).calibrate(scores, targets)
    theirs = np.sort(np.ravel(oracle.valid_predict_params))
    ours = promised_threshold(targets, scores, Wanted(kind, level, 0.95), 0.05)
    wanted = theirs[-1] if kind == "recall" else theirs[0]
    # MAPIE rounds n times the rate up, so its test may be one error more cautious than the exact one.
    steps = np.searchsorted(cuts, [ours.threshold, wanted])
    assert abs(int(np.diff(steps)[0])) <= (4 if kind != "recall" else 8)
    assert (wanted <= ours.threshold) if kind == "recall" else (wanted >= ours.threshold)


def test_by_hand():
    """Thirty positives, of which none may be missed for 0.9 with 95 %, and one of 46."""
    scores = np.linspace(0.01, 0.99, 60)
    targets = np.repeat([0, 1], 30)
    found = promised_threshold(targets, scores, Wanted("recall", 0.9, 0.95), 0.05)
    assert (found.counted, found.errors) == (30, 0)
    assert scores[29] < found.threshold < scores[30]
    more = promised_threshold(np.repeat([0, 1], [14, 46]), scores, Wanted("recall", 0.9, 0.95), 0.05)
    assert (more.counted, more.errors) == (46, 1)
    assert scores[14] < more.threshold < scores[15]
    wrong = promised_threshold(targets, scores, Wanted("fpr", 0.1, 0.95), 0.05)
    assert (wrong.counted, wrong.errors) == (30, 0)
    assert scores[29] < wrong.threshold < scores[30]
    precise = promised_threshold(targets, scores, Wanted("precision", 0.9, 0.95), 0.05)
    assert (precise.counted, precise.errors) == (30, 0)
    upside_down = promised_threshold(targets, scores[::-1], Wanted("precision", 0.9, 0.95), 0.05)
    assert (upside_down.threshold, upside_down.best) == (SILENT, pytest.approx(30 / 60))
    wrong = promised_threshold(np.repeat([1, 0], 30), np.repeat([0.3, 0.6], 30), Wanted("fpr", 0.1, 0.95), 0.05)
    assert (wrong.threshold, wrong.best) == (SILENT, 1.0)  # so the labels are named, with their number


@pytest.mark.parametrize("text", ["recall=0.8@95%", "precision=0.6@90%", "fpr=0.2@95%:all"])
def test_decisions_hold_the_promise_and_what_it_rests_on(text):
    logits, data = draw(600, labels=4)
    fitted = fit_decisions(logits, data, text, "platt")
    made = fitted.fit.promise
    wanted = Criterion.parse(text).promise
    assert (made.kind, made.level, made.confidence, made.scope) == wanted
    answers = fitted.decide(logits)
    positive = data.targets == 1
    judged = {"recall": positive, "precision": answers, "fpr": ~positive}[made.kind]
    wrong = {"recall": ~answers, "precision": ~positive, "fpr": answers}[made.kind] & judged
    spoken = np.array(fitted.thresholds) != SILENT
    assert np.array(made.counted)[spoken].tolist() == judged.sum(axis=0)[spoken].tolist()
    assert np.array(made.errors)[spoken].tolist() == wrong.sum(axis=0)[spoken].tolist()
    assert Decisions.model_validate_json(fitted.model_dump_json()) == fitted
    assert "confidence" in str(made)


def test_int8_keeps_the_promise_by_its_own_answers():
    logits, data = draw(600, labels=4)
    fitted = fit_decisions(logits, data, "recall=0.8@95%", "platt")
    coarse = logits + np.random.default_rng(1).normal(0, 1.5, logits.shape)
    aligned = align_decisions(fitted, logits, coarse)
    again = promise_again(aligned, coarse, data)
    assert again.fit.promise.errors == fitted.fit.promise.errors  # the same bound on the same positives
    missed = ((data.targets == 1) & ~again.decide(coarse)).sum(axis=0)
    assert missed.tolist() == list(again.fit.promise.errors)
    kept = ((data.targets == 1) & ~aligned.decide(coarse)).sum(axis=0)
    assert (kept > missed).any()  # the thresholds of the float model miss more
    assert again.refitted_from == fitted
    plain = fit_decisions(logits, data, "f1", "platt")
    assert promise_again(plain, coarse, data) is plain


def test_too_few_pictures_are_refused_with_how_many_are_needed_and_labels_without_any_are_named():
    logits, data = draw(200)
    targets = data.targets.copy()
    targets[:, 2] = 0
    for text, needed, named in (
        ("recall=0.9@95%", "needs 29 pictures that show each label", r"label2 \(0\)"),
        ("precision=0.9@95%:all", "needs 49 pictures that show each label", r"label2 \(0\)"),
        ("fpr=0.001@95%", "needs 2995 pictures that do not show each label", "label0"),
    ):
        with pytest.raises(InputError, match=needed) as refused:
            fit_decisions(logits, dataset(targets), text)
        assert refused.match(named)
    promised = fit_decisions(*draw(600, labels=2), "recall=0.8@95%", "platt")
    with pytest.raises(InputError, match="needs 14 pictures"):
        promise_again(promised, logits[:10, :2], dataset(targets[:10, :2]))


@pytest.mark.parametrize("text", ["recall=0.9@95%", "precision=0.95@90%:all", "fpr=0.01@95%", "recall=0.99@99%:all"])
@pytest.mark.parametrize("count", [1, 4, 20])
def test_the_level_that_the_pictures_can_show_is_told_and_a_higher_one_is_refused(text, count):
    targets = np.zeros((2 * count, 3), np.uint8)
    targets[:count] = 1
    with pytest.raises(InputError) as refused:
        require_enough(Criterion.parse(text).promise, dataset(targets), "val")
    told = re.search(r"ask for less: (\S+) is what .* of a label can show$", str(refused.value))
    if told is None:
        assert count == 1
        assert "1 picture shows no level at that confidence" in str(refused.value)
        return
    possible = Criterion.parse(told[1]).promise
    require_enough(possible, dataset(targets), "val")
    step = -0.01 if possible.kind == "fpr" else 0.01
    with pytest.raises(InputError, match="needs"):
        require_enough(possible._replace(level=possible.level + step), dataset(targets), "val")


def test_a_label_that_no_picture_shows_can_be_promised_nothing():
    targets = np.ones((30, 2), np.uint8)
    targets[:, 1] = 0
    with pytest.raises(InputError, match="without any of a label nothing can be promised for it"):
        require_enough(Wanted("recall", 0.5, 0.95), dataset(targets), "val")


def test_groups_decide_otherwise_so_a_promise_with_them_is_refused():
    _, data = draw(600, labels=4)
    grouped = dataclasses.replace(data, groups=LabelGroups(one_of=(("label0", "label1"),)))
    with pytest.raises(
        InputError, match=r"the label groups decide otherwise for label0, label1: .*those of --label-groups"
    ):
        require_enough(Wanted("recall", 0.5, 0.95), grouped, "val")


def test_a_fold_with_too_few_pictures_is_as_cautious_as_it_can_be():
    targets, scores = np.array([0, 1, 1]), np.array([0.2, 0.4, 0.6])
    assert promised_threshold(targets, scores, Wanted("recall", 0.9, 0.95), 0.05).errors == 0
    assert promised_threshold(targets, scores, Wanted("fpr", 0.1, 0.95), 0.05).threshold == pytest.approx(0.3)
    assert promised_threshold(targets, scores, Wanted("precision", 0.9, 0.95), 0.05).threshold == SILENT
    assert promised_threshold(1 - targets, scores, Wanted("fpr", 0.1, 0.95), 0.05).threshold == SILENT
