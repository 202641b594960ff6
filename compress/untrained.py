"""A model with random weights that computes as a trained one would: for how long it takes, not for what it says."""

from __future__ import annotations

import numpy as np
import torch

from edgepress.compress.config import ModelConfig
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.multilabel.labels import LabelSpace

_PASSES = 20
"""Enough for running statistics that move by a tenth a pass."""


@torch.no_grad()
def make_untrained(config: ModelConfig, labels: LabelSpace, images: np.ndarray) -> MultiLabelModel:
    """A model in evaluation mode, its norms fitted to pictures.

    Fresh norms let activations vanish or overflow with depth: denormal numbers are slow, and INT8 has no range to find.

    Args:
        images: uint8 RGB `[N, size, size, 3]`, two or more.

    Raises:
        InputError: see `make_model`.
    """
    torch.manual_seed(0)
    model, _ = make_model(config.model_copy(update={"weights": "none"}), labels)
    for _ in range(_PASSES):
        model.train().logits(torch.from_numpy(images))
    return model.eval()
