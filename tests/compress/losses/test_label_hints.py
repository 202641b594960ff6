"""Label-wise hints: the distance of positive embeddings, projected where widths differ."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.compress.losses import LabelWiseHints


def rows(seed: int, pictures: int, labels: int, ours: int, theirs: int, share: float = 0.5):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(pictures, labels, ours, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(pictures, labels, theirs, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = (torch.rand(pictures, labels, generator=generator) < share).double()
    return student, teacher, targets, torch.rand(pictures, labels, generator=generator) < 0.3


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    pictures=st.integers(1, 6),
    labels=st.integers(1, 5),
    dims=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_values_and_gradients_are_the_formula_s(seed, pictures, labels, dims, share):
    student, teacher, targets, ignore = rows(seed, pictures, labels, *dims, share)
    loss = LabelWiseHints(*dims).double()
    value = loss(student, teacher, targets, ignore)
    terms = [
        (loss.project(student[i, c]) - teacher[i, c].detach()).square()
        for i in range(pictures)
        for c in range(labels)
        if targets[i, c] == 1 and not ignore[i, c]
    ]
    expected = torch.cat(terms).mean() if terms else student.sum() * 0
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)
    gradient = torch.autograd.grad(value, student)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student)[0], atol=1e-12, rtol=1e-9)


def test_zero_at_the_teacher_s_embeddings_and_no_gradient_into_it():
    student, teacher, targets, _ = rows(0, 4, 3, 5, 5)
    loss = LabelWiseHints(5, 5)
    assert loss(teacher.detach(), teacher, targets).item() == 0
    loss(student, teacher, targets).backward()
    assert teacher.grad is None
    assert (student.grad[targets == 0] == 0).all()
    assert (student.grad[targets == 1] != 0).any()


def test_equal_widths_have_nothing_to_learn():
    assert not list(LabelWiseHints(8, 8).parameters())
    assert sum(parameter.numel() for parameter in LabelWiseHints(8, 6).parameters()) == 8 * 6 + 6


def test_the_projection_learns():
    """A teacher that is a linear map of the student is reached by the projection alone."""
    student, _, targets, _ = rows(1, 16, 3, 4, 6)
    student = student.detach()
    teacher = student @ torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.manual_seed(0)
    loss = LabelWiseHints(4, 6).double()
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    before = loss(student, teacher, targets).item()
    for _ in range(300):
        optimizer.zero_grad()
        loss(student, teacher, targets).backward()
        optimizer.step()
    assert loss(student, teacher, targets).item() < 0.01 * before


def test_half_precision_is_raised():
    student, teacher, targets, _ = rows(3, 4, 3, 5, 5)
    value = LabelWiseHints(5, 5)(student.half(), teacher.half(), targets)
    assert value.dtype == torch.float32
    assert LabelWiseHints(5, 5)(student.float(), teacher.double(), targets).dtype == torch.float32


def test_autocast_does_not_reach_the_projection():
    student, teacher, targets, ignore = rows(3, 4, 3, 5, 6)
    torch.manual_seed(0)
    loss = LabelWiseHints(5, 6)
    for mixed in False, True:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            value = loss(student.float(), teacher.float(), targets, ignore)
        exactly = copy.deepcopy(loss).double()(student, teacher, targets, ignore)
        torch.testing.assert_close(value.double(), exactly, rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 5), (3, 3, 5)])
def test_shapes_that_do_not_fit_are_told(shape):
    student, _, targets, _ = rows(0, 4, 3, 5, 5)
    with pytest.raises(ValueError, match="expected"):
        LabelWiseHints(5, 5)(student, torch.zeros(shape), targets)


def test_widths_other_than_at_construction_are_told():
    student, _, targets, _ = rows(0, 4, 3, 5, 5)
    with pytest.raises(ValueError, match="expected alike"):
        LabelWiseHints(5, 5)(student, torch.zeros(4, 3, 6), targets)
