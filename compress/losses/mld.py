"""MLD: multi-label logits distillation.

Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023 (arXiv 2308.06453), section 3.2: every label is a binary
problem of its own, and for each the student follows the teacher's Bernoulli distribution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.checks import Reduction, at_least_float32, check_logits, check_reduction


class MultiLabelLogitsDistillation(nn.Module):
    """KL(Bernoulli(σ(z_T)) ‖ Bernoulli(σ(z_S))) for every picture and label.

    Args:
        reduction: `published` sums over labels and averages over the batch, (1/N) Σ_i Σ_c KL; `mean` averages over
            the valid (picture, label) cells.
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction = reduction

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_logits: `[N, C]`.
            teacher_logits: `[N, C]`; no gradient flows into them.
            targets: `[N, C]`; only their shape is used, because the teacher covers every label.
            ignore: bool `[N, C]`, cells that are left out.

        Raises:
            ValueError: the shapes differ.
        """
        check_logits(student_logits, teacher_logits, targets, ignore)
        with torch.autocast(student_logits.device.type, enabled=False):
            student = at_least_float32(student_logits)
            teacher = at_least_float32(teacher_logits.detach())
            if ignore is not None:  # equal logits have a divergence of 0 and no gradient
                student, teacher = student.masked_fill(ignore.bool(), 0), teacher.masked_fill(ignore.bool(), 0)
            # log σ(±z) stays finite where log(σ(z)) would be log(0).
            divergence = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student)) + (-teacher).sigmoid() * (
                F.logsigmoid(-teacher) - F.logsigmoid(-student)
            )
            if self.reduction == "published":
                return divergence.sum() / max(student.shape[0], 1)
            cells = divergence.numel() if ignore is None else (~ignore.bool()).sum().clamp(min=1)
            return divergence.sum() / cells
