"""What is trained: turns a model's outputs on a batch, and a teacher's, into loss terms by name.

A task is a module, so the projections that some losses learn are trained, saved and shared between processes with the
model. Losses see the batch of all processes (see `compress.gather`).
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.compress.examination import Examined
from edgepress.compress.features import TAPS, Features, FeatureTaps
from edgepress.compress.gather import gathered, global_batch
from edgepress.compress.heads import LinearHead
from edgepress.compress.kept import KeptTeacher
from edgepress.compress.kept_inside import most_taps
from edgepress.compress.loader import Batch
from edgepress.compress.losses import LabelMapDistillation, LabelWiseEmbeddingDistillation, SimKD
from edgepress.compress.losses.feature_checks import mean_of_kept
from edgepress.compress.losses.review_kd import rising
from edgepress.compress.losses.simkd import scales
from edgepress.compress.methods import INSIDE, ON_LOGITS
from edgepress.compress.models import MultiLabelModel
from edgepress.compress.teacher import LiveTeacher, Teacher
from edgepress.compress.terms import (
    MAP_LOSSES,
    POOLED_LOSSES,
    grouped_divergence,
    logits_loss,
    positive_losses,
    regions_of,
    task_loss,
)
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.plural import plural

log = logging.getLogger("edgepress")


class Task(nn.Module, ABC):
    """What is trained, as loss terms by name."""

    counts: dict[str, Tensor]
    """Counts of the last call by name, which are shown with the terms."""
    taps: FeatureTaps | None = None
    """Taps inside the model's backbone, if a term looks there."""

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
            {name: logits_loss(name, config, train, examined) for name in ON_LOGITS if getattr(config, name)}
        )
        self.embedding_loss = LabelWiseEmbeddingDistillation(config.cd, config.id, config.reduction)
        self.positive_losses = nn.ModuleDict()
        if teacher is not None:
            widths = student.embedding_dim, teacher.embedding_dim
            self.positive_losses = positive_losses(config, len(train.labels), *widths)
        self.map_loss: LabelMapDistillation | None = None
        if config.label_map:
            assert teacher is not None
            student.map_labels()
            self.regions = regions_of(student, teacher)
            self.map_loss = LabelMapDistillation(groups=grouped_divergence(train))
        self.auxiliary: LinearHead | None = None
        if config.auxiliary != "none":
            self.auxiliary = LinearHead(student.head.in_features, len(train.labels))
        self._look_inside(config, teacher, student)

    def _look_inside(self, config: DistillConfig, teacher: Teacher | None, student: MultiLabelModel) -> None:
        """Make the losses on what is before the heads' answers, and tap both models for them."""
        self.pooled_losses = nn.ModuleDict(
            {name: make() for name, make in POOLED_LOSSES.items() if getattr(config, name)}
        )
        self.map_losses = nn.ModuleDict()
        self.memory_loss: SimKD | None = None
        if config.simkd:
            assert isinstance(teacher, LiveTeacher | KeptTeacher)  # answers from elsewhere have no memory
            width, places = teacher.remember()
            self.memory_loss = SimKD(student.memory_dim, width)
            if not scales(student.positions, places):
                log.info(
                    "simkd compares means over all places: the teacher has %d and the student %d, which are not both "
                    "square maps",
                    *(places, student.positions),
                )
            student.keeps_memory = True
            self._take_memory = student.take_memory  # no part of the task, whose parameters are saved beside the model
        self._compares_features = any(getattr(config, name) for name in INSIDE)
        if self._compares_features:
            assert isinstance(teacher, LiveTeacher | KeptTeacher)  # answers from elsewhere have no inner values
            theirs = teacher.tap(most_taps(student))
            if len(theirs) < TAPS:
                found = plural(len(theirs), "feature map")
                log.info("the terms on feature maps compare %s instead of %d: no more are in both", found, TAPS)
            self.taps = FeatureTaps(student.backbone, len(theirs), size=student.config.size)
            given = config, self.taps.channels(), theirs
            self.map_losses.update({name: make(*given) for name, make in MAP_LOSSES.items() if getattr(config, name)})
        elif self.auxiliary is not None:
            self.taps = FeatureTaps(student.backbone, 1, size=student.config.size)

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
        features = None if self.taps is None else self.taps.take()
        second = None
        if self.auxiliary is not None:
            assert features is not None
            second = gathered(self.auxiliary.logits(features.tokens))
        teacher_logits, teacher_embeddings, *teacher_maps = self.teacher(batch)
        teacher_logits = self._calibrated(gathered(teacher_logits))
        targets, known = self._as_the_teacher_sees(everyone, teacher_logits)
        ignore = known if self._untaught is None else known | self._untaught
        for name, loss in self.logits_losses.items():
            mix = () if everyone.mix is None or name != "soft_bce" else (everyone.mix,)
            mine = second if name == self.config.auxiliary and second is not None else logits
            said = everyone.targets if name == "refined" else targets  # what people said, and not the teacher
            terms[name] = getattr(self.config, name) * loss(mine, teacher_logits, said, ignore, *mix)
        if self.map_loss is not None:
            assert maps is not None
            theirs = self._calibrated(gathered(teacher_maps[0][..., : self.regions]).mT).mT
            mine = gathered(maps[..., : self.regions])
            terms["label_map"] = self.config.label_map * self.map_loss(mine, theirs, ignore)
        if self.config.compares_embeddings:
            embeddings, teacher_embeddings = gathered(embeddings), gathered(teacher_embeddings)
            ignore = known if self._untaught_inside is None else known | self._untaught_inside
        if self.config.cd or self.config.id:
            left = known if self._unstructured is None else known | self._unstructured
            structure = self.embedding_loss.terms(embeddings, teacher_embeddings, targets, left)
            for name in ("cd", "id"):
                if weight := getattr(self.config, name):
                    terms[name] = weight * structure[name]
                    self.counts[f"{name}_groups"] = structure[f"{name}_groups"]
        for name, loss in self.positive_losses.items():
            terms[name] = getattr(self.config, name) * loss(embeddings, teacher_embeddings, targets, ignore)
        nothing = (known if self._untaught is None else known | self._untaught).all(dim=1)
        return terms | self._before_the_head(features, nothing, batch.epoch)

    def _before_the_head(self, features: Features | None, ignore: Tensor, epoch: int) -> dict[str, Tensor]:
        """Terms on what the head reads, and on what is between the pixels and the head.

        Args:
            features: the student's, if its backbone is tapped.
            ignore: bool `[N]`, the pictures of all processes of which the teacher may teach no label.
        """
        terms: dict[str, Tensor] = {}
        if self.memory_loss is not None:
            assert isinstance(self.teacher, LiveTeacher | KeptTeacher)
            memory, theirs = gathered(self._take_memory()), gathered(self.teacher.memory())
            terms["simkd"] = self.config.simkd * self.memory_loss(memory, theirs, ignore)
        if self._compares_features:
            assert features is not None
            assert isinstance(self.teacher, LiveTeacher | KeptTeacher)
            terms |= self._inside(features, self.teacher.features(), ignore, epoch)
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

    def _inside(self, student: Features, teacher: Features, ignore: Tensor, epoch: int) -> dict[str, Tensor]:
        """Terms on what is between the pixels and the head.

        Args:
            ignore: bool `[N]`, the pictures of all processes of which the teacher may teach no label.
        """
        terms = {}
        if self.pooled_losses:
            pooled = gathered(student.pooled()), gathered(teacher.pooled())
            for name, loss in self.pooled_losses.items():
                terms[name] = getattr(self.config, name) * loss(*pooled, ignore)
        for name, loss in self.map_losses.items():
            # Maps are large: each process compares its own, and only what each picture loses is gathered.
            lost = mean_of_kept(gathered(loss.pictures(student.maps, teacher.maps)), ignore)
            terms[name] = getattr(self.config, name) * lost
        if "review_kd" in terms:
            terms["review_kd"] = terms["review_kd"] * rising(epoch, self.config.epochs, self.config.review_kd_warmup)
        return terms
