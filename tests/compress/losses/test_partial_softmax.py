"""The partial softmax against a plain loop of its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import Tensor

from edgepress.compress.losses import (
    PartialSoftmax,
)
from tests.compress.losses.loss_batches import (
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
