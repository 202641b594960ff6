"""Mixup: each picture of a batch with its neighbour laid over it, by a share that follows from seed, epoch and picture.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018 (arXiv 1710.09412). The share of the neighbour is
1 − λ with λ ~ Beta(α, α); the larger of λ and 1 − λ is the picture's own, as in EfficientAT. A batch is in a new order
in every epoch, so neighbours are drawn by the order. Where the batch of each process is even, one process mixes the
same pairs as several do; in an odd one the last picture takes the first of its own process.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """How the pictures of a batch were mixed."""

    partner: Tensor
    """int64 `[B]`, the place in the batch of the picture that is laid over each."""
    share: Tensor
    """float32 `[B]`, λ: each picture's own share."""

    def of(self, rows: Tensor) -> Tensor:
        """Mix rows `[B, ...]` in their own precision."""
        share = self.share.to(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1))
        return share * rows + (1 - share) * rows[self.partner]


def drawn_mix(index: Tensor, seed: int, epoch: int, alpha: float) -> Mix:
    """The mix of a batch.

    Args:
        index: int64 `[B]`, the pictures' places in the split.
        alpha: of Beta(α, α), above 0; a small one mostly leaves one picture alone.
    """
    places = torch.arange(len(index), device=index.device)
    partner = torch.where((places ^ 1) < len(index), places ^ 1, 0)  # the last of an odd number takes the first
    drawn = [np.random.default_rng((seed, epoch, int(one), _OWN)).beta(alpha, alpha) for one in index.tolist()]
    share = torch.tensor([max(one, 1 - one) for one in drawn], dtype=torch.float32, device=index.device)
    return Mix(partner, share)


_OWN = 2
"""Tells these random numbers from those of a picture's augmentation."""
