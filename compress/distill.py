"""teach and distill: from a folder of labelled pictures to a teacher, and from a teacher to a student."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed

from edgepress.compress.checkpoint import write_model
from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.compress.gather import process_state, require_same
from edgepress.compress.keep import Keep
from edgepress.compress.lesson import Lesson, lesson_of
from edgepress.compress.material import Material, material_for
from edgepress.compress.methods import TERMS
from edgepress.compress.models import MultiLabelModel, make_model, pretrained_cfg, require_queries, require_weights
from edgepress.compress.reading import Reading, TeacherSource
from edgepress.compress.tasks import TeachTask
from edgepress.compress.teachable import require_teachable, told_terms
from edgepress.compress.training import fit, make_accelerator, memory_told
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, up_to_date
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.facts import Facts, Parent, Role
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.manifest import MANIFEST
from edgepress.multilabel.plural import plural

log = logging.getLogger("edgepress")


def teach(train: MultiLabelDataset, val: MultiLabelDataset, config: TeachConfig, out: Path) -> Bundle:
    """Fine-tune a teacher and save it as a bundle of kind torch in `out`; a finished one is not made again.

    Raises:
        InputError: as for `fit` and `make_model`.
    """
    return _train("teacher", material_for("teacher", train, val, config, out), config, out)


def distill(
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    teacher: TeacherSource | None,
    config: DistillConfig,
    out: Path,
    cache: Path | None = None,
    ensemble: Sequence[TeacherSource] = (),
    reading: Reading | None = None,
    keep: Keep = Keep(),
) -> Bundle:
    """Distil a student from a teacher and save it as a bundle of kind torch in `out`.

    Args:
        teacher: None for a student that learns alone, whose pictures are then augmented at its own size.
        cache: a folder for the teacher's answers, which are then computed once, for this student and others; by
            default beside the student, if `variations` repeats pictures, and else none.
        ensemble: further teachers, which answer together with the first.
        reading: how their answers are read; by default as they are, with labels matched by name.
        keep: what is kept of the answers even if this student does not need it.

    Raises:
        InputError: the settings need a teacher and there is none, they ask a teacher for more than it has, or none of
            its labels is the data set's; see also `fit`, `make_model`, `Ensemble`, `examine`.
    """
    if teacher is None:
        require_no_teacher(config)
        return _train("student", material_for("student", train, val, config, out), config, out, cache)
    teachers, reading = (teacher, *ensemble), reading or Reading()
    require_teachable(config, teachers, reading.features)
    if cache is None and config.variations is not None and config.variations < config.epochs_trained:
        cache = answers_of(out)
    material = material_for("student", train, val, config, out, teachers, reading)
    return _train("student", material, config, out, cache, keep)


def _train(
    role: Role,
    material: Material,
    config: TeachConfig | DistillConfig,
    out: Path,
    cache: Path | None = None,
    keep: Keep = Keep(),
) -> Bundle:
    train = material.train
    inputs = inputs_of(role, material, config)
    require_same(inputs, train.root)
    if (kept := finished(out, inputs, config)) is not None:
        return kept
    set_seed(config.seed)
    accelerator = make_accelerator(config)
    model, source = make_model(config, train.labels)
    model.label_wise = isinstance(config, DistillConfig) and config.compares_embeddings
    log.info(
        "%s %s (%s, %d px, %.1f M parameters, weights: %s) on %s%s, %s",
        role,
        config.backbone,
        config.head,
        config.size,
        sum(p.numel() for p in model.parameters()) / 1e6,
        source,
        plural(len(train), "picture"),
        f" and {plural(len(material.unlabelled), 'unlabelled one')}" if material.unlabelled else "",
        accelerator.device,
    )
    if isinstance(config, DistillConfig):
        log.info("%s", told_terms(config))
    work = work_of(out)
    make_folder(work)
    with memory_told(config, accelerator.device):
        if isinstance(config, TeachConfig):
            lesson = Lesson(task=TeachTask(config, train))
        else:
            lesson = lesson_of(config, material, model, cache, accelerator, keep)
        given = {"inputs": inputs, "accelerator": accelerator, **lesson.views}
        result = fit(model, lesson.task, train, material.val, config, work, **given)
    facts = Facts(
        role=role,
        weights=source,
        **material.facts,
        **lesson.facts,
        val_mAP=result.val_mAP,
        **result.facts,
        training=config.model_dump(mode="json"),
    )
    first = material.teachers[0] if material.teachers else None
    parent = first.as_parent if isinstance(first, Bundle) else None
    made = saved(model, out, accelerator, inputs=inputs, facts=facts, parent=parent, groups=train.groups)
    if accelerator.is_main_process:
        _log_result(facts)
    return made


def inputs_of(role: Role, material: Material, config: TeachConfig | DistillConfig) -> str:
    """What tells a training apart from every other: sha256 of its settings, pictures, labels and teachers."""
    return inputs_hash({"role": role, **material.identity(config), "weights": _weights_identity(config)})


def saved(
    model: MultiLabelModel,
    out: Path,
    accelerator: Accelerator,
    *,
    inputs: str,
    facts: Facts,
    parent: Parent | None,
    groups: LabelGroups,
) -> Bundle:
    """Write a trained model as a bundle of kind torch, in the first process alone, and remove the training's state."""
    if accelerator.is_main_process:
        work = work_of(out)
        events = work / "tensorboard"
        write_model(model, out, inputs=inputs, facts=facts, parent=parent, tensorboard=events, groups=groups)
        shutil.rmtree(work)
    accelerator.wait_for_everyone()
    return Bundle.open(out)


