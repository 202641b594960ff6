"""Task losses: what the student learns from the labels themselves.

BCE is the published task loss. ASL: Ben-Baruch et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021
(arXiv 2009.14119), equations 4 to 7.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.losses.checks import Reduction, at_least_float32, check_logits, check_reduction


class BinaryCrossEntropy(nn.Module):
    """−y·log σ(z) − (1−y)·log σ(−z).

    Args:
        reduction: `published` sums over batch and labels; `mean` averages over the valid cells.
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Tensor, ignore: Tensor | None = None) -> Tensor:
        """logits and targets `[N, C]`, ignore bool `[N, C]`; a scalar. Raises ValueError where shapes differ."""
        check_logits(logits, None, targets, ignore)
        with torch.autocast(logits.device.type, enabled=False):
            logits = at_least_float32(logits)
            cells = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
            return _reduce(cells, ignore, self.reduction)


class AsymmetricLoss(nn.Module):
    """ASL: −y·(1−p)^γ+·log p − (1−y)·p_m^γ−·log(1−p_m), with p_m = max(p − clip, 0).

    Args:
        gamma_neg: γ−, how fast easy negatives lose weight.
        gamma_pos: γ+, the same for positives.
        clip: the margin m by which a negative's probability is shifted down; below it a negative teaches nothing.
        reduction: `published` sums, `mean` averages over the valid cells.
    """

    def __init__(
        self, gamma_neg: float = 4.0, gamma_pos: float = 0.0, clip: float = 0.05, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        # Between 0 and 1 the power's gradient is infinite at probability 0.
        if any(gamma != 0 and not gamma >= 1 for gamma in (gamma_neg, gamma_pos)) or not 0 <= clip < 1:
            raise ValueError(
                f"ASL: received gamma_neg {gamma_neg}, gamma_pos {gamma_pos}, clip {clip}; "
                f"expected 0 or at least 1 for both gammas, and a clip in [0, 1)"
            )
        self.gamma_neg, self.gamma_pos, self.clip, self.reduction = gamma_neg, gamma_pos, clip, reduction

    def forward(self, logits: Tensor, targets: Tensor, ignore: Tensor | None = None) -> Tensor:
        """logits and targets `[N, C]`, ignore bool `[N, C]`; a scalar. Raises ValueError where shapes differ."""
        check_logits(logits, None, targets, ignore)
        with torch.autocast(logits.device.type, enabled=False):
            logits = at_least_float32(logits)
            targets = targets.to(logits.dtype)
            positive = -F.logsigmoid(logits)
            if self.gamma_pos > 0:
                positive = positive * (-logits).sigmoid() ** self.gamma_pos
            if self.clip > 0:
                negative = -((-logits).sigmoid() + self.clip).clamp(max=1).log()
            else:
                negative = -F.logsigmoid(-logits)
            if self.gamma_neg > 0:
                negative = negative * (logits.sigmoid() - self.clip).clamp(min=0) ** self.gamma_neg
            return _reduce(targets * positive + (1 - targets) * negative, ignore, self.reduction)


def _reduce(cells: Tensor, ignore: Tensor | None, reduction: str) -> Tensor:
    if ignore is not None:
        cells = cells.masked_fill(ignore.bool(), 0)
    if reduction == "published":
        return cells.sum()
    count = cells.numel() if ignore is None else (~ignore.bool()).sum().clamp(min=1)
    return cells.sum() / count
