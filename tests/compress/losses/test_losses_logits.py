"""Baselines on logits against plain loops of the formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import Tensor

from edgepress.compress.losses import (
    BinaryKD,
    LogitsMSE,
    MultiLabelLogitsDistillation,
    PartialSoftmax,
)
from tests.compress.losses.loss_batches import (
    LOGIT_LOSSES,
    TASK_LOSSES,
    assert_same,
    cells_of,
    exact,
    few,
    logit_batches,
    normal,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def partial_softmax_by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None) -> Tensor:
    total = student.sum() * 0
    valid = cells_of(targets, ignore)
    for i in range(len(student)):
        negatives = [c for row, c in valid if row == i and targets[i, c] == 0]
        for positive in [c for row, c in valid if row == i and targets[i, c] == 1]:
            chosen = [*negatives, positive]
            p, q = teacher[i, chosen].softmax(0), student[i, chosen].softmax(0)
            total = total + (p * (p.log() - q.log())).sum()
    return total / len(student)


def kd_by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None, temperature: float) -> Tensor:
    total = student.sum() * 0
    for i, c in cells_of(targets, ignore):
        p, q = (teacher[i, c] / temperature).sigmoid(), (student[i, c] / temperature).sigmoid()
        total = total + p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return total * temperature**2


@few
@given(logit_batches())
def test_partial_softmax_is_the_formula(batch):
    student, teacher, targets, ignore = batch
    expected = value_and_gradient(lambda z: partial_softmax_by_loop(z, teacher, targets, ignore), student)
    assert_same(value_and_gradient(PartialSoftmax(), *batch), expected)


def test_partial_softmax_with_no_one_and_all_positives():
    student, teacher = normal(1, 4), normal(1, 4, seed=1)
    for row, teaches in ([[0, 0, 0, 0]], False), ([[0, 1, 0, 0]], True), ([[1, 1, 1, 1]], False):
        targets = torch.tensor(row)
        mine = value_and_gradient(PartialSoftmax(), student, teacher, targets)
        assert_same(mine, value_and_gradient(lambda z: partial_softmax_by_loop(z, teacher, targets, None), student))  # noqa: B023
        assert (mine[0] > 0) == teaches
    # One positive: the plain softmax over all labels.
    whole = torch.nn.functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="sum")
    torch.testing.assert_close(PartialSoftmax()(student, teacher, torch.tensor([[0, 1, 0, 0]])), whole, **exact)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@few
@given(batch=logit_batches())
def test_binary_kd_is_the_formula(temperature, batch):
    student, teacher, targets, ignore = batch
    expected = value_and_gradient(lambda z: kd_by_loop(z, teacher, targets, ignore, temperature), student)
    published = value_and_gradient(BinaryKD(temperature, "published"), *batch)
    assert_same(published, tuple(part / len(student) for part in expected))
    count = max(len(cells_of(targets, ignore)), 1)
    assert_same(value_and_gradient(BinaryKD(temperature), *batch), tuple(part / count for part in expected))
    if temperature == 1:
        assert_same(published, value_and_gradient(MultiLabelLogitsDistillation("published"), *batch))


@few
@given(logit_batches())
def test_mse_is_the_formula(batch):
    student, teacher, targets, ignore = batch
    cells = cells_of(targets, ignore)

    def by_loop(z: Tensor) -> Tensor:
        return sum(((z[i, c] - teacher[i, c]) ** 2 for i, c in cells), z.sum() * 0) / max(len(cells), 1)

    assert_same(value_and_gradient(LogitsMSE(), *batch), value_and_gradient(by_loop, student))


@few
@given(logit_batches(labels=5))
def test_ignored_cells_may_hold_anything_and_get_no_gradient(batch):
    student, teacher, targets, ignore = batch
    ignore = torch.zeros_like(targets, dtype=torch.bool) if ignore is None else ignore.clone()
    ignore[0, 0] = True
    dirty, dirty_targets = student + 100 * ignore, targets.double().masked_fill(ignore, -1)
    for loss in LOGIT_LOSSES:
        value, gradient = value_and_gradient(loss, student, teacher, targets, ignore)
        assert_same(value_and_gradient(loss, dirty, teacher - 50 * ignore, dirty_targets, ignore), (value, gradient))
        assert (gradient[ignore] == 0).all()
    for loss in TASK_LOSSES:
        value, gradient = value_and_gradient(loss, student, targets, ignore)
        assert_same(value_and_gradient(loss, dirty, dirty_targets, ignore), (value, gradient))
        assert (gradient[ignore] == 0).all()


@pytest.mark.parametrize("loss", LOGIT_LOSSES)
def test_extreme_logits_are_finite_and_pull_towards_the_teacher(loss):
    student = torch.tensor([[200.0, -200.0, 200.0, 0.0], [-200.0, 200.0, 200.0, -200.0]])
    teacher = torch.tensor([[-200.0, 200.0, 200.0, 200.0], [200.0, 200.0, -200.0, -200.0]])
    for targets in torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0]]), torch.ones(2, 4), torch.zeros(2, 4):
        value, gradient = value_and_gradient(loss, student, teacher, targets)
        assert value.isfinite()
        assert gradient.isfinite().all()
    _, gradient = value_and_gradient(loss, student, teacher, torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0]]))
    assert gradient[0, 0] > 0
    assert gradient[1, 0] < 0
