"""A model with random weights that takes as long to run as a trained one, though its answers mean nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from edgepress.compress.config import ModelConfig
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.multilabel.labels import LabelSpace


@torch.no_grad()
def make_untrained(config: ModelConfig, labels: LabelSpace, images: np.ndarray) -> MultiLabelModel:
    """Make a model in evaluation mode, with its norms fitted to pictures.

    With fresh norms, activations vanish or overflow with depth: denormal numbers are slow, and INT8 finds no range.

    Args:
        images: uint8 RGB `[N, size, size, 3]` of two or more pictures.

    Raises:
        InputError: as for `make_model`.
    """
    torch.manual_seed(0)
    model, _ = make_model(config.model_copy(update={"weights": "none"}), labels)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this one pass, not a moving average of several
    model.train().logits(torch.from_numpy(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
