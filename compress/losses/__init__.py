"""Losses of multi-label distillation: from the labels, from the teacher's logits, embeddings, features and maps."""

from compress.losses.attention_transfer import AttentionTransfer
from compress.losses.fitnet import FitNetHints
from compress.losses.kd import BinaryKD
from compress.losses.label_hints import LabelWiseHints
from compress.losses.label_wise import (
    ClassAwareEmbeddingDistillation,
    InstanceAwareEmbeddingDistillation,
    LabelWiseEmbeddingDistillation,
)
from compress.losses.mld import MultiLabelLogitsDistillation
from compress.losses.mse import LogitsMSE
from compress.losses.partial_softmax import PartialSoftmax
from compress.losses.pkt import ProbabilisticKT
from compress.losses.review_kd import ReviewKD
from compress.losses.rkd import RelationalKD
from compress.losses.task import AsymmetricLoss, BinaryCrossEntropy, FocalLoss

__all__ = [
    "AsymmetricLoss",
    "AttentionTransfer",
    "BinaryCrossEntropy",
    "BinaryKD",
    "ClassAwareEmbeddingDistillation",
    "FitNetHints",
    "FocalLoss",
    "InstanceAwareEmbeddingDistillation",
    "LabelWiseEmbeddingDistillation",
    "LabelWiseHints",
    "LogitsMSE",
    "MultiLabelLogitsDistillation",
    "PartialSoftmax",
    "ProbabilisticKT",
    "RelationalKD",
    "ReviewKD",
]
