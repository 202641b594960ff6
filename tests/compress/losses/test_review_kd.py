"""ReviewKD against a plain loop of its formula, as its authors start it, and what it learns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import (
    ReviewKD,
)
from edgepress.compress.losses.review_kd import AttentionBasedFusion, convolved_doubled, hierarchical_context_loss
from tests.compress.losses.loss_batches import assert_same, exact, maps, normal, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


def context(student: Tensor, teacher: Tensor) -> Tensor:
    return hierarchical_context_loss(student, teacher).mean()


def test_hierarchical_context_loss_by_hand():
    student, teacher = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    gap = student - teacher
    halves = torch.stack([gap[..., y : y + 2, x : x + 2].mean(dim=(2, 3)) for y in (0, 2) for x in (0, 2)])
    # Full size 1, then 4 is not smaller than the map, 2 positions a side ½, 1 position ¼.
    expected = (gap**2).mean() + 0.5 * (halves**2).mean() + 0.25 * (gap.mean(dim=(2, 3)) ** 2).mean()
    torch.testing.assert_close(context(student, teacher), expected / 1.75, **exact)
    assert context(student, student) == 0
    single = normal(2, 3, 1, 1)
    torch.testing.assert_close(context(single, single + 2), torch.tensor(4.0).double(), **exact)


def test_hierarchical_context_has_four_positions_a_side_and_none_that_the_shorter_side_lacks():
    gap = normal(2, 3, 8, 8)
    pooled = [gap.unflatten(3, (side, -1)).unflatten(2, (side, -1)).mean(dim=(3, 5)) for side in (8, 4, 2, 1)]
    expected = sum(level.square().mean() / 2**index for index, level in enumerate(pooled)) / 1.875
    torch.testing.assert_close(context(gap, torch.zeros_like(gap)), expected, **exact)
    flat = normal(2, 3, 2, 8)
    expected = (flat.square().mean() + 0.5 * flat.mean(dim=(2, 3)).square().mean()) / 1.5
    for maps_ in flat, flat.mT:
        torch.testing.assert_close(context(maps_, torch.zeros_like(maps_)), expected, **exact)


@settings(deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), st.integers(0, 9))
def test_hierarchical_context_of_any_size_is_a_mean_for_each_position(high, wide, seed):
    """Also where positions share rows and columns, so that a level is no mean of the level before."""
    gap = normal(2, 3, high, wide, seed=seed)
    levels = [(high, wide), *((side, side) for side in (4, 2, 1) if side < min(high, wide))]
    total = torch.zeros((), dtype=gap.dtype)
    for index, (rows, columns) in enumerate(levels):
        for row in range(rows):
            for column in range(columns):
                top, bottom = row * high // rows, -(-(row + 1) * high // rows)
                left, right = column * wide // columns, -(-(column + 1) * wide // columns)
                mean = gap[:, :, top:bottom, left:right].mean(dim=(2, 3))
                total += mean.square().mean() / (rows * columns) / 2**index
    expected = total / sum(0.5**index for index in range(len(levels)))
    torch.testing.assert_close(context(gap, torch.zeros_like(gap)), expected, **exact)


def test_review_is_the_formula():
    """Two stages that are not square, the teacher's of other sizes."""
    torch.manual_seed(0)
    loss = ReviewKD([4, 6], [3, 5]).double()
    for parameter in loss.parameters():  # a fresh batch norm's factors of 1 and 0 would hide what is missing
        parameter.data += 0.3 * normal(*parameter.shape)
    shallow, deep = normal(2, 4, 4, 6), normal(2, 6, 2, 3)
    teachers = [normal(2, 3, 8, 3, seed=1), normal(2, 5, 2, 3, seed=2)]

    def convolved(maps: Tensor, layers, padding: int = 0) -> Tensor:
        convolution, norm = layers
        maps = torch.nn.functional.conv2d(maps, convolution.weight, padding=padding)
        mean, variance = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3), correction=0)
        factor = norm.weight / (variance + 1e-5).sqrt()
        return (maps - mean[:, None, None]) * factor[:, None, None] + norm.bias[:, None, None]

    def nearest(maps: Tensor, height: int, width: int) -> Tensor:
        rows, columns = torch.arange(height) * maps.shape[2] // height, torch.arange(width) * maps.shape[3] // width
        return maps[:, :, rows][:, :, :, columns]

    def by_hand(first: Tensor) -> Tensor:
        below = convolved(deep, loss.fusions[1].enter)
        total = context(convolved(below, loss.fusions[1].leave, 1), teachers[1])
        own, theirs = convolved(first, loss.fusions[0].enter), nearest(below, 4, 6)
        layer, both = loss.fusions[0].attention, torch.cat([own, theirs], dim=1)
        weights = (torch.einsum("oi,nihw->nohw", layer.weight[:, :, 0, 0], both) + layer.bias[:, None, None]).sigmoid()
        fused = weights[:, :1] * own + weights[:, 1:] * theirs
        return total + context(convolved(nearest(fused, 8, 3), loss.fusions[0].leave, 1), teachers[0])

    mine = value_and_gradient(lambda first: loss([first, deep], teachers), shallow)
    assert_same(mine, value_and_gradient(by_hand, shallow))


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 9))
def test_a_convolution_at_twice_the_size_is_the_formula(count, inner, outer, high, wide, seed):
    """Computed at the maps' own size, with the borders and the gradients of the plain form."""
    maps = normal(count, inner, high, wide, seed=seed).requires_grad_()
    weight = normal(outer, inner, 3, 3, seed=seed + 1).requires_grad_()
    doubled = torch.nn.functional.interpolate(maps, scale_factor=2, mode="nearest")
    expected = torch.nn.functional.conv2d(doubled, weight, padding=1)
    found = convolved_doubled(maps, weight)
    torch.testing.assert_close(found, expected, **exact)
    factors = normal(*expected.shape, seed=seed + 2)
    for mine, plain in zip(
        *(torch.autograd.grad(one, (maps, weight), factors) for one in (found, expected)), strict=True
    ):
        torch.testing.assert_close(mine, plain, **exact)


