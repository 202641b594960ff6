"""teach and distill: from a folder of labelled pictures to a teacher, and from a teacher to a student."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from edgepress.compress.checkpoint import write_model
from edgepress.compress.config import TERMS, DistillConfig, TeachConfig
from edgepress.compress.gather import process_state, require_same
from edgepress.compress.lesson import lesson_of
from edgepress.compress.models import make_model, pretrained_cfg
from edgepress.compress.reading import Reading, TeacherSource
from edgepress.compress.tasks import DistillTask, Task, TeachTask
from edgepress.compress.teachable import require_teachable
from edgepress.compress.training import fit, make_accelerator, memory_told
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, require_replaceable, up_to_date
from edgepress.multilabel.datasets import MultiLabelDataset, refuse_leaks
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts, Role
from edgepress.multilabel.inspection import labels_left_out, too_poor
from edgepress.multilabel.metrics import prevalence
from edgepress.multilabel.stored_answers import StoredAnswers

log = logging.getLogger("edgepress")


def teach(train: MultiLabelDataset, val: MultiLabelDataset, config: TeachConfig, out: Path) -> Bundle:
    """Fine-tune a teacher and save it as a bundle of kind torch in `out`; a finished one is not made again.

    Raises:
        InputError: as for `fit` and `make_model`.
    """
    return _train("teacher", train, val, config, out, ())


def distill(
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    teacher: TeacherSource | None,
    config: DistillConfig,
    out: Path,
    cache: Path | None = None,
    ensemble: Sequence[TeacherSource] = (),
    reading: Reading | None = None,
    *,
    keep_embeddings: bool = False,
) -> Bundle:
    """Distil a student from a teacher and save it as a bundle of kind torch in `out`.

    Args:
        teacher: None for a student that learns alone, whose pictures are then augmented at its own size.
        cache: a folder for the teacher's answers, which are then computed once, for this student and others; by
            default beside the student, if `variations` repeats pictures, and else none.
        ensemble: further teachers, which answer together with the first.
        reading: how their answers are read; by default as they are, with labels matched by name.
        keep_embeddings: whether the kept answers have label-wise embeddings even if this student needs none.

    Raises:
        InputError: the settings need a teacher and there is none, they ask a teacher for more than it has, or none of
            its labels is the data set's; see also `fit`, `make_model`, `Ensemble`, `examine`.
    """
    if teacher is None:
        require_no_teacher(config)
        return _train("student", train, val, config, out, (), cache)
    teachers, reading = (teacher, *ensemble), reading or Reading()
    require_teachable(config, teachers, reading.features)
    if cache is None and config.variations is not None and config.variations < config.epochs:
        cache = answers_of(out)
    return _train("student", train, val, config, out, teachers, cache, reading, keep_embeddings)


def _train(
    role: Role,
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    config: TeachConfig | DistillConfig,
    out: Path,
    teachers: tuple[TeacherSource, ...],
    cache: Path | None = None,
    reading: Reading = Reading(),
    keep_embeddings: bool = False,
) -> Bundle:
    val = val.in_order_of(train.labels, "the train split", "the val split")
    require_trainable(role, train, val, out, teachers)
    unlabelled = unlabelled_of(config, val)
    require_answers(teachers, reading, train, unlabelled)
    inputs = inputs_hash(
        {
            "role": role,
            "config": config.model_dump(mode="json", exclude={"workers", "weights", "unlabelled"}),
            "unlabelled": unlabelled.fingerprint() if unlabelled else None,
            "train": train.fingerprint(),
            "val": val.fingerprint(),
            "teachers": [teacher.digest for teacher in teachers],
            "reading": reading.identity,
            # Each brings a batch of its own to every step.
            "processes": process_state().num_processes,
            "weights": _weights_identity(config),
        }
    )
    require_same(inputs, train.root)
    work = work_of(out)
    kept = finished(out, inputs)
    if kept is not None:
        return kept
    set_seed(config.seed)
    accelerator = make_accelerator(config)
    model, source = make_model(config, train.labels)
    log.info(
        "%s %s (%s, %d px, %.1f M parameters, weights: %s) on %d pictures%s, %s",
        role,
        config.backbone,
        config.head,
        config.size,
        sum(p.numel() for p in model.parameters()) / 1e6,
        source,
        len(train),
        f" and {len(unlabelled)} unlabelled ones" if unlabelled else "",
        accelerator.device,
    )
    facts: dict[str, Any] = {}
    make_folder(work)
    with memory_told(config, accelerator.device):
        task: Task
        views: dict[str, Any] = {}
        if isinstance(config, TeachConfig):
            task = TeachTask(config, train)
        elif not teachers:
            task = DistillTask(config, None, model, train)
        else:
            lesson = lesson_of(
                *(config, teachers, reading, model, train, val, unlabelled, cache, accelerator),
                keep_embeddings=keep_embeddings,
            )
            task, views = lesson.task, lesson.views
            facts = {**lesson.facts, "inherited": lesson.inherited}
        result = fit(model, task, train, val, config, work, inputs=inputs, accelerator=accelerator, **views)
    told = Facts(
        role=role,
        weights=source,
        pictures=len(train),
        unlabelled_pictures=len(unlabelled) if unlabelled else 0,
        teachers=tuple(teacher.as_parent for teacher in teachers),
        val_prevalence=prevalence(val.targets, val.ignore),
        **facts,
        val_mAP=result.val_mAP,
        best_epoch=result.best_epoch + 1,
        history=result.history,
        training=config.model_dump(mode="json"),
    )
    if accelerator.is_main_process:
        write_model(
            model,
            out,
            inputs=inputs,
            facts=told,
            parent=teachers[0].as_parent if teachers and isinstance(teachers[0], Bundle) else None,
            tensorboard=work / "tensorboard",
        )
        shutil.rmtree(work)
        _log_result(told)
    accelerator.wait_for_everyone()
    return Bundle.open(out)


def work_of(out: Path) -> Path:
    """The folder of a training's state, next to the bundle that it makes."""
    return out.parent / f".{out.name}.training"


