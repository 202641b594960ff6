"""Checks on the arguments of the losses on features.

There are two signatures: `loss(student, teacher, ignore)` on pooled features `[N, D]`, and `loss(student_maps,
teacher_maps, ignore)` on lists of feature maps `[N, C, H, W]`, shallow to deep. Both compare whole pictures, which have
no label: there are no targets, and `ignore` is bool `[N]`, the pictures that are left out. A picture is left out if the
teacher may teach none of its labels; one of which some labels are ignored takes part as a whole, because its features
cannot be told apart by label.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.compress.losses.checks import at_least_float32


def check_pooled(student: Tensor, teacher: Tensor) -> None:
    """Raise ValueError unless both are `[N, D]` with the same N; D may differ."""
    for name, features in (("student_features", student), ("teacher_features", teacher)):
        if features.ndim != 2:
            raise ValueError(f"{name}: received {list(features.shape)}; expected [N, D]")
    if len(student) != len(teacher):
        raise ValueError(f"teacher_features: received {len(teacher)} pictures; expected {len(student)} as the student")


def check_ignored(ignore: Tensor | None, pictures: int) -> None:
    """Raise ValueError unless it is `[N]`, or None."""
    if ignore is not None and ignore.shape != (pictures,):
        raise ValueError(f"ignore: received {list(ignore.shape)}; expected [{pictures}], one per picture")


def mean_of_kept(values: Tensor, ignore: Tensor | None) -> Tensor:
    """The mean of `[N]` over the pictures that are not left out; 0 without any."""
    check_ignored(ignore, len(values))
    if ignore is None:
        return values.sum() / max(len(values), 1)
    return values.masked_fill(ignore.bool(), 0).sum() / (~ignore.bool()).sum().clamp(min=1)


def check_maps(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    student_channels: Sequence[int] | None = None,
    teacher_channels: Sequence[int] | None = None,
) -> None:
    """Raise ValueError unless both hold as many maps `[N, C, H, W]`, with the given channels."""
    if len(student) != len(teacher) or not student:
        raise ValueError(
            f"received {len(student)} student maps and {len(teacher)} teacher maps; expected as many, at least one"
        )
    batch = student[0].shape[0]
    for who, maps, channels in (("student", student, student_channels), ("teacher", teacher, teacher_channels)):
        if channels is not None and len(maps) != len(channels):
            raise ValueError(f"received {len(maps)} {who} maps; expected {len(channels)}, of {list(channels)} channels")
        for index, tensor in enumerate(maps):
            expected = f"[{batch}, {'C' if channels is None else channels[index]}, H, W]"
            fits = tensor.ndim == 4 and tensor.shape[0] == batch
            if not fits or (channels is not None and tensor.shape[1] != channels[index]):
                raise ValueError(f"{who} map {index}: received {list(tensor.shape)}; expected {expected}")


def check_channels(student_channels: Sequence[int], teacher_channels: Sequence[int]) -> None:
    """Raise ValueError unless both list as many widths ≥ 1."""
    widths = [*student_channels, *teacher_channels]
    if len(student_channels) != len(teacher_channels) or not widths or min(widths) < 1:
        raise ValueError(
            f"received channels {list(student_channels)} of the student and {list(teacher_channels)} of the teacher; "
            f"expected as many, at least one, all positive"
        )


def raised(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the student's precision, at least float32, with the teacher's gradient removed."""
    student = at_least_float32(student)
    return student, teacher.detach().to(student.dtype)


def unit(rows: Tensor) -> Tensor:
    """Divide rows of the last dimension by their length; a row of zeros remains zero and gets no gradient."""
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return torch.where(length > 0, rows / torch.where(length > 0, length, 1), 0)


def common_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger map down to the smaller, for each side, so that no detail is invented."""
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)
