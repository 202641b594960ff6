"""What a model is trained on: pictures and teachers that fit each other, checked before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.compress.gather import process_state
from edgepress.compress.reading import Reading, TeacherSource
from edgepress.multilabel.bundle import require_replaceable
from edgepress.multilabel.datasets import MultiLabelDataset, refuse_leaks
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Role
from edgepress.multilabel.inspection import labels_left_out, too_poor
from edgepress.multilabel.metrics import prevalence
from edgepress.multilabel.stored_answers import StoredAnswers

log = logging.getLogger("edgepress")


@dataclass(frozen=True, kw_only=True)
class Material:
    """The pictures that a model learns from and is chosen on, and the teachers that answer for them."""

    train: MultiLabelDataset
    val: MultiLabelDataset
    """In the order of labels of `train`."""
    unlabelled: MultiLabelDataset | None
    teachers: tuple[TeacherSource, ...]
    reading: Reading

    def identity(self, config: TeachConfig | DistillConfig) -> dict[str, Any]:
        """What tells a training of this configuration apart from others, for `inputs_hash`."""
        return {
            "config": config.model_dump(mode="json", exclude={"workers", "weights", "unlabelled"}),
            "unlabelled": self.unlabelled.fingerprint() if self.unlabelled else None,
            "train": self.train.fingerprint(),
            "val": self.val.fingerprint(),
            "teachers": [teacher.digest for teacher in self.teachers],
            "reading": self.reading.identity,
            # Each brings a batch of its own to every step.
            "processes": process_state().num_processes,
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What the trained model's bundle says about it, by the names of `Facts`."""
        return {
            "pictures": len(self.train),
            "unlabelled_pictures": len(self.unlabelled) if self.unlabelled else 0,
            "teachers": tuple(teacher.as_parent for teacher in self.teachers),
            "val_prevalence": prevalence(self.val.targets, self.val.ignore),
        }


def material_for(
    role: Role,
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    config: TeachConfig | DistillConfig,
    out: Path,
    teachers: Sequence[TeacherSource] = (),
    reading: Reading | None = None,
) -> Material:
    """Check that a model can be trained, chosen and written in `out`, and that its teachers can answer.

    Raises:
        InputError: labels differ, there are too few pictures or positives, something else is at `out`, an unlabelled
            picture is one of val, or stored answers lack a picture; see also `match_labels`.
    """
    val = val.in_order_of(train.labels, "the train split", "the val split")
    teachers, reading = tuple(teachers), reading or Reading()
    _require_trainable(role, train, val, config, out, teachers)
    unlabelled = _unlabelled_of(config, val)
    reading.matches(teachers, train.labels)
    for teacher in teachers:
        if isinstance(teacher, StoredAnswers):
            for asked in (train, *([unlabelled] if unlabelled else [])):
                teacher.rows(asked)
    return Material(train=train, val=val, unlabelled=unlabelled, teachers=teachers, reading=reading)


def _require_trainable(
    role: Role,
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    config: TeachConfig | DistillConfig,
    out: Path,
    teachers: tuple[TeacherSource, ...],
) -> None:
    train.labels.require_equal(val.labels, "the train split", "the val split")
    for teacher in teachers:
        if teacher.path.resolve() == out.resolve():
            raise InputError(f"{out}: is the teacher itself; name another folder for the student")
    require_replaceable(out, "torch", "fp32", role)
    if len(train) < 2:
        raise InputError(f"{train.root}, split {train.split!r}: one picture; expected at least two to train on")
    if config.mixup and train.grouped.member.any():
        raise InputError(
            f"{train.root}: has labels that exclude each other, and a mixed picture has both (mixup {config.mixup:g}): "
            "leave out mixup"
        )
    if (why := too_poor(val)) is not None:
        raise InputError(why)
    if (said := labels_left_out(val)) is not None:
        log.warning("%s: %s", val.split, said)


def _unlabelled_of(config: TeachConfig | DistillConfig, val: MultiLabelDataset) -> MultiLabelDataset | None:
    """The unlabelled pictures that a configuration names, none of which is in val."""
    if not isinstance(config, DistillConfig) or config.unlabelled is None:
        return None
    pictures = load_unlabelled(config.unlabelled, val.labels)
    pictures.check_pictures()
    refuse_leaks(pictures, [val])
    return pictures
