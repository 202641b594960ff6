"""Thresholds against every other that there is, decisions on pictures they did not see, and INT8's aligned to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score

from edgepress.calibration.decide.label_scores import (
    label_f1,
    label_precision,
    label_recall,
    label_rows,
    measure_decisions,
    told_choice,
)
from edgepress.calibration.decide.probabilities import calibration_noise, log_loss
from edgepress.calibration.decide.thresholds import (
    Criterion,
    align_decisions,
    best_threshold,
    cross_fitted,
    fit_decisions,
    fit_thresholds,
    threshold_curve,
)
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import SILENT, Decisions, changed_share
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.metrics import sigmoid

F1 = Criterion("f1")


class Made(MultiLabelDataset):
    """Targets without picture files: nothing here looks at a picture."""

    def hashes(self) -> list[str]:
        return [str(number) for number in range(len(self.paths))]


def dataset(targets: np.ndarray, ignore: np.ndarray | None = None) -> MultiLabelDataset:
    return Made(
        root=Path("made"),
        split="val",
        labels=LabelSpace(tuple(f"label{column}" for column in range(targets.shape[1]))),
        paths=[Path(str(number)) for number in range(len(targets))],
        targets=targets.astype(np.uint8),
        ignore=np.zeros(targets.shape, bool) if ignore is None else ignore,
    )


def draw(count: int, seed: int = 0, labels: int = 8) -> tuple[np.ndarray, MultiLabelDataset]:
    """Logits too sure by half, of labels from frequent to rare, and their targets."""
    rng = np.random.default_rng(seed)
    true = rng.normal(np.linspace(0, -4, labels), 2, (count, labels))
    return 1.5 * true - 1, dataset(rng.random(true.shape) < sigmoid(true))


def test_by_hand():
    scores = np.array([0.1, 0.2, 0.6, 0.7, 0.9])
    targets = np.array([0, 1, 0, 1, 1])
    # At 0.65: 2 of 2 right, 2 of 3 found, F1 0.8; at 0.15: 3 of 4 right, all found, F1 6/7.
    assert best_threshold(targets, scores, F1) == (pytest.approx(0.15), None)
    assert best_threshold(targets, scores, Criterion("recall", 0.6)) == (pytest.approx(0.65), None)
    assert best_threshold(targets, scores, Criterion("recall", 1.0)) == (pytest.approx(0.15), None)
    assert best_threshold(targets, scores, Criterion("precision", 0.7)) == (pytest.approx(0.15), None)
    assert best_threshold(targets, scores, Criterion("precision", 0.9)) == (pytest.approx(0.65), None)
    # The surest picture lacks the label: precision reaches 3/4, which is too little to answer at all.
    wrong = np.array([0, 1, 1, 1, 0])
    assert best_threshold(wrong, scores, Criterion("precision", 0.9)) == (SILENT, pytest.approx(0.75))


def test_the_curve_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, targets = rng.random(60).round(2), rng.random(60) < 0.3
    curve = threshold_curve(targets, scores)
    precision, recall, _ = precision_recall_curve(targets, scores)
    assert curve.precision == pytest.approx(precision[:-1])
    assert curve.recall == pytest.approx(recall[:-1])
    for at, value in zip(curve.thresholds, curve.f1, strict=True):
        assert value == pytest.approx(f1_score(targets, scores >= at))


@given(seed=st.integers(0, 10_000), count=st.integers(2, 40), digits=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_no_threshold_has_a_higher_f1_where_it_was_chosen(seed, count, digits):
    rng = np.random.default_rng(seed)
    scores, targets = rng.random(count).round(digits), rng.random(count) < 0.4
    targets[0] = True

    def f1(at: float) -> float:  # scikit-learn's takes a millisecond
        answers = scores >= at
        return 2 * (answers & targets).sum() / (answers.sum() + targets.sum())

    at, _ = best_threshold(targets, scores, F1)
    assert f1(at) == pytest.approx(f1_score(targets, scores >= at))
    assert all(f1(other) <= f1(at) + 1e-12 for other in [0.5, *scores, *(scores + 1e-6)])


@given(seed=st.integers(0, 10_000), target=st.floats(0.05, 1))
@settings(max_examples=50, deadline=None)
def test_recall_and_precision_are_reached_where_it_was_chosen_or_it_is_told(seed, target):
    rng = np.random.default_rng(seed)
    scores, targets = rng.random(30).round(2), rng.random(30) < 0.4
    targets[0] = True
    for name in ("recall", "precision"):
        at, best = best_threshold(targets, scores, Criterion(name, target))
        answers = scores >= at
        if best is None:
            assert (answers & targets).sum() / (targets if name == "recall" else answers).sum() >= target
        else:
            assert not answers.any()
            precisions = [targets[scores >= score].mean() for score in scores]
            assert max(precisions) == pytest.approx(best)
            assert best < target


def test_neighbouring_numbers_are_still_told_apart():
    low = 0.3
    scores = np.array([low, np.nextafter(low, 1)])
    at, _ = best_threshold(np.array([0, 1]), scores, Criterion("precision", 1.0))
    assert (scores >= at).tolist() == [False, True]


def test_a_label_without_positives_keeps_the_default_and_is_named(caplog):
    logits, data = draw(60)
    targets = data.targets.copy()
    targets[:, 2] = 0
    for thresholds in ("f1", "recall=0.9", "precision=0.9"):
        caplog.clear()
        with caplog.at_level("WARNING", logger="edgepress"):
            fitted = fit_decisions(logits, dataset(targets), thresholds, "platt")
        assert fitted.thresholds[2] == 0.5
        assert "no picture shows label2: the threshold there is 0.5" in caplog.text
        assert "label1" not in caplog.text.split("no picture shows", 1)[1].split(":")[0]


@pytest.mark.parametrize("target", [0.3, 0.8, 0.9, 0.95, 1.0])
def test_a_recall_that_was_asked_for_is_reached_by_every_label_on_the_pictures_it_was_fitted_on(target):
    for seed in range(5):
        logits, data = draw(120, seed=seed)
        fitted = fit_decisions(logits, data, f"recall={target}", "platt")
        recall = label_recall(data.targets, fitted.decide(logits), data.ignore)
        assert (recall >= target).all()


def test_no_score_is_its_own_threshold():
    """The engine's last bit would change the answer."""
    logits, data = draw(100)
    for thresholds in ("f1", "recall=1", "precision=0.05"):
        fitted = fit_decisions(logits, data, thresholds, "platt")
        assert np.abs(fitted.probabilities(logits) - np.array(fitted.thresholds)).min() > 1e-6


