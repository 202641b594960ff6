"""SimKD against a plain loop of its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import SimKD
from tests.compress.losses.loss_batches import assert_same, few, normal, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(loss: SimKD) -> SimKD:
    """The loss with a projection that is not 0 any more."""
    for one in loss.parameters():
        torch.nn.init.normal_(one)
    return loss


def test_a_projection_starts_at_zero_and_then_teaches_the_student():
    torch.manual_seed(0)
    loss, student, teacher = SimKD(3, 5), normal(4, 9, 3).float().requires_grad_(), normal(4, 9, 5, seed=1).float()
    value = loss(100 * student, teacher)  # however large an untrained student's values are
    value.backward()
    assert value.item() == pytest.approx(float(teacher.square().mean() / teacher.var(correction=0)))
    assert student.grad.abs().max() == 0
    step = torch.optim.SGD(loss.parameters(), 1e-5)
    step.step()
    after = loss(100 * student, teacher)
    after.backward()
    assert after < value
    assert student.grad.abs().max() > 0


@pytest.mark.parametrize("widths", [(2, 3), (3, 3)])
@few
@given(seed=st.integers(0, 2**31), n=st.integers(1, 3), side=st.integers(1, 3), mask=st.integers(0, 7))
def test_simkd_is_the_formula(widths, seed, n, side, mask):
    torch.manual_seed(seed)
    loss = drawn(SimKD(*widths).double())
    ignore = [bool(mask >> i & 1) for i in range(n)]
    # The student's map is twice as large and is averaged over cells of 2×2.
    student, teacher = normal(n, 4 * side**2, widths[0], seed=seed), normal(n, side**2, widths[1], seed=1)

    def by_loop(tokens: Tensor) -> Tensor:
        total = tokens.sum() * 0
        kept = [i for i in range(n) if not ignore[i]]
        for i in kept:
            for y in range(side):
                for x in range(side):
                    places = [(2 * y + dy) * 2 * side + 2 * x + dx for dy in (0, 1) for dx in (0, 1)]
                    ours = sum(tokens[i, place] for place in places) / 4
                    if widths[0] != widths[1]:
                        ours = loss.project.weight @ ours + loss.project.bias
                    total = total + ((ours - teacher[i, y * side + x]) ** 2).sum()
        if not kept:
            return total
        seen = teacher[kept]
        return total / (seen - seen.mean()).square().sum()

    given_mask = torch.tensor(ignore) if mask else None
    found = value_and_gradient(lambda t: loss(t, teacher, given_mask), student)
    assert_same(value_and_gradient(by_loop, student), found)


def test_a_smaller_map_is_interpolated_between_its_places():
    # Four places with 0 on the left and 1 on the right, as 4×4: torch's half-pixel centres give 0, 1/4, 3/4, 1.
    student = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.double).reshape(1, 4, 1)
    row = torch.tensor([0.0, 0.25, 0.75, 1.0], dtype=torch.double)
    assert SimKD(1, 1)(student, row.repeat(4).reshape(1, 16, 1)).item() == 0
    flat = row.repeat_interleave(4).reshape(1, 16, 1)  # the same values, turned by 90 degrees
    assert SimKD(1, 1)(student, flat).item() == pytest.approx(2.0)


def test_the_mean_of_the_teachers_values_costs_one_at_any_scale():
    teacher = normal(3, 4, 5, seed=2)
    for scale in 1, 1e3:
        guess = torch.full_like(teacher, scale * float(teacher.mean()))
        assert SimKD(5, 5)(guess, scale * teacher).item() == pytest.approx(1)
    assert SimKD(5, 5)(teacher, teacher).item() == 0
    assert SimKD(5, 5)(torch.zeros(2, 4, 5), torch.zeros(2, 4, 5)).item() == 0  # a variance of 0


def test_extreme_tokens_are_finite_and_autocast_changes_nothing():
    torch.manual_seed(0)
    student, teacher = (200 * normal(2, 4, 3).float()).requires_grad_(), 200 * normal(2, 9, 5, seed=1).float()
    loss = drawn(SimKD(3, 5))
    value = loss(student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher), value)


def test_of_maps_that_are_not_both_square_the_means_are_compared():
    torch.manual_seed(0)
    student, teacher, loss = normal(2, 5, 3), normal(2, 4, 5, seed=1), drawn(SimKD(3, 5)).double()
    means = student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True)
    torch.testing.assert_close(loss(student, teacher), loss(*means))
    assert not torch.allclose(loss(student[:, :4], teacher), loss(*means))  # of two square maps every place is


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((2, 4, 3), (2, 4, 4), r"^teacher: received \[2, 4, 4\]; expected \[2, S, 5\]$"),
        ((2, 4, 3), (3, 4, 5), r"^teacher: received \[3, 4, 5\]; expected \[2, S, 5\]$"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        SimKD(3, 5)(torch.zeros(student), torch.zeros(teacher))
