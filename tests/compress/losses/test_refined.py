"""Refined logits against a plain loop, and what each of the three cases teaches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from torch import Tensor

from edgepress.compress.losses import MultiLabelLogitsDistillation, RefinedLogits
from tests.compress.losses.loss_batches import assert_same, few, logit_batches, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")
PRECISION = [0.25, 0.5, 0.0, 1.0, 0.75]


def by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None) -> Tensor:
    total, count = student.sum() * 0, 0
    for i in range(student.shape[0]):
        for c in range(student.shape[1]):
            if ignore is not None and ignore[i, c]:
                continue
            p, q, count = teacher[i, c].sigmoid(), student[i, c].sigmoid(), count + 1
            if targets[i, c] == 1 and p < 0.5:
                total = total - q.log()
                continue
            weight = PRECISION[c] if targets[i, c] != 1 and p >= 0.6 else 1
            total = total + weight * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
    return total / max(count, 1)


@few
@given(logit_batches(labels=5))
def test_it_is_the_formula(batch):
    assert_same(value_and_gradient(RefinedLogits(0.6, PRECISION), *batch), value_and_gradient(by_loop, *batch))


def test_each_case_by_hand():
    half, sure = 0.0, math.log(9)
    loss = RefinedLogits(0.9, [0.5])
    ones, zeros, student = torch.ones(1, 1), torch.zeros(1, 1), torch.full((1, 1), half)
    contradicted = loss(student, torch.full((1, 1), -3.0), ones)
    assert contradicted.item() == pytest.approx(math.log(2))
    teacher = torch.full((1, 1), sure + 1e-3)
    plain = MultiLabelLogitsDistillation()(student, teacher, zeros).item()
    assert loss(student, teacher, zeros).item() == pytest.approx(plain / 2)
    assert loss(student, teacher, ones).item() == pytest.approx(plain)
    assert RefinedLogits(0.9)(student, teacher, zeros).item() == pytest.approx(plain)


def test_extreme_answers_are_finite_and_the_label_wins():
    student = torch.tensor([[200.0, -200.0, 200.0, -200.0]])
    teacher, targets = torch.tensor([[-200.0, -200.0, 200.0, 200.0]]), torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    value, gradient = value_and_gradient(RefinedLogits(0.9, [0.5] * 4), student, teacher, targets)
    assert value.item() == pytest.approx((200 + 200 + 0 + 100) / 4)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -1.0, 0.0, -0.5]]) / 4)


@few
@given(logit_batches(labels=5))
def test_ignored_cells_may_hold_anything(batch):
    student, teacher, targets, _ = batch
    ignore = torch.zeros_like(targets, dtype=torch.bool)
    ignore[0] = True
    loss = RefinedLogits(0.6, PRECISION)
    value, gradient = value_and_gradient(loss, student, teacher, targets, ignore)
    dirty = student + 100 * ignore, teacher - 50 * ignore, targets.double().masked_fill(ignore, 1), ignore
    assert_same(value_and_gradient(loss, *dirty), (value, gradient))
    assert not gradient[0].any()


def test_precisions_of_other_labels_are_refused():
    with pytest.raises(ValueError, match="precision: received 5; expected 4"):
        RefinedLogits(0.6, PRECISION)(*torch.zeros(3, 2, 4))
