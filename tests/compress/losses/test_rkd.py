"""Relational distillation against plain loops of its two formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import Tensor

from edgepress.compress.losses import (
    RelationalKD,
)
from tests.compress.losses.loss_batches import (
    assert_same,
    exact,
    few,
    pooled_batches,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def huber(gap: Tensor) -> Tensor:
    return 0.5 * gap**2 if gap.abs() < 1 else gap.abs() - 0.5


def distance_by_loop(student: Tensor, teacher: Tensor) -> Tensor:
    n, total = len(student), student.sum() * 0
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    if not pairs:
        return total

    def relative(rows: Tensor) -> list[Tensor]:
        distances = [((rows[i] - rows[j]) ** 2).sum().sqrt() for i, j in pairs]
        return [distance / (sum(distances) / len(distances)) for distance in distances]

    for mine, theirs in zip(relative(student), relative(teacher), strict=True):
        total = total + huber(mine - theirs)
    return total / n**2


def angle_by_loop(student: Tensor, teacher: Tensor) -> Tensor:
    n, total = len(student), student.sum() * 0

    def cosine(rows: Tensor, i: int, j: int, k: int) -> Tensor:
        a, b = rows[i] - rows[j], rows[k] - rows[j]
        return (a * b).sum() / ((a**2).sum().sqrt() * (b**2).sum().sqrt())

    for i in range(n):
        for j in range(n):
            for k in range(n):
                if j not in (i, k):
                    total = total + huber(cosine(student, i, j, k) - cosine(teacher, i, j, k))
    return total / n**3


@few
@given(pooled_batches())
def test_rkd_is_the_formula(batch):
    student, teacher = batch
    for weights, by_loop in ((1.0, 0.0), distance_by_loop), ((0.0, 1.0), angle_by_loop):
        expected = value_and_gradient(by_loop, student, teacher)
        # Features of one dimension have angles of 0 and 180° alone: their gradient is a rounding error.
        assert_same(value_and_gradient(RelationalKD(*weights), *batch), expected, atol=1e-9, rtol=1e-8)
    both = RelationalKD()(*batch)
    torch.testing.assert_close(both, 25 * distance_by_loop(*batch) + 50 * angle_by_loop(*batch), **exact)
