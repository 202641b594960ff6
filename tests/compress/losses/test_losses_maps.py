"""Baselines on feature maps against plain loops of the formulas."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import (
    AttentionTransfer,
    FitNetHints,
    ReviewKD,
)
from edgepress.compress.losses.review_kd import hierarchical_context_loss
from tests.compress.losses.loss_batches import assert_same, exact, few, maps, normal, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


@few
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_attention_transfer_is_the_formula(seed, n, channels, height, width):
    shapes = [(n, channels, height, width), (n, 2, 2, 3)]
    students = [normal(*shape, seed=seed + index) for index, shape in enumerate(shapes)]
    teachers = [normal(n, 5, *shape[2:], seed=seed + 9 + index) for index, shape in enumerate(shapes)]

    def by_loop(first: Tensor) -> Tensor:
        total = first.sum() * 0
        for student, teacher in zip([first, students[1]], teachers, strict=True):
            for i in range(n):
                q_s, q_t = (student[i] ** 2).sum(0).flatten(), (teacher[i] ** 2).sum(0).flatten()
                gap = q_s / (q_s**2).sum().sqrt() - q_t / (q_t**2).sum().sqrt()
                total = total + (gap**2).sum() / (n * gap.numel())
        return total

    mine = value_and_gradient(lambda first: AttentionTransfer()([first, students[1]], teachers), students[0])
    assert_same(mine, value_and_gradient(by_loop, students[0]))


@pytest.mark.parametrize("channels", [(2, 3), (3, 3)])
@few
@given(seed=st.integers(0, 2**31), n=st.integers(1, 3), side=st.integers(1, 4))
def test_fitnet_is_the_formula(channels, seed, n, side):
    torch.manual_seed(seed)
    published = FitNetHints([channels[0]], [channels[1]], "published").double()
    mean = FitNetHints([channels[0]], [channels[1]]).double()
    mean.load_state_dict(published.state_dict())
    # The teacher's map is twice as large and is averaged over cells of 2×2.
    student, teacher = normal(n, channels[0], side, side, seed=seed), normal(n, channels[1], 2 * side, 2 * side, seed=1)

    def by_loop(maps: Tensor) -> Tensor:
        total = maps.sum() * 0
        for i in range(n):
            for y in range(side):
                for x in range(side):
                    ours = maps[i, :, y, x]
                    if channels[0] != channels[1]:
                        layer = published.projections[0]
                        ours = layer.weight[:, :, 0, 0] @ ours + layer.bias
                    theirs = teacher[i, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean(dim=(1, 2))
                    total = total + ((ours - theirs) ** 2).sum()
        return total

    expected = value_and_gradient(by_loop, student)
    assert_same(
        value_and_gradient(lambda maps: published([maps], [teacher]), student),
        tuple(part / (2 * n) for part in expected),
    )
    cells = n * channels[1] * side**2
    assert_same(
        value_and_gradient(lambda maps: mean([maps], [teacher]), student), tuple(part / cells for part in expected)
    )


def test_fitnet_averages_or_adds_its_taps():
    students, teachers = (
        [normal(2, 3, 4, 4), normal(2, 3, 2, 2)],
        [normal(2, 3, 4, 4, seed=1), normal(2, 3, 2, 2, seed=1)],
    )
    for reduction, factor in (("mean", 0.5), ("published", 1)):
        alone = [FitNetHints([3], [3], reduction)([s], [t]) for s, t in zip(students, teachers, strict=True)]
        both = FitNetHints([3, 3], [3, 3], reduction)(students, teachers)
        torch.testing.assert_close(both, factor * sum(alone), **exact)


def test_hierarchical_context_loss_by_hand():
    student, teacher = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    gap = student - teacher
    halves = torch.stack([gap[..., y : y + 2, x : x + 2].mean(dim=(2, 3)) for y in (0, 2) for x in (0, 2)])
    # Full size 1, then 4 is not smaller than the map, 2 positions a side ½, 1 position ¼.
    expected = (gap**2).mean() + 0.5 * (halves**2).mean() + 0.25 * (gap.mean(dim=(2, 3)) ** 2).mean()
    torch.testing.assert_close(hierarchical_context_loss(student, teacher), expected / 1.75, **exact)
    assert hierarchical_context_loss(student, student) == 0
    single = normal(2, 3, 1, 1)
    torch.testing.assert_close(hierarchical_context_loss(single, single + 2), torch.tensor(4.0).double(), **exact)


def test_hierarchical_context_has_four_positions_a_side_and_none_that_the_shorter_side_lacks():
    gap = normal(2, 3, 8, 8)
    pooled = [gap.unflatten(3, (side, -1)).unflatten(2, (side, -1)).mean(dim=(3, 5)) for side in (8, 4, 2, 1)]
    expected = sum(level.square().mean() / 2**index for index, level in enumerate(pooled)) / 1.875
    torch.testing.assert_close(hierarchical_context_loss(gap, torch.zeros_like(gap)), expected, **exact)
    flat = normal(2, 3, 2, 8)
    expected = (flat.square().mean() + 0.5 * flat.mean(dim=(2, 3)).square().mean()) / 1.5
    for maps_ in flat, flat.mT:
        torch.testing.assert_close(hierarchical_context_loss(maps_, torch.zeros_like(maps_)), expected, **exact)


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
        total = hierarchical_context_loss(convolved(below, loss.fusions[1].leave, 1), teachers[1])
        own, theirs = convolved(first, loss.fusions[0].enter), nearest(below, 4, 6)
        layer, both = loss.fusions[0].attention, torch.cat([own, theirs], dim=1)
        weights = (torch.einsum("oi,nihw->nohw", layer.weight[:, :, 0, 0], both) + layer.bias[:, None, None]).sigmoid()
        fused = weights[:, :1] * own + weights[:, 1:] * theirs
        return total + hierarchical_context_loss(convolved(nearest(fused, 8, 3), loss.fusions[0].leave, 1), teachers[0])

    mine = value_and_gradient(lambda first: loss([first, deep], teachers), shallow)
    assert_same(mine, value_and_gradient(by_hand, shallow))


def test_review_starts_as_the_authors_do():
    """Kaiming's uniform distribution with a = 1 on both convolutions, which need no bias in front of a batch norm."""
    torch.manual_seed(0)
    fusion = ReviewKD([40], [50], max_width=30).fusions[0]
    for convolution, inputs in ((fusion.enter[0], 40), (fusion.leave[0], 30 * 9)):
        bound = (3 / inputs) ** 0.5
        assert 0.99 * bound < convolution.weight.abs().max() <= bound
        assert convolution.bias is None
    assert ReviewKD([4], [4], max_width=1).fusions[0].enter[0].out_channels == 1


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


def test_extreme_maps_are_finite():
    for loss in ReviewKD([4, 6], [4, 6]), FitNetHints([4, 6], [4, 6]), AttentionTransfer():
        for factor in 0, 200:
            student = [(tensor * factor).detach().requires_grad_() for tensor in maps([4, 6], [4, 2])]
            value = loss(student, maps([4, 6], [4, 2], seed=3))
            value.backward()
            assert value.isfinite()
            assert all(tensor.grad.isfinite().all() for tensor in student)
