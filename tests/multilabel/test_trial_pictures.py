"""Pictures that converted models are tried on."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.trial_pictures import COLOURS, trial_pictures


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 100), (7, 5), (1, 1)])
def test_neighbours_differ_by_no_more_than_a_gradient(height, width):
    found = trial_pictures(np.random.default_rng(0), 3, (height, width, 3))
    assert (found.shape, found.dtype) == ((3, height, width, 3), np.uint8)
    for axis, side in ((1, height), (2, width)):
        steps = np.abs(np.diff(found.astype(int), axis=axis))
        assert steps.max(initial=0) <= 255 * (COLOURS - 1) / max(1, side - 1) + 1


def test_corners_have_the_drawn_colours_and_what_is_between_is_even():
    colours = np.random.default_rng(3).integers(0, 256, (1, COLOURS, COLOURS, 3))
    found = trial_pictures(np.random.default_rng(3), 1, (13, 25, 3))
    np.testing.assert_array_equal(found[0, ::2, ::4], colours[0])
    halves = (colours[0, :-1, 0].astype(float) + colours[0, 1:, 0]) / 2
    np.testing.assert_allclose(found[0, 1::2, 0], halves, atol=0.5)


def test_no_two_pictures_are_alike_and_the_same_seed_gives_the_same():
    first, again = (trial_pictures(np.random.default_rng(1), 8, (48, 48, 3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first.reshape(8, -1), axis=0)) == 8
    assert first.min() < 20
    assert first.max() > 235
