"""The squared difference of logits against a plain loop of its formula."""

from __future__ import annotations

import pytest
from hypothesis import given
from torch import Tensor

from edgepress.compress.losses import (
    LogitsMSE,
)
from tests.compress.losses.loss_batches import (
    assert_same,
    cells_of,
    few,
    logit_batches,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@few
@given(logit_batches())
def test_mse_is_the_formula(batch):
    student, teacher, targets, ignore = batch
    cells = cells_of(targets, ignore)

    def by_loop(z: Tensor) -> Tensor:
        return sum(((z[i, c] - teacher[i, c]) ** 2 for i, c in cells), z.sum() * 0) / max(len(cells), 1)

    assert_same(value_and_gradient(LogitsMSE(), *batch), value_and_gradient(by_loop, student))
