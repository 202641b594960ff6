"""Batches that losses are tested on, and how their values and gradients are compared."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from edgepress.compress.losses import (
    DIST,
    AsymmetricLoss,
    BinaryCrossEntropy,
    BinaryKD,
    FocalLoss,
    LogitsMSE,
    PartialSoftmax,
    ProbabilisticKT,
    RelationalKD,
    SoftBCE,
)

few = settings(max_examples=30, deadline=None, derandomize=True)
exact = {"atol": 1e-9, "rtol": 1e-9}
LOGIT_LOSSES = [
    LogitsMSE(),
    PartialSoftmax(),
    BinaryKD(3.0),
    BinaryKD(0.5, "published"),
    SoftBCE(),
    DIST(),
    DIST(0.0, 2.0),
]
POOLED_LOSSES = [RelationalKD(), ProbabilisticKT(), ProbabilisticKT("published")]
WEIGHTS = [0.5, 3.0, 1.0, 0.0, 7.0]
TASK_LOSSES = [
    cls(label_smoothing=smoothing, positive_weights=weights)
    for cls in (BinaryCrossEntropy, AsymmetricLoss, FocalLoss)
    for smoothing in (0.0, 0.1)
    for weights in (None, WEIGHTS)
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@st.composite
def batches(draw, most: int = 6):
    """Logits and embeddings in float64 of teacher and student, targets of every density, an ignore mask or None."""
    n, c = draw(st.integers(1, most)), draw(st.integers(1, most))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    targets = torch.rand(n, c, generator=random) < draw(st.sampled_from([0.0, 0.3, 0.6, 1.0]))
    ignore = torch.rand(n, c, generator=random) < 0.3 if draw(st.booleans()) else None

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    return {
        "student_logits": normal(n, c) * 3,
        "teacher_logits": normal(n, c) * 3,
        "student": normal(n, c, draw(st.integers(1, 5))) * draw(st.sampled_from([0.01, 1.0, 50.0])),
        "teacher": normal(n, c, draw(st.integers(1, 5))),
        "targets": targets.to(draw(st.sampled_from([torch.uint8, torch.float32, torch.bool]))),
        "ignore": ignore,
    }


@st.composite
def logit_batches(draw, labels: int | None = None):
    """Student and teacher logits, targets from none to all positive, an ignore mask or None."""
    n, c = draw(st.integers(1, 5)), labels or draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**31))
    random = generator(seed)
    targets = torch.rand(n, c, generator=random) < draw(st.sampled_from([0.0, 0.3, 0.6, 1.0]))
    ignore = torch.rand(n, c, generator=random) < 0.3 if draw(st.booleans()) else None
    scale = draw(st.sampled_from([0.1, 3.0]))
    kind = draw(st.sampled_from([torch.uint8, torch.float64, torch.bool]))
    return normal(n, c, seed=seed) * scale, normal(n, c, seed=seed + 1) * scale, targets.to(kind), ignore


@st.composite
def pooled_batches(draw):
    seed, n = draw(st.integers(0, 2**31)), draw(st.integers(1, 5))
    scale = draw(st.sampled_from([0.01, 1.0, 50.0]))
    return normal(n, draw(st.integers(1, 4)), seed=seed) * scale, normal(n, draw(st.integers(1, 4)), seed=seed + 1)


def value_and_gradient(loss, student: Tensor, *arguments) -> tuple[Tensor, Tensor]:
    student = student.detach().clone().requires_grad_()
    value = loss(student, *arguments)
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


def assert_same(mine: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], **tolerances) -> None:
    for got, want in zip(mine, expected, strict=True):
        torch.testing.assert_close(got, want, **(tolerances or exact))


def cells_of(targets: Tensor, ignore: Tensor | None) -> list[tuple[int, int]]:
    n, c = targets.shape
    return [(i, j) for i in range(n) for j in range(c) if ignore is None or not ignore[i, j]]


def maps(channels: list[int], sides: list[int], n: int = 3, seed: int = 0) -> list[Tensor]:
    return [
        torch.randn(n, width, side, side, generator=generator(seed + index)).requires_grad_()
        for index, (width, side) in enumerate(zip(channels, sides, strict=True))
    ]
