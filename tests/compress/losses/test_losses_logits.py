"""What holds for every baseline on logits, and for the losses of labels: ignored cells, extreme logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from edgepress.compress.losses import DIST
from tests.compress.losses.loss_batches import (
    LOGIT_LOSSES,
    TASK_LOSSES,
    assert_same,
    few,
    logit_batches,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
    if isinstance(loss, DIST):
        return  # of probabilities, which do not move there
    _, gradient = value_and_gradient(loss, student, teacher, torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0]]))
    assert gradient[0, 0] > 0
    assert gradient[1, 0] < 0
