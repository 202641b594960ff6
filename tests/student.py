"""A small student that learnt the tiny pictures by heart."""

from __future__ import annotations

import numpy as np
import torch

from edgepress.compress.config import ModelConfig
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.multilabel.datasets import MultiLabelDataset

SIZE = 64


def fit_model(
    data: MultiLabelDataset, *, head: str = "ml_decoder", backbone: str = "test_efficientnet", steps: int = 40
) -> MultiLabelModel:
    """A model that knows these pictures by heart: its logits, norms and running statistics are far from a fresh one's.

    A fresh model says nearly the same of every picture, and nearly every error would go unseen.
    """
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, head=head, width=32, size=SIZE, weights="none")
    model, _ = make_model(config, data.labels)
    images = torch.from_numpy(np.stack([model.preprocess.load(path) for path in data.paths]))
    targets = torch.from_numpy(data.targets).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model.logits(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
