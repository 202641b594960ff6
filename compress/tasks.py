"""What is trained: turns a model's outputs on a batch, and a teacher's, into loss terms by name.

A task is a module, so the projections that some losses learn are trained, saved and shared between processes with the
model. Losses see the batch of all processes (see `compress.gather`).
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgepress.compress.config import DistillConfig, TeachConfig, TrainConfig
from edgepress.compress.examination import Examined
from edgepress.compress.features import Features, FeatureTaps
from edgepress.compress.gather import gathered, global_batch
from edgepress.compress.label_maps import regions_within
from edgepress.compress.loader import Batch
from edgepress.compress.losses import (
    AsymmetricLoss,
    AttentionTransfer,
    BinaryCrossEntropy,
    BinaryKD,
    FitNetHints,
    FocalLoss,
    GroupedLogitsLoss,
    GroupedTaskLoss,
    LabelMapDistillation,
    LabelWiseEmbeddingDistillation,
    LabelWiseHints,
    LogitsMSE,
    MultiLabelLogitsDistillation,
    PartialSoftmax,
    ProbabilisticKT,
    RelationalKD,
    ReviewKD,
)
from edgepress.compress.losses.checks import Reduction
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.teacher import LiveTeacher, Teacher
from edgepress.multilabel.datasets import MultiLabelDataset

log = logging.getLogger("edgepress")


class Task(nn.Module, ABC):
    """What is trained, as loss terms by name."""

    counts: dict[str, Tensor]
    """Counts of the last call by name, which are shown with the terms."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = {}

    @abstractmethod
    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Turn logits `[B, C]`, embeddings `[B, C, dim]` and label maps `[B, C, REGIONS]`, if the model gives any, into
        weighted terms, whose sum is minimised."""


class TeachTask(Task):
    """Learning from the labels alone.

    Args:
        train: the split whose labels are counted for `positive_weights`.
    """

    def __init__(self, config: TeachConfig, train: MultiLabelDataset) -> None:
        super().__init__()
        self.name = config.task_loss
        self.loss = task_loss(config, train, "mean")

    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return one term, which has the name of its loss."""
        batch = global_batch(batch)
        return {self.name: self.loss(gathered(logits), batch.targets, batch.ignore)}


