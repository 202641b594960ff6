"""DIST against a plain loop of its formula: pictures and labels, what is left out, and what does not matter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import DIST
from tests.compress.losses.loss_batches import assert_same, few, logit_batches, normal, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread")


def by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None, weights=(1, 1)) -> Tensor:
    keep = torch.ones(student.shape, dtype=torch.bool) if ignore is None else ~ignore
    total = student.sum() * 0
    for weight, turned in zip(weights, (False, True), strict=True):
        s, t, k = (tensor.T if turned else tensor for tensor in (student.sigmoid(), teacher.sigmoid(), keep))
        terms = []
        for row in range(len(s)):
            x, y = s[row][k[row]], t[row][k[row]]
            if len(y) and (y - y.mean()).square().mean() > 1e-10:
                x, y = x - x.mean(), y - y.mean()
                rho = (x * y).mean() / (x.square().mean().clamp(min=1e-10) * y.square().mean()).sqrt()
                terms.append(1 - rho)
        if terms:
            total = total + weight * torch.stack(terms).mean()
    return total


@few
@given(logit_batches(), st.sampled_from([(1, 1), (0, 2), (3, 0)]))
def test_it_is_the_formula(batch, weights):
    mine = value_and_gradient(DIST(*map(float, weights)), *batch)
    assert mine[0].dtype == torch.float64
    assert_same(mine, value_and_gradient(by_loop, *batch, weights))


def test_it_is_pearson_s_correlation():
    student, teacher = normal(7, 5), normal(7, 5, seed=1)
    pairs = torch.stack([student, teacher], dim=1).sigmoid()
    expected = 1 - torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]).mean().item()
    assert DIST(1, 0)(student, teacher, teacher).item() == pytest.approx(expected)
    assert DIST(0, 1)(student.T, teacher.T, teacher.T).item() == pytest.approx(expected)


def test_a_label_of_which_the_teacher_says_the_same_everywhere_is_left_out():
    student, teacher = normal(6, 3), normal(6, 3, seed=1)
    teacher[:, 1] = 0.3
    value, gradient = value_and_gradient(DIST(0, 1), student, teacher, teacher)
    assert value == DIST(0, 1)(student[:, [0, 2]], teacher[:, [0, 2]], teacher[:, [0, 2]])
    assert not gradient[:, 1].any()
    one = torch.ones(6, 3, dtype=torch.bool)
    one[0] = False  # one cell of each label alone has no correlation
    assert DIST(0, 1)(student, teacher, teacher, one) == 0


def test_a_student_that_says_the_same_everywhere_is_moved():
    value, gradient = value_and_gradient(DIST(0, 1), torch.zeros(6, 3), normal(6, 3).float(), torch.zeros(6, 3))
    assert value == pytest.approx(1)
    assert gradient.isfinite().all()
    assert gradient.any()
