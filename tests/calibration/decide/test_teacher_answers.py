"""A teacher whose scores are no probabilities teaches by calibrated ones; one whose scores are, as it is."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.calibration.decide.probabilities import log_loss
from edgepress.calibration.decide.teacher_answers import CLEARLY, calibrate_answers
from edgepress.multilabel.metrics import average_precision, sigmoid


def draw(count: int = 400, labels: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits that are exactly calibrated, targets drawn from them, and no ignored cell."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 2, (count, labels))
    return logits, (rng.random(logits.shape) < sigmoid(logits)).astype(np.uint8), np.zeros(logits.shape, bool)


def softmax(logits: np.ndarray) -> np.ndarray:
    """What a model of one label a picture says: log p - log(1 - p) of probabilities that sum to 1."""
    p = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return np.log(p / (1 - p))


FOREIGN = {
    "cosine similarities": lambda logits: 0.2 + 0.02 * logits,
    "a hundred times these": lambda logits: 20 + 2 * logits,
    "a softmax over labels": softmax,
    "too sure": lambda logits: 4 * logits,
    "shifted up, as asymmetric losses do": lambda logits: logits / 2 + 2,
}


@pytest.mark.parametrize("how", FOREIGN)
def test_scores_that_are_no_probabilities_become_some(how):
    logits, targets, ignore = draw()
    scores = FOREIGN[how](logits)
    found = calibrate_answers(scores, targets, ignore, "auto")
    assert found.calibrator.method in ("temperature", "platt")
    assert found.loss < CLEARLY * found.loss_before
    assert found.loss_before == pytest.approx(log_loss(targets, sigmoid(scores), ignore))
    ideal = log_loss(targets, sigmoid(logits), ignore)
    assert found.loss < (1.25 if how == "a softmax over labels" else 1.05) * ideal
    np.testing.assert_array_equal(
        average_precision(targets, found.calibrator(scores)), average_precision(targets, scores)
    )


def test_a_teacher_that_is_calibrated_stays_as_it_is():
    logits, targets, ignore = draw()
    assert calibrate_answers(logits, targets, ignore, "auto").calibrator.method == "none"
    assert calibrate_answers(1.2 * logits, targets, ignore, "auto").calibrator.method == "none"


@pytest.mark.parametrize("method", ["none", "temperature", "platt"])
def test_the_method_that_is_asked_for_is_taken(method):
    logits, targets, ignore = draw()
    found = calibrate_answers(3 * logits, targets, ignore, method)
    assert found.calibrator.method == method
    assert (found.calibrator.slopes == (1.0,) * 8) == (method == "none")


def test_cells_that_are_ignored_do_not_count():
    logits, targets, ignore = draw()
    ignore[:, 3] = True
    other = logits.copy()
    other[:, 3] = 1000.0
    first, second = (calibrate_answers(4 * scores, targets, ignore, "auto") for scores in (logits, other))
    assert first == second
