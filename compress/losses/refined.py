"""Refined logits: the teacher's answers, corrected by the labels and weighed by how far it is to be believed.

After Sun et al., "Knowledge Distillation with Refined Logits", ICCV 2025 (arXiv 2408.07703), which takes out of the
teacher's answers what contradicts the label, because a wrong answer misleads, but keeps what it knows of the other
classes. Here each label is a binary problem of its own. With y the target and p the teacher's probability,

- y = 1 and p < 1/2: the teacher contradicts a positive, and the label wins: the student's target is 1;
- y = 0 and p ≥ sure: the teacher is sure of a positive that nobody labelled, which may be a label that was forgotten
  or a mistake of the teacher: the cell is weighed by the share of such answers that are right on val, for each label;
- elsewhere the student follows the teacher, as in MLD.

    L = 1 / cells · Σ w · KL(Bernoulli(t) ‖ Bernoulli(σ(z)))

with t the target, p or 1, and w the weight, 1 or the precision of the label. Pictures that nobody labelled have y = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.checks import at_least_float32, check_logits


class RefinedLogits(nn.Module):
    """w · KL(Bernoulli(t) ‖ Bernoulli(σ(z))), averaged over the valid (picture, label) cells.

    Args:
        sure: the teacher's probability from which it is sure of a positive.
        precision: `[C]`, w of each label's sure positives that are not labelled, from 0 to 1; None for 1.
    """

    precision: Tensor | None

    def __init__(self, sure: float = 0.9, precision: Tensor | Sequence[float] | None = None) -> None:
        super().__init__()
        if not 0.5 <= sure < 1:
            raise ValueError(f"received sure {sure}; expected a probability from 0.5 to 1")
        weights = None if precision is None else torch.as_tensor(precision, dtype=torch.float32)
        if weights is not None and (weights.ndim != 1 or not ((weights >= 0) & (weights <= 1)).all()):
            raise ValueError(f"precision: received {weights.tolist()}; expected [C] shares from 0 to 1")
        self.sure = sure
        self.register_buffer("precision", weights, persistent=False)

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_logits: `[N, C]`.
            teacher_logits: `[N, C]`; no gradient flows into them.
            targets: `[N, C]` in {0, 1}.
            ignore: bool `[N, C]`, cells that are left out.

        Raises:
            ValueError: the shapes differ, or there are not C precisions.
        """
        check_logits(student_logits, teacher_logits, targets, ignore)
        if self.precision is not None and len(self.precision) != student_logits.shape[1]:
            raise ValueError(f"precision: received {len(self.precision)}; expected {student_logits.shape[1]}")
        with torch.autocast(student_logits.device.type, enabled=False):
            student = at_least_float32(student_logits)
            teacher = at_least_float32(teacher_logits.detach())
            valid = torch.ones_like(student, dtype=torch.bool) if ignore is None else ~ignore.bool()
            student, teacher = student.masked_fill(~valid, 0), teacher.masked_fill(~valid, 0)
            contradicted = (targets == 1) & (teacher < 0)
            positive = teacher.sigmoid().masked_fill(contradicted, 1)
            negative = (-teacher).sigmoid().masked_fill(contradicted, 0)
            certain = F.logsigmoid(teacher).masked_fill(contradicted, 0)
            cells = positive * (certain - F.logsigmoid(student)) + negative * (
                F.logsigmoid(-teacher) - F.logsigmoid(-student)
            )
            if self.precision is not None:
                found = (targets != 1) & (teacher.sigmoid() >= self.sure)
                cells = torch.where(found, self.precision.to(cells.dtype), 1) * cells
            return cells.masked_fill(~valid, 0).sum() / valid.sum().clamp(min=1)
