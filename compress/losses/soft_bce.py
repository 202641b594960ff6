"""Soft BCE: the teacher's probabilities as targets, also of two pictures that are laid over each other.

Schmid et al., "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation", ICASSP 2023 (arXiv
2211.04772), section 2: a student sees λ·a + (1 − λ)·b (mixup, Zhang et al., ICLR 2018, arXiv 1710.09412), and its
targets are what the teacher said of a and of b alone, whose answers can therefore be stored. With z the student's logit
for the mixed picture and p_T the teacher's probability,

    L = λ · BCE(z, p_T(a)) + (1 − λ) · BCE(z, p_T(b))

BCE is linear in its target, so this is BCE(z, λ·p_T(a) + (1 − λ)·p_T(b)). The paper weighs it by k = 0.9 beside
(1 − k) · BCE(z, y) on the mixed labels, with λ ~ Beta(0.3, 0.3). It is minimal, but not 0, where the student says what
the teacher says; its gradient is that of MLD, from which it differs by the entropy of the target.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.checks import at_least_float32, check_logits
from edgepress.compress.mixup import Mix


class SoftBCE(nn.Module):
    """−p·log σ(z) − (1 − p)·log σ(−z), averaged over the valid (picture, label) cells."""

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        ignore: Tensor | None = None,
        mix: Mix | None = None,
    ) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            student_logits: `[N, C]`, of the mixed pictures.
            teacher_logits: `[N, C]`, of the pictures as they are; no gradient flows into them.
            targets: `[N, C]`; only their shape is used.
            ignore: bool `[N, C]`, cells of the mixed pictures that are left out.
            mix: how pictures were mixed; None where they were not.

        Raises:
            ValueError: the shapes differ.
        """
        check_logits(student_logits, teacher_logits, targets, ignore)
        with torch.autocast(student_logits.device.type, enabled=False):
            student = at_least_float32(student_logits)
            teacher = at_least_float32(teacher_logits.detach())
            if ignore is not None:
                student = student.masked_fill(ignore.bool(), 0)
            positive, negative = teacher.sigmoid(), (-teacher).sigmoid()
            if mix is not None:
                positive, negative = mix.of(positive), mix.of(negative)
            if ignore is not None:  # only now: a cell that is left out for one picture may count for its partner
                positive, negative = positive.masked_fill(ignore.bool(), 0), negative.masked_fill(ignore.bool(), 0)
            cells = -positive * F.logsigmoid(student) - negative * F.logsigmoid(-student)
            if ignore is None:
                return cells.sum() / max(cells.numel(), 1)
            return cells.masked_fill(ignore.bool(), 0).sum() / (~ignore.bool()).sum().clamp(min=1)
