"""Calibrators against scikit-learn, calibration error against numbers by hand, and order, which none may change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss

from edgepress.calibration.decide import probabilities
from edgepress.calibration.decide.probabilities import (
    METHODS,
    MIN_SLOPE,
    MOST_STEPS,
    calibration_noise,
    expected_calibration_error,
    fit_probabilities,
    log_loss,
    reliability,
)
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import average_precision, sigmoid


def draw(count: int, labels: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is 1.8 times too sure, each label shifted by its own offset, and targets."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1.5, 2, (count, labels))
    targets = (rng.random(true.shape) < sigmoid(true)).astype(np.uint8)
    return 1.8 * true + np.linspace(-1, 1, labels), targets


@pytest.fixture
def no_shrinkage(monkeypatch):
    monkeypatch.setattr(probabilities, "SHRINKAGE", 1e-9)


def test_platt_is_scikit_learns_logistic_regression_where_nothing_is_shrunk(no_shrinkage):
    logits, targets = draw(400)
    fitted = fit_probabilities(logits, targets, None, "platt")
    for column in range(logits.shape[1]):
        other = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, [column]], targets[:, column])
        assert fitted.slopes[column] == pytest.approx(other.coef_[0, 0], rel=1e-4)
        assert fitted.offsets[column] == pytest.approx(other.intercept_[0], abs=1e-4)


def test_temperature_is_the_best_slope_without_an_offset(no_shrinkage):
    logits, targets = draw(400)
    fitted = fit_probabilities(logits, targets, None, "temperature")
    assert fitted.offsets == (0.0,) * 6
    for column in range(6):
        slope = fitted.slopes[column]
        tried = [
            log_loss(targets[:, column], sigmoid(logits[:, column] * at)) for at in (slope, slope - 0.01, slope + 0.01)
        ]
        assert tried[0] < min(tried[1:])


def test_isotonic_is_scikit_learns_where_nothing_is_shrunk_or_merged(no_shrinkage, monkeypatch):
    monkeypatch.setattr(probabilities, "MOST_STEPS", 1000)
    logits, targets = draw(300, 3)
    logits = logits.round(1)  # equal scores
    unseen = np.random.default_rng(1).normal(0, 4, (200, 3))
    p = fit_probabilities(logits, targets, None, "isotonic")(unseen)
    for column in range(3):
        other = IsotonicRegression(out_of_bounds="clip").fit(logits[:, column], targets[:, column])
        assert p[:, column] == pytest.approx(other.predict(unseen[:, column]), abs=1e-6)


def test_isotonic_keeps_few_steps():
    logits, targets = draw(3000, 2)
    fitted = fit_probabilities(logits, targets, None, "isotonic")
    values = [{value for _, value in knots} for knots in fitted.knots]
    assert all(2 < len(steps) <= MOST_STEPS for steps in values)
    assert log_loss(targets, fitted(logits)) < log_loss(targets, sigmoid(logits))


def test_log_loss_is_scikit_learns():
    logits, targets = draw(50, 1)
    p = sigmoid(logits)
    assert log_loss(targets, p) == pytest.approx(sklearn_log_loss(targets[:, 0], p[:, 0]))
    assert np.isfinite(log_loss(np.array([[1], [0]]), np.array([[0.0], [1.0]])))


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10_000), count=st.integers(4, 40), scale=st.floats(0.01, 30))
@settings(max_examples=25, deadline=None)
def test_every_calibrator_keeps_the_order_and_so_ap(method, seed, count, scale):
    logits, targets = draw(count, 3, seed)
    logits = (logits * scale).round(2)
    targets[0, :], targets[1, :] = 1, 0
    p = fit_probabilities(logits, targets, None, method)(logits)
    assert ((p >= 0) & (p <= 1)).all()
    for column in range(3):
        order = np.argsort(logits[:, column], kind="stable")
        assert (np.diff(p[order, column]) >= 0).all()
    if np.abs(logits).max() < 20:  # beyond, two probabilities near 1 are one number
        assert average_precision(targets, p) == pytest.approx(average_precision(targets, logits))


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_it_is_better_on_pictures_it_was_not_fitted_on_but_not_with_permuted_labels(method):
    logits, targets = draw(1500)
    unseen, answers = draw(20_000, seed=1)
    before = expected_calibration_error(answers, sigmoid(unseen)).mean()
    after = fit_probabilities(logits, targets, None, method)(unseen)
    assert expected_calibration_error(answers, after).mean() < 0.7 * before
    assert log_loss(answers, after) < log_loss(answers, sigmoid(unseen))
    permuted = np.random.default_rng(2).permutation(targets)
    assert log_loss(answers, fit_probabilities(logits, permuted, None, method)(unseen)) > log_loss(answers, after) + 0.1


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_a_label_with_one_answer_keeps_the_pooled_fit(method):
    logits, targets = draw(600, 4)
    targets[:, 1], targets[:, 2] = 0, 1
    fitted = fit_probabilities(logits, targets, None, method)
    if method == "isotonic":
        assert [bool(knots) for knots in fitted.knots] == [True, False, False, True]
        return
    cells = [values.reshape(-1, 1) for values in (logits, targets)]
    pooled = fit_probabilities(*cells, None, "temperature" if method == "temperature" else "platt")
    for column, own in ((1, False), (2, False), (0, True), (3, True)):
        same = fitted.slopes[column] == pytest.approx(pooled.slopes[0], rel=0.02)
        assert same != own


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_two_positives_are_not_believed_alone(method, monkeypatch):
    logits, targets = draw(400, 4)
    logits[:, 3] -= 4
    targets[:, 3] = 0
    targets[np.argsort(logits[:, 3])[:2], 3] = 1  # those of which the model was surest that they are none
    grid = np.linspace(-8, 2, 21)[:, None].repeat(4, axis=1)
    shrunk = fit_probabilities(logits, targets, None, method)(grid)[:, 3]
    monkeypatch.setattr(probabilities, "SHRINKAGE", 1e-6)
    alone = fit_probabilities(logits, targets, None, method)(grid)[:, 3]
    cells = [values[:, :3].reshape(-1, 1) for values in (logits, targets)]
    others = fit_probabilities(*cells, None, "platt")(grid[:, :1])[:, 0]
    assert np.abs(shrunk - others).mean() < 0.9 * np.abs(alone - others).mean()


@pytest.mark.parametrize("method", METHODS)
def test_ignored_cells_do_not_count(method):
    logits, targets = draw(80, 3)
    ignore = np.random.default_rng(3).random(logits.shape) < 0.3
    wrong = np.where(ignore, 1 - targets, targets)
    moved = np.where(ignore, 50.0, logits)
    assert fit_probabilities(logits, targets, ignore, method) == fit_probabilities(moved, wrong, ignore, method)
    for score in (expected_calibration_error, log_loss):
        assert score(targets, sigmoid(logits), ignore) == pytest.approx(score(wrong, sigmoid(moved), ignore))


@pytest.mark.parametrize("method", METHODS)
def test_certain_and_inverted_models_stay_finite(method):
    _, targets = draw(60, 3)
    targets[0], targets[1] = 0, 1
    for logits in (np.where(targets == 1, 100.0, -100.0), np.where(targets == 1, -3.0, 3.0)):
        fitted = fit_probabilities(logits, targets, None, method)
        assert np.isfinite(fitted(logits)).all()
        assert min(fitted.slopes) >= MIN_SLOPE


def test_nothing_to_fit_on_is_told():
    with pytest.raises(InputError, match="no label has both"):
        fit_probabilities(np.zeros((4, 2)), np.zeros((4, 2), np.uint8), None, "platt")


def test_calibration_error_by_hand():
    # Two bins of two: mean 0.15 with no positive, mean 0.8 with one of two.
    p, targets = np.array([[0.1], [0.2], [0.7], [0.9]]), np.array([[0], [0], [1], [0]])
    assert expected_calibration_error(targets, p, bins=2) == pytest.approx([0.5 * 0.15 + 0.5 * 0.3])
    ((predicted, observed, counts),) = reliability(targets, p, bins=2)
    assert predicted == pytest.approx([0.15, 0.8])
    assert (observed.tolist(), counts.tolist()) == ([0, 0.5], [2, 2])
    assert np.isnan(expected_calibration_error(targets, p, np.ones((4, 1), bool))[0])


def test_equal_scores_share_a_bin_in_any_order():
    p, targets = np.full((30, 1), 0.5), np.repeat([0, 1], 15)[:, None]
    assert expected_calibration_error(targets, p) == pytest.approx([0])
    rng = np.random.default_rng(4)
    p = rng.random((30, 1)).round(1)
    order = rng.permutation(30)
    assert expected_calibration_error(targets[order], p[order]) == pytest.approx(expected_calibration_error(targets, p))


def test_chance_is_what_exact_probabilities_show():
    rng = np.random.default_rng(5)
    p = sigmoid(rng.normal(-2, 1.5, (300, 5)))
    drawn = [expected_calibration_error(rng.random(p.shape) < p, p) for _ in range(200)]
    assert calibration_noise(p) == pytest.approx(np.mean(drawn, axis=0), rel=0.06)
    rare = np.full((45, 1), 0.01)  # one bin: λ = 0.45, exactly 2λ(1 − p)^45 / 45
    assert calibration_noise(rare, bins=1) == pytest.approx([0.9 * 0.99**45 / 45])
