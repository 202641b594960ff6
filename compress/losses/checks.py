"""Checks on the arguments of every loss."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Reduction = Literal["published", "mean"]


def check_reduction(reduction: str) -> None:
    """Raise ValueError for an unknown reduction."""
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction is {reduction!r}; expected one of {', '.join(get_args(Reduction))}")


def check_logits(student: Tensor, teacher: Tensor | None, targets: Tensor, ignore: Tensor | None) -> None:
    """Raise ValueError unless all arguments are `[N, C]` of one shape."""
    if student.ndim != 2:
        raise ValueError(f"logits: received {list(student.shape)}; expected [N, C]")
    for name, other in (("teacher_logits", teacher), ("targets", targets), ("ignore", ignore)):
        if other is not None and other.shape != student.shape:
            raise ValueError(f"{name}: received {list(other.shape)}; expected {list(student.shape)} as the logits")


def positive_rows(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None) -> Tensor:
    """bool `[N, C]`, the rows of label-wise embeddings that losses compare: the target is 1 and not ignored.

    It raises ValueError unless embeddings are `[N, C, dim]` (dims may differ) over targets `[N, C]`.
    """
    for name, embeddings in (("student_embeddings", student), ("teacher_embeddings", teacher)):
        if embeddings.ndim != 3 or embeddings.shape[:2] != targets.shape:
            raise ValueError(
                f"{name}: received {list(embeddings.shape)}; expected [N, C, dim] with [N, C] = {list(targets.shape)}"
            )
    if ignore is not None and ignore.shape != targets.shape:
        raise ValueError(f"ignore: received {list(ignore.shape)}; expected {list(targets.shape)} as targets")
    return targets == 1 if ignore is None else (targets == 1) & ~ignore.bool()


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32; float32 and float64 remain."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def compared(project: nn.Module, student: Tensor, teacher: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """The positive rows `[P, teacher_dim]` of both sides' label-wise embeddings: the student's projected, in float32 or
    float64, and the teacher's without gradient.

    It raises ValueError if the widths differ.
    """
    mine = project(at_least_float32(student[positive]))
    theirs = teacher.detach()[positive].to(mine.dtype)
    if mine.shape != theirs.shape:
        raise ValueError(f"received embeddings {list(mine.shape)} and {list(theirs.shape)}; expected alike")
    return mine, theirs
