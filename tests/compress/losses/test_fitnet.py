"""FitNet's hints against a plain loop of their formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import (
    FitNetHints,
)
from tests.compress.losses.loss_batches import assert_same, exact, few, normal, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("channels", [(2, 3), (3, 3)])
@few
@given(seed=st.integers(0, 2**31), n=st.integers(1, 3), side=st.integers(1, 4))
def test_fitnet_is_the_formula(channels, seed, n, side):
    torch.manual_seed(seed)
    published = FitNetHints([channels[0]], [channels[1]], "published").double()
    mean = FitNetHints([channels[0]], [channels[1]]).double()
    mean.load_state_dict(published.state_dict())
    # The teacher's map is twice as large and is averaged over cells of 2×2.
    student, teacher = normal(n, channels[0], side, side, seed=seed), normal(n, channels[1], 2 * side, 2 * side, seed=1)

    def by_loop(maps: Tensor) -> Tensor:
        total = maps.sum() * 0
        for i in range(n):
            for y in range(side):
                for x in range(side):
                    ours = maps[i, :, y, x]
                    if channels[0] != channels[1]:
                        layer = published.projections[0]
                        ours = layer.weight[:, :, 0, 0] @ ours + layer.bias
                    theirs = teacher[i, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean(dim=(1, 2))
                    total = total + ((ours - theirs) ** 2).sum()
        return total

    expected = value_and_gradient(by_loop, student)
    assert_same(
        value_and_gradient(lambda maps: published([maps], [teacher]), student),
        tuple(part / (2 * n) for part in expected),
    )
    cells = n * channels[1] * side**2
    assert_same(
        value_and_gradient(lambda maps: mean([maps], [teacher]), student), tuple(part / cells for part in expected)
    )


def test_fitnet_averages_or_adds_its_taps():
    students, teachers = (
        [normal(2, 3, 4, 4), normal(2, 3, 2, 2)],
        [normal(2, 3, 4, 4, seed=1), normal(2, 3, 2, 2, seed=1)],
    )
    for reduction, factor in (("mean", 0.5), ("published", 1)):
        alone = [FitNetHints([3], [3], reduction)([s], [t]) for s, t in zip(students, teachers, strict=True)]
        both = FitNetHints([3, 3], [3, 3], reduction)(students, teachers)
        torch.testing.assert_close(both, factor * sum(alone), **exact)
