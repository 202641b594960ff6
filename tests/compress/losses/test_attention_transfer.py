"""Attention transfer against a plain loop of its formula."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import (
    AttentionTransfer,
)
from tests.compress.losses.loss_batches import assert_same, few, normal, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


@few
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_attention_transfer_is_the_formula(seed, n, channels, height, width):
    shapes = [(n, channels, height, width), (n, 2, 2, 3)]
    students = [normal(*shape, seed=seed + index) for index, shape in enumerate(shapes)]
    teachers = [normal(n, 5, *shape[2:], seed=seed + 9 + index) for index, shape in enumerate(shapes)]

    def by_loop(first: Tensor) -> Tensor:
        total = first.sum() * 0
        for student, teacher in zip([first, students[1]], teachers, strict=True):
            for i in range(n):
                q_s, q_t = (student[i] ** 2).sum(0).flatten(), (teacher[i] ** 2).sum(0).flatten()
                gap = q_s / (q_s**2).sum().sqrt() - q_t / (q_t**2).sum().sqrt()
                total = total + (gap**2).sum() / (n * gap.numel())
        return total

    mine = value_and_gradient(lambda first: AttentionTransfer()([first, students[1]], teachers), students[0])
    assert_same(mine, value_and_gradient(by_loop, students[0]))
