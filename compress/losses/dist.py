"""DIST: the student's answers are to be correlated with the teacher's, over the pictures of a label and the reverse.

Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022 (arXiv 2205.10536), equations 7 to 10: a
student of another capacity need not repeat the teacher's probabilities, if it has their relations. With ρ Pearson's
correlation and p = σ(z) the probabilities, each of its own label (the paper's are of a softmax),

    L = β · mean_i (1 − ρ(p_S[i, ·], p_T[i, ·])) + γ · mean_c (1 − ρ(p_S[·, c], p_T[·, c]))

for pictures i and labels c. The first relation is between the labels of a picture (inter-class), the second between
the pictures of a label (intra-class). Cells that are ignored take no part, and a row or column of which the values
of the teacher do not vary over at least two cells is left out, because it has no correlation. The deviation of the
student is bounded from below: where its values do not vary yet, the correlation is 0 and the gradient is finite.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import at_least_float32, check_logits

_LEAST_VARIANCE = 1e-10
"""Of probabilities: below it values do not vary."""


class DIST(nn.Module):
    """β times the mean of 1 − ρ over pictures, plus γ times that over labels.

    Args:
        inter: β, the weight of the relation between the labels of a picture; 0 omits it.
        intra: γ, the weight of the relation between the pictures of a label; 0 omits it.
    """

    def __init__(self, inter: float = 1.0, intra: float = 1.0) -> None:
        super().__init__()
        if not (0 <= inter < float("inf") and 0 <= intra < float("inf")):
            raise ValueError(f"received inter {inter}, intra {intra}; expected finite weights ≥ 0")
        self.inter, self.intra = inter, intra

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 or float64, of the whole batch.

        Args:
            student_logits: `[N, C]`.
            teacher_logits: `[N, C]`; no gradient flows into them.
            targets: `[N, C]`; only their shape is used.
            ignore: bool `[N, C]`, cells that are left out.

        Raises:
            ValueError: the shapes differ.
        """
        check_logits(student_logits, teacher_logits, targets, ignore)
        with torch.autocast(student_logits.device.type, enabled=False):
            student = at_least_float32(student_logits).sigmoid()
            teacher = at_least_float32(teacher_logits.detach()).to(student.dtype).sigmoid()
            valid = torch.ones_like(student) if ignore is None else (~ignore.bool()).to(student.dtype)
            loss = student.sum() * 0
            if self.inter:
                loss = loss + self.inter * _uncorrelated(student, teacher, valid)
            if self.intra:
                loss = loss + self.intra * _uncorrelated(student.T, teacher.T, valid.T)
            return loss


def _uncorrelated(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """The mean of 1 − ρ over the rows of `[R, K]` that have one; 0 where none has."""
    count = valid.sum(dim=1, keepdim=True).clamp(min=1)
    student = (student - (student * valid).sum(dim=1, keepdim=True) / count) * valid
    teacher = (teacher - (teacher * valid).sum(dim=1, keepdim=True) / count) * valid
    own, theirs = student.square().sum(dim=1) / count[:, 0], teacher.square().sum(dim=1) / count[:, 0]
    together = (student * teacher).sum(dim=1) / count[:, 0]
    varies = theirs > _LEAST_VARIANCE
    deviation = (own.clamp(min=_LEAST_VARIANCE) * theirs.clamp(min=_LEAST_VARIANCE)).sqrt()
    return (1 - together / deviation).masked_fill(~varies, 0).sum() / varies.sum().clamp(min=1)