@pytest.mark.parametrize(("high", "wide"), [(4, 4), (4, 5), (2, 3)])
def test_a_teacher_of_twice_the_size_is_compared_as_any_other(high, wide):
    torch.manual_seed(0)
    fusion = AttentionBasedFusion(3, 5, 4, fuse=False).double()
    maps = normal(2, 3, high, wide)
    output, fused = fusion(maps, None, (2 * high, 2 * wide))
    expected = fusion.leave(torch.nn.functional.interpolate(fused, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(output, expected, **exact)


def test_review_starts_as_the_authors_do():
    """Kaiming's uniform distribution with a = 1 on both convolutions, which need no bias in front of a batch norm."""
    torch.manual_seed(0)
    fusion = ReviewKD([40], [50], max_width=30).fusions[0]
    for convolution, inputs in ((fusion.enter[0], 40), (fusion.leave[0], 30 * 9)):
        bound = (3 / inputs) ** 0.5
        assert 0.99 * bound < convolution.weight.abs().max() <= bound
        assert convolution.bias is None
    assert ReviewKD([4], [4], max_width=1).fusions[0].enter[0].out_channels == 1


def test_review_lets_the_shallowest_stage_of_the_teacher_reach_the_deepest_of_the_student():
    torch.manual_seed(0)
    loss = ReviewKD([4, 6, 600], [3, 5, 7], max_width=8)
    assert loss.fusions[2].attention is None
    assert all(fusion.enter[0].out_channels == 8 for fusion in loss.fusions)
    student = maps([4, 6, 600], [8, 4, 2])
    output, deeper = loss.fusions[2](student[2], None, (2, 2))
    assert output.shape == (3, 7, 2, 2)
    output, deeper = loss.fusions[1](student[1], deeper, (5, 3))
    assert (output.shape, deeper.shape) == ((3, 5, 5, 3), (3, 8, 4, 4))
    output, _ = loss.fusions[0](student[0], deeper, (8, 8))
    output.square().sum().backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in student)


def test_review_learns_what_it_is_taught():
    torch.manual_seed(0)
    loss = ReviewKD([4, 6], [3, 5])
    student, teacher = maps([4, 6], [4, 2], n=2), maps([3, 5], [4, 2], n=2, seed=5)
    optimizer = torch.optim.Adam([*loss.parameters(), *student], lr=0.05)
    before = loss(student, teacher).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    assert loss(student, teacher).item() < before / 3