def answers_of(out: Path) -> Path:
    """The folder, next to a student's bundle, of the teacher's answers that were kept for it."""
    return out.parent / f".{out.name}.answers"


def finished(out: Path, inputs: str) -> Bundle | None:
    """Return the bundle in `out` if it was made from the same inputs; remove the state that a killed training left."""
    bundle = up_to_date(out, inputs)
    if (
        bundle is not None and process_state().is_main_process and work_of(out).is_dir()
    ):  # it was killed after the bundle was finished
        shutil.rmtree(work_of(out))
    return bundle


def require_trainable(
    role: Role, train: MultiLabelDataset, val: MultiLabelDataset, out: Path, teachers: tuple[TeacherSource, ...]
) -> None:
    """Raise an error before training if the result could not be chosen or written.

    Raises:
        InputError: labels differ, there are too few pictures or positives, or something else is at `out`.
    """
    train.labels.require_equal(val.labels, "the train split", "the val split")
    for teacher in teachers:
        if teacher.path.resolve() == out.resolve():
            raise InputError(f"{out}: is the teacher itself; name another folder for the student")
    require_replaceable(out, "torch", "fp32", role)
    if len(train) < 2:
        raise InputError(f"{train.root}, split {train.split!r}: one picture; expected at least two to train on")
    if (why := too_poor(val)) is not None:
        raise InputError(why)
    if (said := labels_left_out(val)) is not None:
        log.warning("%s: %s", val.split, said)


def require_answers(
    teachers: tuple[TeacherSource, ...],
    reading: Reading,
    train: MultiLabelDataset,
    unlabelled: MultiLabelDataset | None,
) -> None:
    """Raise an error before training unless the teachers have answers for what will be asked.

    Raises:
        InputError: as for `match_labels`, or stored answers lack a picture.
    """
    reading.matches(teachers, train.labels)
    for teacher in teachers:
        if isinstance(teacher, StoredAnswers):
            for asked in (train, *([unlabelled] if unlabelled else [])):
                teacher.rows(asked)


def unlabelled_of(config: TeachConfig | DistillConfig, val: MultiLabelDataset) -> MultiLabelDataset | None:
    """The unlabelled pictures that a configuration names, none of which is in val."""
    if not isinstance(config, DistillConfig) or config.unlabelled is None:
        return None
    pictures = load_unlabelled(config.unlabelled, val.labels)
    pictures.check_pictures()
    refuse_leaks(pictures, [val])
    return pictures


def _log_result(facts: Facts) -> None:
    assert facts.val_mAP is not None
    assert facts.val_prevalence is not None
    log.info(
        "%s done: val mAP %.2f at epoch %d (prevalence %.2f)",
        facts.role,
        100 * facts.val_mAP,
        facts.best_epoch,
        100 * facts.val_prevalence,
    )


def _weights_identity(config: TeachConfig | DistillConfig) -> str:
    """Identify a weights file by its content, not by its name."""
    path = Path(config.weights)
    return file_sha256(path) if path.is_file() else config.weights


def require_no_teacher(config: DistillConfig) -> None:
    """Raise an error if the settings need a teacher and none is given.

    Raises:
        InputError: there is no teacher; the message names the first setting that needs one.
    """
    asking = [name for name in TERMS if getattr(config, name)]
    asking += ["inherit_head"] if config.inherit_head == "auto" else []
    asking += ["teacher_mirrored"] if config.teacher_mirrored else []
    if asking:
        value = getattr(config, asking[0])
        shown = f"{value:g}" if isinstance(value, float) else value
        raise InputError(
            f"no teacher is given, but {asking[0]} is {shown}: give one (--teacher), or leave it out (--preset alone)"
        )


def require_makeable(config: TeachConfig | DistillConfig) -> None:
    """Raise an error before training if a backbone or a weights file is not available.

    Raises:
        InputError: the backbone is unknown, or there is no such weights file.
    """
    pretrained_cfg(config.backbone)
    if config.weights not in ("auto", "none") and not Path(config.weights).is_file():
        raise InputError(f"{config.weights}: no such file; expected weights as .safetensors, auto or none")
