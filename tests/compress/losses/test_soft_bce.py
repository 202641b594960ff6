"""Soft BCE against a plain loop of its formula, with pictures that are mixed and pictures that are not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import MultiLabelLogitsDistillation, SoftBCE
from edgepress.compress.mixup import Mix
from tests.compress.losses.loss_batches import assert_same, few, generator, logit_batches, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


def by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None, mix: Mix | None) -> Tensor:
    total, count = student.sum() * 0, 0
    for i in range(student.shape[0]):
        partner, share = (i, 1.0) if mix is None else (int(mix.partner[i]), float(mix.share[i]))
        for c in range(student.shape[1]):
            if ignore is not None and ignore[i, c]:
                continue
            z = student[i, c].sigmoid()
            for whose, weight in ((i, share), (partner, 1 - share)):
                p = teacher[whose, c].sigmoid()
                total = total - weight * (p * z.log() + (1 - p) * (1 - z).log())
            count += 1
    return total / max(count, 1)


@few
@given(logit_batches(), st.booleans())
def test_it_is_the_formula(batch, mixes):
    student, teacher, targets, ignore = batch
    random = generator(1)
    mix = Mix(torch.randperm(len(student), generator=random), torch.rand(len(student), generator=random))
    arguments = teacher, targets, ignore, mix if mixes else None
    assert_same(value_and_gradient(SoftBCE(), student, *arguments), value_and_gradient(by_loop, student, *arguments))


def test_by_hand():
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 9.0]])
    value = SoftBCE()(student, teacher, torch.zeros(1, 2), torch.tensor([[False, True]]))
    assert value.item() == pytest.approx(math.log(2))
    value = SoftBCE()(torch.tensor([[math.log(3)]]), torch.zeros(1, 1), torch.zeros(1, 1))
    assert value.item() == pytest.approx(-0.5 * math.log(0.75) - 0.5 * math.log(0.25))


def test_a_cell_that_is_left_out_for_a_picture_counts_for_its_partner():
    # Three pictures: the last takes the first, whose cell is left out because the second is unknown there.
    teacher, student = torch.tensor([[2.0], [1.0], [3.0]]), torch.zeros(3, 1)
    student[2] = 1.5
    mix = Mix(torch.tensor([1, 0, 0]), torch.tensor([0.9, 0.9, 0.6]))
    value = SoftBCE()(student, teacher, torch.zeros(3, 1), torch.tensor([[True], [True], [False]]), mix)
    sigmoid = [1 / (1 + math.exp(-z)) for z in (2.0, 3.0, 1.5)]
    target = 0.6 * sigmoid[1] + 0.4 * sigmoid[0]
    assert value.item() == pytest.approx(-target * math.log(sigmoid[2]) - (1 - target) * math.log(1 - sigmoid[2]))


def test_a_teacher_s_answer_that_is_left_out_may_be_anything():
    teacher = torch.tensor([[0.0, math.nan]])
    mix = Mix(torch.tensor([0]), torch.tensor([0.7]))
    value = SoftBCE()(torch.zeros(1, 2), teacher, torch.zeros(1, 2), torch.tensor([[False, True]]), mix)
    assert value.item() == pytest.approx(math.log(2))


@few
@given(logit_batches())
def test_its_gradient_is_mld_s(batch):
    mine, other = (value_and_gradient(loss, *batch)[1] for loss in (SoftBCE(), MultiLabelLogitsDistillation()))
    torch.testing.assert_close(mine, other, atol=1e-9, rtol=1e-9)
