"""Task losses: what the student learns from the labels themselves.

BCE is the published task loss. ASL: Ben-Baruch et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021
(arXiv 2009.14119), equations 4 to 7. Focal: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017
(arXiv 1708.02002), equation 5. Label smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016
(arXiv 1512.00567), section 7, of the two outcomes of each label: y becomes y·(1 − s) + s/2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.compress.losses.checks import Reduction, at_least_float32, check_logits, check_reduction


class _TaskLoss(nn.Module, ABC):
    """What all task losses share; each loss has a subclass that computes its cells.

    Args:
        reduction: `published` sums over batch and labels; `mean` averages over the valid cells.
        label_smoothing: s in [0, 1); y becomes y·(1 − s) + s/2.
        positive_weights: `[C]`, one factor ≥ 0 per label on its positive part, above 1 for rare labels.
    """

    positive_weights: Tensor | None

    def __init__(
        self,
        reduction: Reduction = "mean",
        *,
        label_smoothing: float = 0.0,
        positive_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"received label_smoothing {label_smoothing}; expected a number in [0, 1)")
        weights = None if positive_weights is None else torch.as_tensor(positive_weights, dtype=torch.float32)
        if weights is not None and (weights.ndim != 1 or not ((weights >= 0) & weights.isfinite()).all()):
            raise ValueError(f"positive_weights: received {weights.tolist()}; expected [C] finite numbers ≥ 0")
        self.reduction, self.label_smoothing = reduction, label_smoothing
        self.register_buffer("positive_weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, ignore: Tensor | None = None) -> Tensor:
        """A scalar in float32 or float64.

        Args:
            logits: `[N, C]`.
            targets: `[N, C]`, each 0, 1 or between.
            ignore: bool `[N, C]`, cells that are left out.

        Raises:
            ValueError: the shapes differ, or there are not C positive weights.
        """
        check_logits(logits, None, targets, ignore)
        if self.positive_weights is not None and len(self.positive_weights) != logits.shape[1]:
            raise ValueError(f"positive_weights: received {len(self.positive_weights)}; expected {logits.shape[1]}")
        with torch.autocast(logits.device.type, enabled=False):
            logits = at_least_float32(logits)
            targets = targets.to(logits.dtype)
            if self.label_smoothing:
                targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
            weights = None if self.positive_weights is None else self.positive_weights.to(logits)
            cells = self._cells(logits, targets, weights)
            if ignore is not None:
                cells = cells.masked_fill(ignore.bool(), 0)
            if self.reduction == "published":
                return cells.sum()
            count = max(cells.numel(), 1) if ignore is None else (~ignore.bool()).sum().clamp(min=1)
            return cells.sum() / count

    @abstractmethod
    def _cells(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Return the loss of every cell `[N, C]`."""


class BinaryCrossEntropy(_TaskLoss):
    """−w·y·log σ(z) − (1−y)·log σ(−z).

    Args:
        reduction: `published` sums over batch and labels; `mean` averages over the valid cells.
        label_smoothing: s in [0, 1); y becomes y·(1 − s) + s/2.
        positive_weights: w `[C]`, one factor per label.
    """

    def _cells(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=weights)


class FocalLoss(_TaskLoss):
    """−w·α·y·(1−p)^γ·log p − (1−α)·(1−y)·p^γ·log(1−p).

    Args:
        alpha: α in [0, 1], the weight of positives against negatives; None for a factor of 1 on both.
        gamma: γ ≥ 0, how fast correct answers lose weight; 0 gives BCE.
        reduction: `published` sums over batch and labels (a detector divides by its number of matched boxes, which
            has no counterpart here); `mean` averages over the valid cells.
        label_smoothing: s in [0, 1); y becomes y·(1 − s) + s/2.
        positive_weights: w `[C]`, one factor per label.
    """

    def __init__(
        self,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        reduction: Reduction = "mean",
        *,
        label_smoothing: float = 0.0,
        positive_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(reduction, label_smoothing=label_smoothing, positive_weights=positive_weights)
        if (alpha is not None and not 0 <= alpha <= 1) or not 0 <= gamma < float("inf"):
            raise ValueError(
                f"focal: received alpha {alpha}, gamma {gamma}; expected an alpha in [0, 1] or None and a gamma ≥ 0"
            )
        self.alpha, self.gamma = alpha, gamma

    def _cells(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
        # The power is computed from its logarithm: for a gamma below 1, a probability of 0 has an infinite gradient.
        positive = -targets * (self.gamma * log_not_p).exp() * log_p
        negative = -(1 - targets) * (self.gamma * log_p).exp() * log_not_p
        if weights is not None:
            positive = weights * positive
        if self.alpha is not None:
            positive, negative = self.alpha * positive, (1 - self.alpha) * negative
        return positive + negative


class AsymmetricLoss(_TaskLoss):
    """ASL: −w·y·(1−p)^γ+·log p − (1−y)·p_m^γ−·log(1−p_m), with p_m = max(p − clip, 0).

    Args:
        gamma_neg: γ−, how fast easy negatives lose weight.
        gamma_pos: γ+, the same for positives.
        clip: the margin m by which a negative's probability is shifted down; below it a negative teaches nothing.
        reduction: `published` sums; `mean` averages over the valid cells.
        label_smoothing: s in [0, 1); y becomes y·(1 − s) + s/2.
        positive_weights: w `[C]`, one factor per label.
    """

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        reduction: Reduction = "mean",
        *,
        label_smoothing: float = 0.0,
        positive_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(reduction, label_smoothing=label_smoothing, positive_weights=positive_weights)
        # Between 0 and 1 the power's gradient is infinite at probability 0.
        if any(gamma != 0 and not gamma >= 1 for gamma in (gamma_neg, gamma_pos)) or not 0 <= clip < 1:
            raise ValueError(
                f"ASL: received gamma_neg {gamma_neg}, gamma_pos {gamma_pos}, clip {clip}; "
                f"expected 0 or at least 1 for both gammas, and a clip in [0, 1)"
            )
        self.gamma_neg, self.gamma_pos, self.clip = gamma_neg, gamma_pos, clip

    def _cells(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        positive = -F.logsigmoid(logits)
        if self.gamma_pos > 0:
            positive = positive * (-logits).sigmoid() ** self.gamma_pos
        if weights is not None:
            positive = weights * positive
        log_not_shifted = ((-logits).sigmoid() + self.clip).clamp(max=1).log() if self.clip else F.logsigmoid(-logits)
        negative = -log_not_shifted
        if self.gamma_neg > 0:
            negative = negative * (logits.sigmoid() - self.clip).clamp(min=0) ** self.gamma_neg
        return targets * positive + (1 - targets) * negative
