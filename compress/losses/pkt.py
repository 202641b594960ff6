"""PKT: the similarity of each picture to the others, as a probability.

Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018 (arXiv 1803.10837).
With the cosine kernel K(a, b) = ½ (cos(a, b) + 1), p(j | i) = K(x_i, x_j) / Σ_{k≠i} K(x_i, x_k)
and the student's p_S follows the teacher's p_T: Σ_i Σ_{j≠i} p_T(j | i) log(p_T(j | i) / p_S(j | i)).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import Reduction, check_reduction
from edgepress.compress.losses.feature_checks import check_ignored, check_pooled, raised, unit

_SMALLEST_KERNEL = 1e-7
"""Opposite features have a kernel of 0, whose logarithm is not finite."""


class ProbabilisticKT(nn.Module):
    """KL between the conditional probabilities of teacher and student, on pooled features.

    Args:
        reduction: `published` is the paper's sum over pictures; `mean` averages over them. (The authors' code averages
            over all N² pairs instead, with a picture its own neighbour, and is given weights of 10⁴ for it.)
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, student_features: Tensor, teacher_features: Tensor, ignore: Tensor | None = None) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_features: `[N, D]`.
            teacher_features: `[N, D']`; no gradient flows into them.
            ignore: bool `[N]`, pictures that are left out, as if they were not in the batch.

        Raises:
            ValueError: the shapes do not fit.
        """
        check_pooled(student_features, teacher_features)
        check_ignored(ignore, len(student_features))
        with torch.autocast(student_features.device.type, enabled=False):
            student, teacher = raised(student_features, teacher_features)
            if ignore is not None:
                student, teacher = student[~ignore.bool()], teacher[~ignore.bool()]
            log_student, log_teacher = _log_conditional(student), _log_conditional(teacher)
            itself = torch.eye(len(student), dtype=torch.bool, device=student.device)
            loss = (log_teacher.exp() * (log_teacher - log_student)).masked_fill(itself, 0).sum()
            return loss if self.reduction == "published" else loss / max(len(student), 1)


def _log_conditional(features: Tensor) -> Tensor:
    """log p(j | i) at `[i, j]`; the diagonal is meaningless."""
    direction = unit(features)
    kernel = (0.5 * (direction @ direction.T + 1)).clamp(min=_SMALLEST_KERNEL)
    others = kernel - torch.diag(kernel.diagonal())
    return kernel.log() - others.sum(dim=1, keepdim=True).clamp(min=_SMALLEST_KERNEL).log()
