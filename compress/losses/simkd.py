"""SimKD: what the student's head reads should equal what the teacher's head reads, so that one head serves both.

Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022 (arXiv 2203.14001), equation 3:
‖f_T − P(f_S)‖², after which the student's features are classified by the teacher's classifier. Here the features are a
map of tokens: with ML-Decoder the memory that its queries attend to, with a linear head the tokens themselves. The
labels go on teaching the reused head, because the student never equals the teacher. The published loss is divided by
the variance of the teacher's values, so its weight depends neither on the width nor on the scale of the features:

    L = mean((up(P(m_S)) − m_T)²) / mean((m_T − mean(m_T))²)

A guess that is the mean of the teacher's values has a loss of 1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.feature_checks import mean_of_kept, raised


class SimKD(nn.Module):
    """mean((P(m_S) − m_T)²) over the variance of m_T. If widths differ, P has parameters, trained with the student.

    They start at 0, so the first step teaches P alone.

    The student's map is scaled to the teacher's number of places: a smaller one is interpolated bilinearly, because the
    detail that it lacks is what it should learn, and a larger one is averaged. Where the numbers of places differ and
    one is no square map, the means over all places are compared.

    Args:
        student_width: width of the student's tokens.
        teacher_width: width of the teacher's tokens; if it is the same, nothing is projected.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        if min(student_width, teacher_width) < 1:
            raise ValueError(f"received widths {student_width} and {teacher_width}; expected both to be at least 1")
        self.widths = (student_width, teacher_width)
        self.project: nn.Module = nn.Identity()
        if student_width != teacher_width:
            # From 0 and not at random: a random map of an untrained student is far from the teacher's values, and its
            # gradient on the backbone is hundreds of times that of the labels. This one grows as the map is learnt.
            self.project = nn.Linear(student_width, teacher_width)
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def forward(self, student: Tensor, teacher: Tensor, ignore: Tensor | None = None) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student: tokens `[N, S, student_width]`, of a square map of S places row by row.
            teacher: tokens `[N, P, teacher_width]`, of a square map of P places; no gradient flows into them.
            ignore: bool `[N]`, pictures that are left out, of the variance as well.

        Raises:
            ValueError: the shapes do not fit.
        """
        for name, tokens, width in zip(("student", "teacher"), (student, teacher), self.widths, strict=True):
            if tokens.ndim != 3 or tokens.shape[2] != width or len(tokens) != len(student):
                raise ValueError(f"{name}: received {list(tokens.shape)}; expected [{len(student)}, S, {width}]")
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = raised(student, teacher)
            if not scales(student.shape[1], teacher.shape[1]):
                student, teacher = student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True)
            differences = (_scaled(self.project(student), teacher.shape[1]) - teacher).square().mean(dim=(1, 2))
            mean = mean_of_kept(teacher.mean(dim=(1, 2)), ignore)
            variance = mean_of_kept((teacher - mean).square().mean(dim=(1, 2)), ignore)
            return mean_of_kept(differences, ignore) / variance.clamp(min=torch.finfo(teacher.dtype).tiny)


def scales(mine: int, theirs: int) -> bool:
    """Whether tokens of so many places can be compared place by place."""
    return mine == theirs or all(math.isqrt(count) ** 2 == count for count in (mine, theirs))


def _scaled(tokens: Tensor, positions: int) -> Tensor:
    """Scale tokens `[N, S, width]` of a square map to `[N, positions, width]`."""
    if tokens.shape[1] == positions:
        return tokens
    side, wanted = math.isqrt(tokens.shape[1]), math.isqrt(positions)
    maps = tokens.transpose(1, 2).unflatten(2, (side, side))
    if side < wanted:
        maps = F.interpolate(maps, (wanted, wanted), mode="bilinear", align_corners=False)
    else:
        maps = F.adaptive_avg_pool2d(maps, wanted)
    return maps.flatten(2).transpose(1, 2)
