"""Probabilistic knowledge transfer against a plain loop of its formula."""

from __future__ import annotations

import pytest
from hypothesis import given
from torch import Tensor

from edgepress.compress.losses import (
    ProbabilisticKT,
)
from tests.compress.losses.loss_batches import (
    assert_same,
    few,
    pooled_batches,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def pkt_by_loop(student: Tensor, teacher: Tensor) -> Tensor:
    n, total = len(student), student.sum() * 0

    def kernel(rows: Tensor, i: int, j: int) -> Tensor:
        cosine = (rows[i] * rows[j]).sum() / ((rows[i] ** 2).sum().sqrt() * (rows[j] ** 2).sum().sqrt())
        return ((cosine + 1) / 2).clamp(min=1e-7)

    for i in range(n):
        others = [j for j in range(n) if j != i]
        for j in others:
            p = kernel(teacher, i, j) / sum(kernel(teacher, i, k) for k in others)
            q = kernel(student, i, j) / sum(kernel(student, i, k) for k in others)
            total = total + p * (p / q).log()
    return total


@few
@given(pooled_batches())
def test_pkt_is_the_formula(batch):
    expected = value_and_gradient(pkt_by_loop, *batch)
    assert_same(value_and_gradient(ProbabilisticKT("published"), *batch), expected)
    assert_same(value_and_gradient(ProbabilisticKT(), *batch), tuple(part / len(batch[0]) for part in expected))
