"""Multi-label logits distillation against a plain loop of the published formula, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from torch import Tensor

from edgepress.compress.losses import (
    MultiLabelLogitsDistillation,
)
from tests.compress.losses.loss_batches import assert_same, batches, few, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


def mld_by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None) -> Tensor:
    total = student.sum() * 0
    for i in range(student.shape[0]):
        for c in range(student.shape[1]):
            if ignore is None or not ignore[i, c]:
                p, q = teacher[i, c].sigmoid(), student[i, c].sigmoid()
                total = total + p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return total / student.shape[0]


@few
@given(batches())
def test_published_mld_is_the_formula(batch):
    arguments = batch["student_logits"], batch["teacher_logits"], batch["targets"], batch["ignore"]
    mine = value_and_gradient(MultiLabelLogitsDistillation("published"), *arguments)
    assert mine[0].dtype == torch.float64
    assert_same(mine, value_and_gradient(mld_by_loop, *arguments))


@pytest.mark.parametrize(("reduction", "over"), [("published", 1), ("mean", 3)])
def test_mld_by_hand_and_over_valid_cells(reduction, over):
    half, quarter = 0.0, math.log(1 / 3)  # logits of probabilities 1/2 and 1/4
    student = torch.tensor([[half, quarter, half, 9.0]])
    teacher = torch.tensor([[quarter, quarter, half, -9.0]])
    ignore = torch.tensor([[False, False, False, True]])
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    value = MultiLabelLogitsDistillation(reduction)(student, teacher, torch.zeros(1, 4), ignore)
    assert value.item() == pytest.approx(expected / over, rel=1e-5)
