"""Baselines on pooled features against plain loops of the formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import (
    ProbabilisticKT,
    RelationalKD,
)
from tests.compress.losses.loss_batches import (
    POOLED_LOSSES,
    assert_same,
    exact,
    few,
    generator,
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
def test_rkd_is_the_formula(batch):
    student, teacher = batch
    for weights, by_loop in ((1.0, 0.0), distance_by_loop), ((0.0, 1.0), angle_by_loop):
        expected = value_and_gradient(by_loop, student, teacher)
        # Features of one dimension have angles of 0 and 180° alone: their gradient is a rounding error.
        assert_same(value_and_gradient(RelationalKD(*weights), *batch), expected, atol=1e-9, rtol=1e-8)
    both = RelationalKD()(*batch)
    torch.testing.assert_close(both, 25 * distance_by_loop(*batch) + 50 * angle_by_loop(*batch), **exact)


@few
@given(pooled_batches())
def test_pkt_is_the_formula(batch):
    expected = value_and_gradient(pkt_by_loop, *batch)
    assert_same(value_and_gradient(ProbabilisticKT("published"), *batch), expected)
    assert_same(value_and_gradient(ProbabilisticKT(), *batch), tuple(part / len(batch[0]) for part in expected))


@pytest.mark.parametrize("loss", POOLED_LOSSES)
def test_pooled_features_at_their_edges_are_finite(loss):
    features, other = torch.randn(4, 3, generator=generator()), torch.randn(4, 6, generator=generator(1))
    for student in features * 200, torch.zeros(4, 3), torch.ones(4, 3), torch.tensor([[1.0], [-1.0]]), features[:1]:
        for teacher in other[: len(student)], other[: len(student)] * 200, torch.zeros(len(student), 2):
            value, gradient = value_and_gradient(loss, student, teacher)
            assert value.isfinite()
            assert gradient.isfinite().all()
    coincident = torch.cat([features, features[:1]])
    value, gradient = value_and_gradient(loss, coincident, torch.randn(5, 2, generator=generator(2)))
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", POOLED_LOSSES)
@few
@given(batch=pooled_batches(), random=st.randoms(use_true_random=False))
def test_pooled_losses_know_neither_the_order_of_pictures_nor_the_scale(loss, batch, random):
    student, teacher = batch
    order = torch.tensor(random.sample(range(len(student)), len(student)))
    value = loss(student, teacher)
    torch.testing.assert_close(loss(student[order], teacher[order]), value, **exact)
    torch.testing.assert_close(loss(student * 7, teacher), value, **exact)