def test_thousands_of_pictures_are_believed_and_two_are_not():
    rng = np.random.default_rng(0)
    p = rng.random((4000, 1)) ** 3
    targets = rng.random(p.shape) < p
    own, _ = best_threshold(targets[:, 0], p[:, 0], F1)
    assert fit_thresholds(targets, p, None, F1).values[0] == pytest.approx(own, abs=0.05)
    few, answers = p[:60], np.zeros((60, 1))
    answers[np.argsort(few[:, 0])[:2]] = 1  # the two least probable
    alone, _ = best_threshold(answers[:, 0], few[:, 0], F1)
    assert alone < 0.01
    assert fit_thresholds(answers, few, None, F1).values[0] > 0.1


def test_ignored_cells_choose_nothing():
    logits, data = draw(60)
    ignore = np.random.default_rng(1).random(logits.shape) < 0.3
    some = fit_decisions(logits, dataset(data.targets, ignore), "f1", "platt")
    other = fit_decisions(
        np.where(ignore, 9.0, logits), dataset(np.where(ignore, 1 - data.targets, data.targets), ignore), "f1", "platt"
    )
    assert some.thresholds == other.thresholds
    assert some.calibrator == other.calibrator


@pytest.mark.parametrize("probabilities", ["auto", "platt", "isotonic"])
def test_decisions_are_better_on_pictures_they_did_not_see_but_not_with_permuted_labels(probabilities):
    logits, data = draw(800)
    unseen, answers = draw(10_000, seed=1)
    fitted = fit_decisions(logits, data, "f1", probabilities)
    result = measure_decisions(fitted, unseen, answers)
    assert result.macro_F1 > result.macro_F1_at_half + 0.05
    assert result.ece_after < 0.5 * result.ece_before
    assert result.ece_pooled_after < 0.5 * result.ece_pooled_before
    assert result.ece_by_chance < result.ece_after
    permuted = dataset(np.random.default_rng(2).permutation(data.targets))
    nonsense = measure_decisions(fit_decisions(logits, permuted, "f1", probabilities), unseen, answers)
    assert nonsense.macro_F1 < result.macro_F1_at_half


def test_auto_takes_what_the_data_need():
    rng = np.random.default_rng(0)
    true = rng.normal(-1, 2, (3000, 4))
    data = dataset(rng.random(true.shape) < sigmoid(true))
    assert fit_decisions(true, data).calibrator.method in ("none", "temperature")
    assert fit_decisions(3 * true, data).calibrator.method == "temperature"
    assert fit_decisions(true + np.array([1, -1, 0.5, 0]), data).calibrator.method == "platt"
    assert fit_decisions(np.sign(true) * true**4, data).calibrator.method == "isotonic"


