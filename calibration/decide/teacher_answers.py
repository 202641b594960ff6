"""A teacher's logits as calibrated ones: a single-label softmax, or scores of no scale, teach by probabilities then."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgepress.calibration.decide.probabilities import fit_probabilities, log_loss
from edgepress.calibration.decide.thresholds import Criterion, cross_fitted
from edgepress.multilabel.decisions import Affine, FittedAnswers
from edgepress.multilabel.metrics import sigmoid

CLEARLY = 0.9
"""`auto` calibrates if that lowers the log loss to this share of what it was, or less. A teacher that was trained with
binary cross-entropy stays as it is."""
_Method = Literal["none", "temperature", "platt"]


def calibrate_answers(
    logits: np.ndarray, targets: np.ndarray, ignore: np.ndarray, asked: Literal["auto"] | _Method
) -> FittedAnswers:
    """Fit a slope, or a slope and an offset, for each label's logits.

    Args:
        logits: finite, `[N, C]`.
        targets: `[N, C]` in {0, 1}.
        ignore: bool `[N, C]`, the cells that do not count.
        asked: the method, or auto: the one with the least log loss on pictures that its fit did not see, where it is
            clearly better than none.

    Raises:
        InputError: no label is shown by one picture and absent from another.
    """
    logits = np.asarray(logits, np.float64)
    before = log_loss(targets, sigmoid(logits), ignore)
    methods: tuple[_Method, ...] = ("temperature", "platt") if asked == "auto" else (asked,)
    losses = {
        method: log_loss(targets, cross_fitted(logits, targets, ignore, method, Criterion("fixed", 0.5))[0], ignore)
        for method in methods
    }
    method = min(methods, key=lambda one: losses[one])
    if asked == "auto" and losses[method] > CLEARLY * before:
        method, losses = "none", {"none": before}
    calibrator = fit_probabilities(logits, targets, ignore, method)
    assert isinstance(calibrator, Affine)
    return FittedAnswers(calibrator, losses[method], before)
