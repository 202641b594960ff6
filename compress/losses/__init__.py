"""Losses of multi-label distillation: from the labels, from the teacher's logits, embeddings, features and maps."""

from edgepress.compress.losses.attention_transfer import AttentionTransfer
from edgepress.compress.losses.dist import DIST
from edgepress.compress.losses.exclusive import GroupedLogitsLoss, GroupedTaskLoss
from edgepress.compress.losses.fitnet import FitNetHints
from edgepress.compress.losses.kd import BinaryKD
from edgepress.compress.losses.label_hints import LabelWiseHints
from edgepress.compress.losses.label_map import LabelMapDistillation
from edgepress.compress.losses.label_wise import (
    ClassAwareEmbeddingDistillation,
    InstanceAwareEmbeddingDistillation,
    LabelWiseEmbeddingDistillation,
)
from edgepress.compress.losses.mld import MultiLabelLogitsDistillation
from edgepress.compress.losses.mse import LogitsMSE
from edgepress.compress.losses.partial_softmax import PartialSoftmax
from edgepress.compress.losses.pkt import ProbabilisticKT
from edgepress.compress.losses.prototypes import LabelPrototypes
from edgepress.compress.losses.refined import RefinedLogits
from edgepress.compress.losses.review_kd import ReviewKD
from edgepress.compress.losses.rkd import RelationalKD
from edgepress.compress.losses.simkd import SimKD
from edgepress.compress.losses.soft_bce import SoftBCE
from edgepress.compress.losses.task import AsymmetricLoss, BinaryCrossEntropy, FocalLoss

__all__ = [
    "DIST",
    "AsymmetricLoss",
    "AttentionTransfer",
    "BinaryCrossEntropy",
    "BinaryKD",
    "ClassAwareEmbeddingDistillation",
    "FitNetHints",
    "FocalLoss",
    "GroupedLogitsLoss",
    "GroupedTaskLoss",
    "InstanceAwareEmbeddingDistillation",
    "LabelMapDistillation",
    "LabelPrototypes",
    "LabelWiseEmbeddingDistillation",
    "LabelWiseHints",
    "LogitsMSE",
    "MultiLabelLogitsDistillation",
    "PartialSoftmax",
    "ProbabilisticKT",
    "RefinedLogits",
    "RelationalKD",
    "ReviewKD",
    "SimKD",
    "SoftBCE",
]
