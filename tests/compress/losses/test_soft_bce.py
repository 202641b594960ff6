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
    if mixes and ignore is not None:  # as in a mixed batch, a cell is left out for both of its pictures
        ignore = torch.zeros_like(ignore)
    arguments = teacher, targets, ignore, mix if mixes else None
    assert_same(value_and_gradient(SoftBCE(), student, *arguments), value_and_gradient(by_loop, student, *arguments))


def test_by_hand():
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 9.0]])
    value = SoftBCE()(student, teacher, torch.zeros(1, 2), torch.tensor([[False, True]]))
    assert value.item() == pytest.approx(math.log(2))
    value = SoftBCE()(torch.tensor([[math.log(3)]]), torch.zeros(1, 1), torch.zeros(1, 1))
    assert value.item() == pytest.approx(-0.5 * math.log(0.75) - 0.5 * math.log(0.25))


@few
@given(logit_batches())
def test_its_gradient_is_mld_s(batch):
    mine, other = (value_and_gradient(loss, *batch)[1] for loss in (SoftBCE(), MultiLabelLogitsDistillation()))
    torch.testing.assert_close(mine, other, atol=1e-9, rtol=1e-9)
