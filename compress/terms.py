"""The losses that a configuration names, made for a data set: on labels, on logits, on features and maps."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgepress.compress.config import DistillConfig, TrainConfig
from edgepress.compress.examination import Examined
from edgepress.compress.label_maps import regions_within
from edgepress.compress.losses import (
    DIST,
    AsymmetricLoss,
    AttentionTransfer,
    BinaryCrossEntropy,
    BinaryKD,
    FitNetHints,
    FocalLoss,
    GroupedLogitsLoss,
    GroupedTaskLoss,
    LabelPrototypes,
    LabelWiseHints,
    LogitsMSE,
    MultiLabelLogitsDistillation,
    PartialSoftmax,
    ProbabilisticKT,
    RefinedLogits,
    RelationalKD,
    ReviewKD,
    SoftBCE,
)
from edgepress.compress.losses.checks import Reduction
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.teacher import Teacher
from edgepress.multilabel.datasets import MultiLabelDataset

log = logging.getLogger("edgepress")

LOGITS_LOSSES = {
    "mld": lambda config: MultiLabelLogitsDistillation(config.reduction),
    "mse": lambda config: LogitsMSE(),
    "ps": lambda config: PartialSoftmax(),
    "kd": lambda config: BinaryKD(config.kd_temperature, config.reduction),
    "soft_bce": lambda config: SoftBCE(),
    "dist": lambda config: DIST(),
}
POOLED_LOSSES = {"rkd": RelationalKD, "pkt": ProbabilisticKT}
MAP_LOSSES = {
    "review_kd": lambda config, student, teacher: ReviewKD(student, teacher, config.review_kd_width),
    "at": lambda config, student, teacher: AttentionTransfer(),
    "fitnet": lambda config, student, teacher: FitNetHints(student, teacher),
}


def task_loss(config: TrainConfig, train: MultiLabelDataset, reduction: Reduction) -> nn.Module:
    """The loss on the labels that a configuration names.

    Args:
        train: the split counted for `positive_weights`.
    """
    member = train.grouped.member
    weights = _positive_weights(config, train)
    shared: dict[str, Any] = {
        "label_smoothing": config.label_smoothing,
        "positive_weights": None if weights is None else weights[torch.from_numpy(~member)],
    }
    loss: nn.Module
    if config.task_loss == "asl":
        loss = AsymmetricLoss(config.gamma_neg, config.gamma_pos, config.clip, reduction, **shared)
    elif config.task_loss == "focal":
        loss = FocalLoss(reduction=reduction, **shared)
    else:
        loss = BinaryCrossEntropy(reduction, **shared)
    if not member.any():
        return loss
    return GroupedTaskLoss(loss, *_groups(train), reduction, label_smoothing=config.label_smoothing)


def logits_loss(name: str, config: DistillConfig, train: MultiLabelDataset, examined: Examined) -> nn.Module:
    """A term on logits; within a group of labels that exclude each other it is the KL of the group's distribution."""
    loss: nn.Module
    if name == "refined":
        precision = examined.precision
        loss = RefinedLogits(config.sure, None if precision is None else precision[~train.grouped.member].tolist())
    else:
        loss = LOGITS_LOSSES[name](config)
    if not train.grouped.member.any():
        return loss
    temperature = loss.temperature if isinstance(loss, BinaryKD) else 1.0
    reduction = config.reduction if name in ("mld", "kd") else "mean"
    return GroupedLogitsLoss(loss, *_groups(train), reduction, temperature=temperature)


def positive_losses(config: DistillConfig, labels: int, student_dim: int, teacher_dim: int) -> nn.ModuleDict:
    """The terms on label-wise embeddings of positives alone, by name."""
    losses = nn.ModuleDict()
    if config.hint:
        losses["hint"] = LabelWiseHints(student_dim, teacher_dim)
    if config.prototypes:
        losses["prototypes"] = LabelPrototypes(labels, student_dim, teacher_dim)
    return losses


def grouped_divergence(train: MultiLabelDataset) -> GroupedLogitsLoss | None:
    """The KL of labels that exclude each other, beside that of the others; None where there are none."""
    if not train.grouped.member.any():
        return None
    return GroupedLogitsLoss(MultiLabelLogitsDistillation("published"), *_groups(train), "published")


def regions_of(student: MultiLabelModel, teacher: Teacher) -> int:
    """Number of regions that both sides' maps can tell apart."""
    ours, theirs = student.map_side, teacher.map_side
    regions = regions_within(min(ours, theirs))
    if regions == 1:
        log.warning(
            "label_map compares regions of pictures, and with maps of %d x %d places of the student and %d x %d of the "
            "teacher there is none but the whole picture, as in mld: raise size",
            *(ours, ours, theirs, theirs),
        )
    return regions


def _groups(train: MultiLabelDataset) -> tuple[list[list[int]], list[bool], int]:
    """The columns of each group, whether a picture may have none of its labels, and the number of all labels."""
    columns = [group.tolist() for group in train.grouped.columns]
    return columns, [group.none for group in train.groups.exclusive], len(train.labels)


def _positive_weights(config: TrainConfig, train: MultiLabelDataset) -> Tensor | None:
    if config.positive_weights == "none":
        return None
    known = ~train.ignore
    positives = (known & (train.targets == 1)).sum(axis=0)
    negatives = known.sum(axis=0) - positives
    # A label without a positive has none to weigh; one without a negative would lose its only pictures.
    both = (positives > 0) & (negatives > 0)
    return torch.from_numpy(np.where(both, negatives / np.maximum(positives, 1), 1).astype(np.float32))
