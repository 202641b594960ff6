"""Task losses and their options against plain loops of the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import (
    AsymmetricLoss,
    BinaryCrossEntropy,
    FocalLoss,
)
from tests.compress.losses.loss_batches import (
    TASK_LOSSES,
    WEIGHTS,
    assert_same,
    batches,
    cells_of,
    exact,
    few,
    logit_batches,
    normal,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def asl_by_loop(logits, targets, ignore, gamma_neg, gamma_pos, clip) -> Tensor:
    total = logits.sum() * 0
    for z, y, skip in zip(logits.flatten(), targets.flatten(), ignore.flatten(), strict=True):
        p = 1 / (1 + (-z).exp())
        shifted = (p - clip).clamp(min=0)
        if not skip and y == 1:
            total = total - (1 - p) ** gamma_pos * p.log()
        elif not skip:
            total = total - shifted**gamma_neg * (1 - shifted).log()
    return total


@pytest.mark.parametrize("settings_", [(4.0, 0.0, 0.05), (1.0, 1.0, 0.0), (0.0, 0.0, 0.2), (3.0, 2.0, 0.5)], ids=str)
@few
@given(batch=batches(most=4))
def test_asl_is_the_formula(settings_, batch):
    gamma_neg, gamma_pos, clip = settings_
    ignore = torch.zeros_like(batch["targets"], dtype=torch.bool) if batch["ignore"] is None else batch["ignore"]
    logits, targets = batch["student_logits"], batch["targets"]
    expected = value_and_gradient(lambda z: asl_by_loop(z, targets, ignore, *settings_), logits)
    mine = AsymmetricLoss(gamma_neg, gamma_pos, clip, reduction="published")
    assert_same(value_and_gradient(mine, logits, targets, batch["ignore"]), expected)
    mean = AsymmetricLoss(gamma_neg, gamma_pos, clip)(logits, targets, batch["ignore"])
    torch.testing.assert_close(mean, expected[0] / max(int((~ignore).sum()), 1), **exact)


@few
@given(batches(most=4))
def test_bce_is_the_formula_and_asl_without_its_settings(batch):
    logits, targets, ignore = batch["student_logits"], batch["targets"], batch["ignore"]
    valid = torch.ones_like(targets, dtype=torch.bool) if ignore is None else ~ignore
    p, y = logits.sigmoid(), targets.double()
    cells = -(y * p.log() + (1 - y) * (1 - p).log())[valid]
    published = value_and_gradient(BinaryCrossEntropy("published"), logits, targets, ignore)
    torch.testing.assert_close(published[0], cells.sum(), **exact)
    torch.testing.assert_close(published[1], torch.where(valid, p - y, 0), **exact)
    mean = BinaryCrossEntropy()(logits, targets, ignore)
    torch.testing.assert_close(mean, cells.sum() / max(int(valid.sum()), 1), **exact)
    plain = value_and_gradient(AsymmetricLoss(0, 0, 0, reduction="published"), logits, targets, ignore)
    assert_same(plain, published)


def task_by_loop(loss, logits: Tensor, targets: Tensor, ignore: Tensor | None) -> Tensor:
    total = logits.sum() * 0
    for i, c in cells_of(targets, ignore):
        p = 1 / (1 + (-logits[i, c]).exp())
        y = targets[i, c].double() * (1 - loss.label_smoothing) + loss.label_smoothing / 2
        weight = 1.0 if loss.positive_weights is None else loss.positive_weights[c].double()
        if isinstance(loss, FocalLoss):
            alpha = (1.0, 1.0) if loss.alpha is None else (loss.alpha, 1 - loss.alpha)
            positive = alpha[0] * (1 - p) ** loss.gamma * p.log()
            negative = alpha[1] * p**loss.gamma * (1 - p).log()
        elif isinstance(loss, AsymmetricLoss):
            shifted = (p - loss.clip).clamp(min=0)
            positive = (1 - p) ** loss.gamma_pos * p.log()
            negative = shifted**loss.gamma_neg * (1 - shifted).log()
        else:
            positive, negative = p.log(), (1 - p).log()
        total = total - weight * y * positive - (1 - y) * negative
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@few
@given(batch=logit_batches(labels=5), gamma=st.sampled_from([0.0, 0.5, 2.0]), alpha=st.sampled_from([None, 0.25]))
def test_task_losses_are_their_formulas(smoothing, weights, batch, gamma, alpha):
    logits, _, targets, ignore = batch
    options = {"label_smoothing": smoothing, "positive_weights": weights}
    count = max(len(cells_of(targets, ignore)), 1)
    for make in (
        lambda reduction: BinaryCrossEntropy(reduction, **options),
        lambda reduction: AsymmetricLoss(3.0, 1.0, 0.05, reduction, **options),
        lambda reduction: FocalLoss(alpha, gamma, reduction, **options),
    ):
        loss = make("published")
        expected = value_and_gradient(lambda z, loss=loss: task_by_loop(loss, z, targets, ignore), logits)
        assert_same(value_and_gradient(loss, logits, targets, ignore), expected)
        mean = value_and_gradient(make("mean"), logits, targets, ignore)
        assert_same(mean, tuple(part / count for part in expected))


def test_focal_without_its_settings_is_bce():
    logits, targets = normal(3, 5) * 4, (normal(3, 5, seed=1) > 0).float()
    expected = value_and_gradient(BinaryCrossEntropy(), logits, targets)
    assert_same(value_and_gradient(FocalLoss(None, 0.0), logits, targets), expected)


@pytest.mark.parametrize("loss", [*TASK_LOSSES, FocalLoss(None, 0.5), FocalLoss(None, 0.0)])
def test_task_losses_are_finite_at_extreme_logits(loss):
    logits = torch.tensor([[200.0, -200.0, 200.0, -200.0, 0.0]])
    value, gradient = value_and_gradient(loss, logits, torch.tensor([[0, 1, 1, 0, 1]]))
    assert value.isfinite()
    assert gradient.isfinite().all()
    if not loss.label_smoothing and not isinstance(loss, AsymmetricLoss):
        assert gradient[0, 0] > 0
        assert gradient[0, 1] < 0


def test_label_smoothing_puts_the_best_logit_between_the_infinities():
    # At y = 1 with s = 0.2 the target is 0.9.
    best = torch.tensor([[math.log(0.9 / 0.1)]], dtype=torch.float64)
    _, gradient = value_and_gradient(BinaryCrossEntropy(label_smoothing=0.2), best, torch.ones(1, 1))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)
