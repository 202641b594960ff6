"""What holds for every baseline on feature maps: precision, widths, sizes, extremes."""

from __future__ import annotations

import copy

import pytest
import torch

from edgepress.compress.losses import (
    AttentionTransfer,
    FitNetHints,
    ReviewKD,
)
from tests.compress.losses.loss_batches import maps

pytestmark = pytest.mark.usefixtures("one_thread")


def test_maps_are_compared_in_full_precision_whatever_autocast_says():
    torch.manual_seed(0)
    channels, widths = [3, 4], [5, 6]
    for loss in ReviewKD(channels, widths), FitNetHints(channels, widths), AttentionTransfer():
        student, teacher = maps(channels, [4, 2]), maps(widths, [4, 2], seed=7)
        exactly = copy.deepcopy(loss).double()([m.double() for m in student], [m.double() for m in teacher])
        for mixed in False, True:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                torch.testing.assert_close(loss(student, teacher).double(), exactly, rtol=1e-5, atol=0)


@pytest.mark.parametrize("make", [ReviewKD, FitNetHints])
def test_a_teacher_of_other_widths_than_at_construction_is_refused(make):
    loss = make([3, 4], [5, 6])
    with pytest.raises(ValueError, match=r"^teacher map 1: received \[3, 7, 2, 2\]; expected \[3, 6, H, W\]$"):
        loss(maps([3, 4], [4, 2]), maps([5, 7], [4, 2]))


@pytest.mark.parametrize(
    ("teacher_channels", "teacher_sides"),
    [([6, 7, 8], [8, 4, 2]), ([6, 7, 8], [14, 7, 3]), ([5, 5, 5], [4, 4, 4]), ([4, 6, 8], [2, 1, 1])],
)
def test_maps_of_other_widths_and_sizes_teach_every_parameter_and_every_map(teacher_channels, teacher_sides):
    torch.manual_seed(0)
    channels = [4, 6, 10]
    for loss in ReviewKD(channels, teacher_channels), FitNetHints(channels, teacher_channels), AttentionTransfer():
        student, teacher = maps(channels, [8, 4, 2]), maps(teacher_channels, teacher_sides, seed=7)
        value = loss(student, teacher)
        assert value.shape == ()
        value.backward()
        for tensor in [*student, *loss.parameters()]:
            assert tensor.grad.isfinite().all()
        # A batch norm's bias or a map of one position may get nothing; the first map always does.
        assert student[0].grad.abs().sum() > 0 or teacher_sides[-1] == 1
        assert all(tensor.grad is None for tensor in teacher)


@pytest.mark.parametrize("make", [ReviewKD, FitNetHints, lambda *_: AttentionTransfer()])
def test_pictures_that_are_left_out_change_nothing_and_get_no_gradient(make):
    torch.manual_seed(0)
    loss, ignore = make([3, 4], [5, 6]).eval(), torch.tensor([False, True, False])
    student, teacher = maps([3, 4], [4, 2]), maps([5, 6], [4, 2], seed=7)
    value = loss(student, teacher, ignore)
    value.backward()
    assert all(not tensor.grad[1].any() and tensor.grad[0].any() for tensor in student)
    kept = [[tensor[[0, 2]] for tensor in each] for each in (student, teacher)]
    torch.testing.assert_close(value, loss(*kept))
    assert loss(student, teacher, torch.ones(3, dtype=torch.bool)) == 0
    with pytest.raises(ValueError, match=r"^ignore: received \[2\]; expected \[3\], one per picture$"):
        loss(student, teacher, torch.zeros(2, dtype=torch.bool))


def test_extreme_maps_are_finite():
    for loss in ReviewKD([4, 6], [4, 6]), FitNetHints([4, 6], [4, 6]), AttentionTransfer():
        for factor in 0, 200:
            student = [(tensor * factor).detach().requires_grad_() for tensor in maps([4, 6], [4, 2])]
            value = loss(student, maps([4, 6], [4, 2], seed=3))
            value.backward()
            assert value.isfinite()
            assert all(tensor.grad.isfinite().all() for tensor in student)