class DistillTask(Task):
    """The labels' loss and the teacher's terms, each with its weight; a weight of 0 omits a term.

    With mld, cd and id it is the published objective, or the form of it that does not depend on the batch size.
    Without a teacher, the student learns alone. A label that the teacher does not teach is ignored in all of its terms.
    Labels that exclude each other learn the group's distribution instead, by cross-entropy from the labels and by KL in
    the terms on logits; cd and id are for the other labels.

    Args:
        student: the model that is trained; its backbone is tapped if a term looks inside it.
        train: the split whose labels are counted for `positive_weights`.
        examined: what of the teacher's answers is taught; by default all, as they are.
    """

    _untaught: Tensor | None
    _untaught_inside: Tensor | None
    _unstructured: Tensor | None
    _member: Tensor
    _slopes: Tensor | None
    _offsets: Tensor | None

    def __init__(
        self,
        config: DistillConfig,
        teacher: Teacher | None,
        student: MultiLabelModel,
        train: MultiLabelDataset,
        examined: Examined | None = None,
    ) -> None:
        super().__init__()
        self.config, self.teacher = config, teacher
        everything = np.ones(len(train.labels), bool)
        examined = examined or Examined(taught=everything, inside=everything)
        member = train.grouped.member
        masks = {
            "_untaught": examined.taught,
            "_untaught_inside": examined.inside,
            "_unstructured": examined.inside & ~member,
        }
        for name, mask in masks.items():
            self.register_buffer(name, None if mask.all() else torch.from_numpy(~mask), persistent=False)
        self.register_buffer("_member", torch.from_numpy(member), persistent=False)
        known = examined.calibrator
        # A label's own slope and offset would change the odds within its group.
        slopes, offsets = (None, None) if known is None else (np.where(member, 1, known.slopes), known.offsets)
        for name, values in (
            ("_slopes", slopes),
            ("_offsets", None if known is None else np.where(member, 0, offsets)),
        ):
            self.register_buffer(name, None if values is None else torch.tensor(values).float(), persistent=False)
        self.task_loss = task_loss(config, train, config.reduction)
        self.logits_losses = nn.ModuleDict(
            {name: _logits_loss(name, config, train) for name in _LOGITS_LOSSES if getattr(config, name)}
        )
        self.embedding_loss = LabelWiseEmbeddingDistillation(config.cd, config.id, config.reduction)
        self.hint_loss: LabelWiseHints | None = None
        if config.hint:
            assert teacher is not None
            self.hint_loss = LabelWiseHints(student.embedding_dim, teacher.embedding_dim)
        self.map_loss: LabelMapDistillation | None = None
        if config.label_map:
            assert teacher is not None
            student.map_labels()
            self.regions = _regions_of(student, teacher)
            self.map_loss = LabelMapDistillation(groups=_grouped_divergence(train))
        self.pooled_losses = nn.ModuleDict(
            {name: make() for name, make in _POOLED_LOSSES.items() if getattr(config, name)}
        )
        self.map_losses = nn.ModuleDict()
        self.taps: FeatureTaps | None = None
        if config.looks_inside:
            assert isinstance(teacher, LiveTeacher)  # stored outputs have no inner values
            theirs = teacher.tap()
            self.taps = FeatureTaps(student.backbone, len(theirs), size=student.config.size)
            channels = (self.taps.channels(), theirs)
            self.map_losses.update(
                {name: make(*channels) for name, make in _MAP_LOSSES.items() if getattr(config, name)}
            )

    def forward(
        self, batch: Batch, logits: Tensor, embeddings: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the task loss under its name, and then the teacher's terms."""
        everyone = global_batch(batch)
        targets, ignore = everyone.targets, everyone.ignore
        logits = gathered(logits)
        terms: dict[str, Tensor] = {}
        if self.config.task:
            terms[self.config.task_loss] = self.config.task * self.task_loss(logits, targets, ignore)
        if self.teacher is None:
            return terms
        teacher_logits, teacher_embeddings, *teacher_maps = self.teacher(batch)
        teacher_logits = self._calibrated(gathered(teacher_logits))
        targets, known = self._as_the_teacher_sees(everyone, teacher_logits)
        ignore = known if self._untaught is None else known | self._untaught
        for name, loss in self.logits_losses.items():
            terms[name] = getattr(self.config, name) * loss(logits, teacher_logits, targets, ignore)
        if self.map_loss is not None:
            assert maps is not None
            theirs = self._calibrated(gathered(teacher_maps[0][..., : self.regions]).mT).mT
            mine = gathered(maps[..., : self.regions])
            terms["label_map"] = self.config.label_map * self.map_loss(mine, theirs, ignore)
        if self.config.cd or self.config.id or self.hint_loss:
            embeddings, teacher_embeddings = gathered(embeddings), gathered(teacher_embeddings)
            ignore = known if self._untaught_inside is None else known | self._untaught_inside
        if self.config.cd or self.config.id:
            left = known if self._unstructured is None else known | self._unstructured
            structure = self.embedding_loss.terms(embeddings, teacher_embeddings, targets, left)
            for name in ("cd", "id"):
                if weight := getattr(self.config, name):
                    terms[name] = weight * structure[name]
                    self.counts[f"{name}_groups"] = structure[f"{name}_groups"]
        if self.hint_loss is not None:
            terms["hint"] = self.config.hint * self.hint_loss(embeddings, teacher_embeddings, targets, ignore)
        if self.taps is not None:
            assert isinstance(self.teacher, LiveTeacher)
            terms |= self._inside(self.taps.take(), self.teacher.features())
        return terms

    def _calibrated(self, logits: Tensor) -> Tensor:
        """A teacher's logits `[..., C]` as they are taught."""
        return logits if self._slopes is None else logits.float() * self._slopes + self._offsets

    def _as_the_teacher_sees(self, batch: Batch, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Targets and ignore mask of the teacher's terms: an unlabelled picture has the labels of which the teacher is
        sure, and none of its cells is ignored."""
        if batch.labelled.all():
            return batch.targets, batch.ignore
        labelled = batch.labelled[:, None]
        sure = (teacher_logits.sigmoid() >= self.config.sure).to(batch.targets.dtype)
        sure = sure.masked_fill(self._member, 0)  # a softmax's logit alone says nothing
        return torch.where(labelled, batch.targets, sure), batch.ignore & labelled

    def _inside(self, student: Features, teacher: Features) -> dict[str, Tensor]:
        """Terms on what is between the pixels and the head."""
        terms = {}
        if self.pooled_losses:
            pooled = gathered(student.pooled()), gathered(teacher.pooled())
            for name, loss in self.pooled_losses.items():
                terms[name] = getattr(self.config, name) * loss(*pooled)
        for name, loss in self.map_losses.items():
            # This is a mean over pictures of each process's own maps; the processes' mean is the mean over all.
            terms[name] = getattr(self.config, name) * loss(student.maps, teacher.maps)
        return terms


_LOGITS_LOSSES = {
    "mld": lambda config: MultiLabelLogitsDistillation(config.reduction),
    "mse": lambda config: LogitsMSE(),
    "ps": lambda config: PartialSoftmax(),
    "kd": lambda config: BinaryKD(config.kd_temperature, config.reduction),
}
_POOLED_LOSSES = {"rkd": RelationalKD, "pkt": ProbabilisticKT}
_MAP_LOSSES = {
    "review_kd": ReviewKD,
    "at": lambda student, teacher: AttentionTransfer(),
    "fitnet": FitNetHints,
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


def _logits_loss(name: str, config: DistillConfig, train: MultiLabelDataset) -> nn.Module:
    """A term on logits; within a group of labels that exclude each other it is the KL of the group's distribution."""
    loss = _LOGITS_LOSSES[name](config)
    if not train.grouped.member.any():
        return loss
    temperature = loss.temperature if isinstance(loss, BinaryKD) else 1.0
    reduction = config.reduction if name in ("mld", "kd") else "mean"
    return GroupedLogitsLoss(loss, *_groups(train), reduction, temperature=temperature)


def _grouped_divergence(train: MultiLabelDataset) -> GroupedLogitsLoss | None:
    """The KL of labels that exclude each other, beside that of the others; None where there are none."""
    if not train.grouped.member.any():
        return None
    return GroupedLogitsLoss(MultiLabelLogitsDistillation("published"), *_groups(train), "published")


def _regions_of(student: MultiLabelModel, teacher: Teacher) -> int:
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
