"""What holds for every baseline on pooled features: edges, the order of pictures, the scale."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.compress.losses.loss_batches import (
    POOLED_LOSSES,
    exact,
    few,
    generator,
    pooled_batches,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
def test_pictures_that_are_left_out_are_not_in_the_batch(loss):
    student, teacher = torch.randn(5, 3, generator=generator()), torch.randn(5, 4, generator=generator(1))
    ignore = torch.tensor([False, True, False, False, True])
    value, gradient = value_and_gradient(loss, student, teacher, ignore)
    assert value == loss(student[[0, 2, 3]], teacher[[0, 2, 3]])
    assert not gradient[[1, 4]].any()
    assert value_and_gradient(loss, student, teacher, torch.ones(5, dtype=torch.bool))[0] == 0
    with pytest.raises(ValueError, match=r"^ignore: received \[5, 1\]; expected \[5\], one per picture$"):
        loss(student, teacher, ignore[:, None])


@pytest.mark.parametrize("loss", POOLED_LOSSES)
@few
@given(batch=pooled_batches(), random=st.randoms(use_true_random=False))
def test_pooled_losses_know_neither_the_order_of_pictures_nor_the_scale(loss, batch, random):
    student, teacher = batch
    order = torch.tensor(random.sample(range(len(student)), len(student)))
    value = loss(student, teacher)
    torch.testing.assert_close(loss(student[order], teacher[order]), value, **exact)
    torch.testing.assert_close(loss(student * 7, teacher), value, **exact)
