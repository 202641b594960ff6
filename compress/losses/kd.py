"""Binary KD: knowledge distillation with a temperature, where every label is a binary problem of its own.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531), section 2, with the softmax over
classes replaced by one sigmoid per label: T² · KL(Bernoulli(σ(z_T / T)) ‖ Bernoulli(σ(z_S / T))). T² preserves the
gradient's size when T changes. At T = 1 it is MLD.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepress.compress.losses.checks import Reduction, at_least_float32
from edgepress.compress.losses.mld import MultiLabelLogitsDistillation


class BinaryKD(nn.Module):
    """T² · KL of the softened Bernoulli distributions.

    Args:
        temperature: T; above 1 the teacher's confident answers differ more visibly from each other.
        reduction: `published` sums over labels and averages over the batch; `mean` averages over the valid cells, as
            in MLD.
    """

    def __init__(self, temperature: float = 4.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"received temperature {temperature}; expected a finite number above 0")
        self.temperature = temperature
        self.divergence = MultiLabelLogitsDistillation(reduction)

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
        with torch.autocast(student_logits.device.type, enabled=False):
            student = at_least_float32(student_logits) / self.temperature
            teacher = at_least_float32(teacher_logits) / self.temperature
            return self.temperature**2 * self.divergence(student, teacher, targets, ignore)
