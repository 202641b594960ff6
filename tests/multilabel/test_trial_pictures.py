"""Pictures that converted models are tried on."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.trial_pictures import PATCHES, trial_pictures


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 100), (7, 5), (1, 1)])
def test_pictures_are_of_patches_each_of_one_colour(height, width):
    found = trial_pictures(np.random.default_rng(0), 3, (height, width, 3))
    assert (found.shape, found.dtype) == ((3, height, width, 3), np.uint8)
    for axis, side in ((1, height), (2, width)):
        edges = (np.diff(found.astype(int), axis=axis) != 0).any(axis=(0, 3 - axis, 3))
        assert edges.sum() == min(side, PATCHES) - 1


def test_no_two_pictures_are_alike_and_the_same_seed_gives_the_same():
    first, again = (trial_pictures(np.random.default_rng(1), 8, (48, 48, 3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first.reshape(8, -1), axis=0)) == 8
    assert first.min() < 10
    assert first.max() > 245