def work_of(out: Path) -> Path:
    """The folder of a training's state, next to the bundle that it makes."""
    return out.parent / f".{out.name}.training"


def answers_of(out: Path) -> Path:
    """The folder, next to a student's bundle, of the teacher's answers that were kept for it."""
    return out.parent / f".{out.name}.answers"


def finished(out: Path, inputs: str, config: TeachConfig | DistillConfig) -> Bundle | None:
    """Return the bundle in `out` if it was made from the same inputs; remove the state that a killed training left.

    Where the training will replace a bundle of other settings, they are told before it begins.
    """
    bundle = up_to_date(out, inputs)
    if bundle is None and (told := _other_settings(out, config)):
        log.info("%s: other settings: %s", out, told)
    if (
        bundle is not None and process_state().is_main_process and work_of(out).is_dir()
    ):  # it was killed after the bundle was finished
        shutil.rmtree(work_of(out))
    return bundle


def _other_settings(out: Path, config: TeachConfig | DistillConfig) -> str:
    """In what a training differs from the one whose bundle stands in its place; empty where no setting tells."""
    before = _training_of(out) or {}
    now = config.model_dump(mode="json")
    return ", ".join(f"{name} {now[name]} (was {value})" for name, value in before.items() if now.get(name) != value)


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


def require_makeable(config: TeachConfig | DistillConfig, labels: LabelSpace) -> None:
    """Raise an error before training if a model for these labels cannot be made.

    Raises:
        InputError: there are more query groups than labels; see also `require_obtainable`.
    """
    require_queries(config, labels)
    require_obtainable(config)


def require_obtainable(config: TeachConfig | DistillConfig) -> None:
    """Raise an error, before a data set is read, if there is no such backbone or no such file of weights.

    Raises:
        InputError: there is not; near names are suggested.
    """
    pretrained_cfg(config.backbone)
    words = ("auto", "none")
    if config.weights not in words and not Path(config.weights).is_file():
        meant = did_you_mean(config.weights, words)
        raise InputError(f"{config.weights}: no such file; expected weights as .safetensors, auto or none{meant}")


def require_pretrained(config: TeachConfig | DistillConfig, made: Iterable[Path]) -> None:
    """Raise an error, before anything takes time, if the weights to begin with cannot be had or do not fit.

    Args:
        made: places of bundles. Where one of them began with these weights, nothing is asked: it may be kept, and then
            they are not needed again.

    Raises:
        InputError: as for `make_model`.
    """
    began = config.backbone, config.weights
    if config.weights != "none" and not any(_began_of(place) == began for place in made):
        require_weights(config)


def _began_of(place: Path) -> tuple[object, object] | None:
    training = _training_of(place) or {}
    return (training["backbone"], training["weights"]) if training.keys() >= {"backbone", "weights"} else None


def _training_of(place: Path) -> dict[str, Any] | None:
    """The settings that the bundle in a place was trained with; None where no bundle tells any."""
    if not (place / MANIFEST).is_file():
        return None
    try:
        return Bundle.open(place).manifest.facts.training
    except InputError:
        return None  # damaged, which `up_to_date` tells
