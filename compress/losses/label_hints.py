"""Label-wise hints: the student's embedding of each label should equal the teacher's.

FitNets (Romero et al., ICLR 2015, arXiv 1412.6550, equation 3) between label-wise embeddings instead of feature maps:
‖e_T[i,c] − r(e_S[i,c])‖² over the labels c that picture i has, with a linear regressor r if the widths differ. While
CD and ID compare distances between embeddings, hints compare the embeddings themselves, so one row is enough to learn
from. They were only tried on students that start with the teacher's head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import compared, positive_rows


class LabelWiseHints(nn.Module):
    """(e_T − r(e_S))², averaged over the positive rows and the width; independent of the batch's size.

    If widths differ, it has parameters, which are trained with the student.

    Args:
        student_dim: width of the student's label-wise embeddings.
        teacher_dim: width of the teacher's label-wise embeddings.
    """

    def __init__(self, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        same = student_dim == teacher_dim
        self.project: nn.Module = nn.Identity() if same else nn.Linear(student_dim, teacher_dim)

    def forward(
        self, student_embeddings: Tensor, teacher_embeddings: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """Return a scalar in float32 or float64; 0 if no row is positive.

        Args:
            student_embeddings: `[N, C, student_dim]`.
            teacher_embeddings: `[N, C, teacher_dim]`; no gradient flows into them.
            targets: `[N, C]`; rows with a 1 take part.
            ignore: bool `[N, C]`, rows that are left out.

        Raises:
            ValueError: the shapes do not fit.
        """
        positive = positive_rows(student_embeddings, teacher_embeddings, targets, ignore)
        with torch.autocast(student_embeddings.device.type, enabled=False):
            student, teacher = compared(self.project, student_embeddings, teacher_embeddings, positive)
            return (student - teacher).square().sum() / max(student.numel(), 1)
