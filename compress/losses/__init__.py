"""Losses of multi-label distillation: task losses, logits as binary problems, label-wise embeddings."""

from compress.losses.label_wise import (
    ClassAwareEmbeddingDistillation,
    InstanceAwareEmbeddingDistillation,
    LabelWiseEmbeddingDistillation,
)
from compress.losses.mld import MultiLabelLogitsDistillation
from compress.losses.task import AsymmetricLoss, BinaryCrossEntropy

__all__ = [
    "AsymmetricLoss",
    "BinaryCrossEntropy",
    "ClassAwareEmbeddingDistillation",
    "InstanceAwareEmbeddingDistillation",
    "LabelWiseEmbeddingDistillation",
    "MultiLabelLogitsDistillation",
]
