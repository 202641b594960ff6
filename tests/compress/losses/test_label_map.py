"""Label maps' distillation against a plain loop of its formula, with and without labels that exclude each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import GroupedLogitsLoss, LabelMapDistillation, MultiLabelLogitsDistillation
from tests.compress.losses.loss_batches import assert_same, few, generator, normal, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def map_batches(draw, labels: int | None = None):
    """Label maps of student and teacher and an ignore mask or None."""
    n, c, r = draw(st.integers(1, 4)), labels or draw(st.integers(1, 5)), draw(st.sampled_from([1, 5, 21]))
    seed, scale = draw(st.integers(0, 2**31)), draw(st.sampled_from([0.1, 4.0]))
    ignore = torch.rand(n, c, generator=generator(seed)) < 0.3 if draw(st.booleans()) else None
    return normal(n, c, r, seed=seed) * scale, normal(n, c, r, seed=seed + 1) * scale, ignore


def bernoulli(p: Tensor, q: Tensor) -> Tensor:
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def by_loop(student: Tensor, teacher: Tensor, ignore: Tensor | None) -> Tensor:
    total, count = student.sum() * 0, 0
    for i in range(student.shape[0]):
        for c in range(student.shape[1]):
            for r in range(student.shape[2]):
                if ignore is not None and ignore[i, c]:
                    continue
                weight = 2 if (teacher[i, c, r] > 0) != (teacher[i, c, 0] > 0) else 1
                total = total + weight * bernoulli(teacher[i, c, r].sigmoid(), student[i, c, r].sigmoid())
                count += 1
    return total / max(count, 1)


@few
@given(map_batches())
def test_it_is_the_formula(batch):
    mine = value_and_gradient(LabelMapDistillation(), *batch)
    assert mine[0].dtype == torch.float64
    assert_same(mine, value_and_gradient(by_loop, *batch))


def grouped_by_loop(student: Tensor, teacher: Tensor, ignore: Tensor | None) -> Tensor:
    """Labels 0 and 2 and "none" exclude each other, and so do labels 3 and 4; label 1 is on its own."""
    ignore = torch.zeros(student.shape[:2], dtype=torch.bool) if ignore is None else ignore
    total, count = student.sum() * 0, 0
    for i in range(student.shape[0]):
        for columns, none in (([0, 2], True), ([3, 4], False)):
            kept = [column for column in columns if not ignore[i, column]]
            if len(kept) + none < 2:
                continue

            def outcomes(maps: Tensor, r: int, i=i, kept=kept, none=none) -> Tensor:
                nothing = [maps.new_zeros(1)] if none else []
                return torch.cat([maps[i, kept, r], *nothing]).softmax(0)

            for r in range(student.shape[2]):
                p, q = outcomes(teacher, r), outcomes(student, r)
                weight = 2 if p.argmax() != outcomes(teacher, 0).argmax() else 1
                total, count = total + weight * (p * (p / q).log()).sum(), count + 1
        if not ignore[i, 1]:
            for r in range(student.shape[2]):
                weight = 2 if (teacher[i, 1, r] > 0) != (teacher[i, 1, 0] > 0) else 1
                total = total + weight * bernoulli(teacher[i, 1, r].sigmoid(), student[i, 1, r].sigmoid())
                count += 1
    return total / max(count, 1)


@few
@given(map_batches(labels=5))
def test_labels_that_exclude_each_other_have_one_distribution_in_each_region(batch):
    rest = MultiLabelLogitsDistillation("published")
    groups = GroupedLogitsLoss(rest, [[0, 2], [3, 4]], [True, False], 5, "published")
    mine = value_and_gradient(LabelMapDistillation(groups=groups), *batch)
    assert_same(mine, value_and_gradient(grouped_by_loop, *batch))


def test_the_whole_picture_alone_is_mld():
    student, teacher = normal(3, 4, 1), normal(3, 4, 1, seed=1)
    expected = MultiLabelLogitsDistillation()(student[..., 0], teacher[..., 0], torch.zeros(3, 4))
    torch.testing.assert_close(LabelMapDistillation()(student, teacher), expected)


def test_by_hand_a_contrary_region_counts_twice():
    half, quarter = 0.0, math.log(1 / 3)  # scores of probabilities 1/2 and 1/4
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    student = torch.tensor([[[half, half, half, 5.0, half]]])
    teacher = torch.tensor([[[5.0, quarter, half, 5.0, quarter]]])
    whole = LabelMapDistillation()(torch.tensor([[[half]]]), teacher[..., :1]).item()
    # The region with a score of 0 decides otherwise as well, where both sides are equal.
    assert LabelMapDistillation()(student, teacher).item() == pytest.approx((whole + 4 * divergence) / 5, rel=1e-5)
    assert LabelMapDistillation(contrary=1)(student, teacher).item() == pytest.approx((whole + 2 * divergence) / 5)


@pytest.mark.parametrize(
    ("student", "teacher", "ignore", "message"),
    [
        ((2, 3), (2, 3), None, r"student_maps: received \[2, 3\]; expected \[N, C, R\]"),
        ((2, 3, 0), (2, 3, 0), None, r"student_maps: received \[2, 3, 0\]"),
        ((2, 3, 5), (2, 3, 21), None, r"teacher_maps: received \[2, 3, 21\]; expected \[2, 3, 5\]"),
        ((2, 3, 5), (2, 3, 5), (2, 3, 5), r"ignore: received \[2, 3, 5\]; expected \[2, 3\]"),
    ],
)
def test_maps_of_wrong_shapes_are_refused(student, teacher, ignore, message):
    with pytest.raises(ValueError, match=message):
        LabelMapDistillation()(
            torch.zeros(student), torch.zeros(teacher), None if ignore is None else torch.zeros(ignore)
        )


def test_a_weight_that_is_none_is_refused():
    with pytest.raises(ValueError, match="received contrary -1"):
        LabelMapDistillation(contrary=-1)