def test_what_was_fitted_is_told():
    logits, data = draw(100)
    fit = fit_decisions(logits, data, "recall=0.8").fit
    assert fit is not None
    assert (fit.thresholds, fit.probabilities, fit.split, fit.pictures) == ("recall=0.8", "auto", "val", 100)
    assert fit.positives == tuple(data.targets.sum(axis=0).tolist())
    assert fit.fingerprint == data.fingerprint()


def test_labels_whose_logit_is_always_the_same_are_named(caplog):
    logits, data = draw(200)
    logits[:, 3] = -2.5
    caplog.set_level("WARNING", logger="edgepress")
    fit_decisions(logits, data, "f1", "none")
    assert "1 of 8 labels have the same logit for each of 200 pictures: label3" in caplog.text


def test_a_label_that_cannot_reach_a_precision_is_told_and_stays_silent_whatever_its_logit(caplog):
    logits, data = draw(200)
    caplog.set_level("WARNING", logger="edgepress")
    fitted = fit_decisions(logits, data, "precision=0.99", "platt")
    assert fitted.fit is not None
    unreached = fitted.fit.unreached
    assert set(unreached) >= {"label7"}
    assert all(0 < best < 0.99 for best in unreached.values())
    (told,) = [record.message for record in caplog.records if "cannot be reached" in record.message]
    assert told.startswith(f"{len(unreached)} of 8 labels: precision=0.99 cannot be reached")
    assert all(f"{name} ({best:.3f})" in told for name, best in unreached.items())
    fitted = Decisions.model_validate_json(fitted.model_dump_json())  # as a bundle holds it
    sure = np.full((1, len(fitted.labels)), 1e6)  # its sigmoid is 1 exactly
    assert fitted.probabilities(sure).max() == 1
    silent = [name for name, yes in zip(fitted.labels, fitted.decide(sure)[0], strict=True) if not yes]
    assert silent == list(unreached)


@pytest.mark.parametrize(
    ("count", "thresholds", "probabilities", "said"),
    [
        (1, "f1", "auto", "1 picture; expected at least 2"),
        (9, "best", "auto", "expected f1"),
        (9, "f1", "beta", "expected one of auto, none, temperature, platt, isotonic"),
    ],
)
def test_what_cannot_be_fitted_is_told(count, thresholds, probabilities, said):
    logits, data = draw(count)
    with pytest.raises(InputError, match=said):
        fit_decisions(logits, data, thresholds, probabilities)
    logits, data = draw(9)
    logits[4, 2] = np.nan
    with pytest.raises(InputError, match=f"1 picture of 9 with logits that are NaN or infinite.*{data.paths[4]};"):
        fit_decisions(logits, data)


def test_no_picture_is_judged_by_a_fit_that_saw_it():
    logits, data = draw(40)
    before, _ = cross_fitted(logits, data.targets, data.ignore, "platt", F1)
    targets = data.targets.copy()
    targets[7] = 1 - targets[7]
    after, _ = cross_fitted(logits, targets, data.ignore, "platt", F1)
    assert (after[7] == before[7]).all()
    assert (after != before).any()


def test_rows_hold_every_label_and_their_mean():
    logits, data = draw(60)
    targets = data.targets.copy()
    targets[:, 2] = 0
    data = dataset(targets)
    fitted = fit_decisions(logits, data, "f1", "platt")
    unseen = cross_fitted(logits, data.targets, data.ignore, "platt", F1)
    rows = label_rows(fitted, logits, unseen, data)
    assert [row.label for row in rows] == [*data.labels.names, "mean"]
    assert (rows[2].positives, rows[2].F1, rows[2].F1_at_half) == (0, None, None)
    assert pytest.approx(f1_score(data.targets[:, 0], unseen[1][:, 0])) == rows[0].F1
    for name, score in (("precision", precision_score), ("recall", recall_score)):
        assert getattr(rows[0], name) == pytest.approx(score(data.targets[:, 0], unseen[1][:, 0]))
    assert rows[2].recall is None
    assert pytest.approx(np.nanmean(label_f1(data.targets, unseen[1], data.ignore))) == rows[-1].F1


