"""MSE between logits: the simplest way to follow a teacher.

Ba and Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014 (arXiv 1312.6184), equation 2: (z_S − z_T)².
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import at_least_float32, check_logits


class LogitsMSE(nn.Module):
    """(z_S − z_T)², averaged over the valid (picture, label) cells; independent of the batch's size."""

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, ignore: Tensor | None = None
    ) -> Tensor:
        """A scalar in float32 or float64.

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
            gap = at_least_float32(student_logits) - at_least_float32(teacher_logits.detach())
            if ignore is None:
                return gap.square().sum() / max(gap.numel(), 1)
            valid = ~ignore.bool()
            return gap.masked_fill(~valid, 0).square().sum() / valid.sum().clamp(min=1)
