"""Signal to noise by hand, and within its two ends."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.noise import MOST_DB, decibels, signal_to_noise


def test_by_hand():
    reference = np.array([3.0, 4.0], np.float32)  # 25, and a noise of 0.25: a hundredth
    assert signal_to_noise(reference, reference + np.array([0.3, 0.4], np.float32)) == pytest.approx(20.0, abs=1e-4)
    assert signal_to_noise(reference, 2 * reference) == 0.0
    assert decibels(1.0, 10.0) == -10.0


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [
        (1.0, 0.0, MOST_DB),
        (0.0, 0.0, MOST_DB),
        (1.0, 1e-300, MOST_DB),
        (0.0, 1.0, -MOST_DB),
        (1e-300, 1.0, -MOST_DB),
        (float("inf"), 1.0, -MOST_DB),
        (1.0, float("nan"), -MOST_DB),
    ],
)
def test_no_value_leaves_its_ends(signal, noise, expected):
    assert decibels(signal, noise) == expected


def test_small_numbers_do_not_overflow_in_half_precision():
    reference = np.full(8, 300.0, np.float16)  # whose square is none in float16
    assert signal_to_noise(reference, reference) == MOST_DB