def test_a_choice_whose_ece_rises_is_explained_by_what_it_was_chosen_by():
    """Log loss chooses; a reader of the table saw the ECE alone."""
    logits, data = draw(40)
    fitted = fit_decisions(logits, data)
    method = fitted.calibrator.method
    unseen, _ = cross_fitted(logits, data.targets, data.ignore, method, F1)
    before, after = (log_loss(data.targets, p, data.ignore) for p in (sigmoid(logits), unseen))
    assert (after < before, fitted.fit.ece_after > fitted.fit.ece_before) == (True, True)
    told = told_choice(fitted, logits, unseen, data)
    worth = f"{after:.4f} against {before:.4f} of the sigmoid, on pictures that it was not fitted on"
    assert told.startswith(
        f"auto chose {method} by log loss: {worth}. The mean ECE rises from {fitted.fit.ece_before:.3f}"
    )
    assert f"would show {np.nanmean(calibration_noise(unseen, data.ignore)):.3f} by chance" in told
    fine = fitted.model_copy(update={"fit": fitted.fit.model_copy(update={"ece_after": fitted.fit.ece_before})})
    assert told_choice(fine, logits, unseen, data) == f"auto chose {method} by log loss: {worth}."
    asked = fitted.model_copy(update={"fit": fine.fit.model_copy(update={"probabilities": method})})
    assert told_choice(asked, logits, unseen, data) == f"{method} was asked for. Its log loss is {worth}."
    assert told_choice(asked, logits, 1 - unseen, data).endswith("; --probabilities auto takes what has the least.")
    plain = fit_decisions(logits, data, probabilities="none")
    assert told_choice(plain, logits, sigmoid(logits), data) == "The probability is the sigmoid, as it was asked."


def test_precision_and_recall_count_known_cells_alone():
    targets, decisions = np.array([[1, 1], [0, 1], [1, 0]]), np.array([[True, False], [True, False], [True, False]])
    ignore = np.array([[False, False], [False, False], [True, False]])
    assert label_precision(targets, decisions, ignore) == pytest.approx([0.5, np.nan], nan_ok=True)
    assert label_recall(targets, decisions, ignore) == pytest.approx([1.0, 0.0])
    assert np.isnan(label_recall(np.zeros((3, 2), int), decisions, ignore)).all()


@pytest.mark.parametrize("method", ["none", "platt", "isotonic"])
def test_an_engine_whose_logits_are_moved_decides_as_the_model_once_aligned(method):
    logits, data = draw(500)
    fitted = fit_decisions(logits, data, "f1", method)
    moved = (logits + np.linspace(-0.6, 0.9, 8)) * 1.2 + np.random.default_rng(2).normal(0, 0.1, logits.shape)
    aligned = align_decisions(fitted, logits, moved)
    assert aligned.refitted_from == fitted
    assert aligned.thresholds == fitted.thresholds
    unseen, answers = draw(5000, seed=3)
    other = (unseen + np.linspace(-0.6, 0.9, 8)) * 1.2 + np.random.default_rng(4).normal(0, 0.1, unseen.shape)
    theirs = fitted.decide(unseen)
    kept, refitted = (changed_share(theirs, some.decide(other), answers.ignore) for some in (fitted, aligned))
    assert refitted < 0.5 * kept


def test_logits_that_say_nothing_of_the_models_are_left_as_they_are():
    logits, data = draw(100)
    fitted: Decisions = fit_decisions(logits, data, "f1", "platt")
    for useless in (np.zeros(logits.shape), -logits):
        assert align_decisions(fitted, logits, useless).calibrator == fitted.calibrator


def test_with_label_groups_decisions_are_fitted_on_the_groups_distributions():
    """A shift of a group's logits changes nothing, its labels have no threshold, and no answer contradicts."""
    rng = np.random.default_rng(4)
    targets = np.zeros((300, 4), np.uint8)
    targets[np.arange(300), rng.integers(0, 3, 300)] = 1
    targets[:, 3] = rng.random(300) < 0.3
    logits = 3.0 * targets + rng.normal(0, 1, targets.shape)
    data = Made(
        root=Path("made"),
        split="val",
        labels=LabelSpace(("a", "b", "c", "d")),
        paths=[Path("x")] * 300,
        targets=targets,
        ignore=np.zeros(targets.shape, bool),
        groups=LabelGroups(one_of=(("a", "b", "c"),)),
    )
    found = fit_decisions(logits, data, "precision=0.9")
    assert found.thresholds[:3] == (0, 0, 0)
    assert set(found.fit.unreached) <= {"d"}
    shifted = logits.copy()
    shifted[:, :3] += rng.normal(0, 30, (300, 1))
    assert found.probabilities(shifted) == pytest.approx(found.probabilities(logits))
    answers = found.decide(shifted)
    assert (answers[:, :3].sum(axis=1) == 1).all()
    assert (answers[:, :3] == (targets[:, :3] == 1)).all(axis=1).mean() > 0.9
    noisy = shifted + rng.normal(0, 0.3, shifted.shape)
    aligned = align_decisions(found, shifted, noisy)
    assert aligned.groups == data.groups
    assert (aligned.decide(noisy)[:, :3].sum(axis=1) == 1).all()
