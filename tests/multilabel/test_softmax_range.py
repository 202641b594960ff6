"""The range of a softmax's output: as measured, unless attention is nearly flat."""

from __future__ import annotations

import pytest

from edgepress.multilabel.softmax_range import softmax_range


@pytest.mark.parametrize(("highest", "positions", "top"), [(0.9, 64, 0.9), (0.02, 64, 2 / 64), (1.0, 1, 1.0)])
def test_it_is_as_measured_or_twice_flat_attention(highest, positions, top):
    assert softmax_range(highest, positions) == (0.0, top)
