"""teach and distill: from a folder of labelled pictures to a teacher, and from a teacher to a student."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed

from edgepress.compress.checkpoint import load_model, write_model
from edgepress.compress.config import TERMS, DistillConfig, TeachConfig
from edgepress.compress.foreign import OnnxTeacher, require_taught_by_logits
from edgepress.compress.gather import process_state, require_same
from edgepress.compress.models import MultiLabelModel, make_model, pretrained_cfg
from edgepress.compress.tasks import DistillTask, Task, TeachTask
from edgepress.compress.teacher import AnyTeacher, CachedTeacher, Ensemble, LiveTeacher, Teacher
from edgepress.compress.training import Fit, augmentation_of, evaluate, fit, make_accelerator, memory_told, workers_of
from edgepress.multilabel.bundle import Bundle, Role, file_sha256, inputs_hash, require_replaceable, up_to_date
from edgepress.multilabel.datasets import MultiLabelDataset, refuse_leaks
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.inspection import labels_left_out, too_poor
from edgepress.multilabel.metrics import prevalence

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
    teacher: Bundle | None,
    config: DistillConfig,
    out: Path,
    cache: Path | None = None,
    ensemble: Sequence[Bundle] = (),
) -> Bundle:
    """Distil a student from a teacher and save it as a bundle of kind torch in `out`.

    Args:
        teacher: None for a student that learns alone, whose pictures are then augmented at its own size.
        cache: a folder for the teacher's outputs, for several students that see the same pictures.
        ensemble: further teachers, which answer together with the first.

    Raises:
        InputError: the settings need a teacher and there is none, they ask an ONNX teacher for more than logits, or its
            labels differ from the data set's; see also `fit`, `make_model`, `Ensemble`.
    """
    if teacher is None:
        require_no_teacher(config)
        return _train("student", train, val, config, out, (), cache)
    for graph in (one for one in (teacher, *ensemble) if one.manifest.kind == "onnx"):
        require_taught_by_logits(config, graph)
    return _train("student", train, val, config, out, (teacher, *ensemble), cache)


def _train(
    role: Role,
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    config: TeachConfig | DistillConfig,
    out: Path,
    teachers: tuple[Bundle, ...],
    cache: Path | None = None,
) -> Bundle:
    require_trainable(role, train, val, out, teachers)
    unlabelled = unlabelled_of(config, val)
    inputs = inputs_hash(
        {
            "role": role,
            "config": config.model_dump(mode="json", exclude={"workers", "weights", "unlabelled"}),
            "unlabelled": unlabelled.fingerprint() if unlabelled else None,
            "train": train.fingerprint(),
            "val": val.fingerprint(),
            "teachers": [teacher.digest for teacher in teachers],
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
    facts: dict[str, object] = {
        "role": role,
        "weights": source,
        "pictures": len(train),
        "unlabelled_pictures": len(unlabelled) if unlabelled else 0,
        "teachers": [teacher.as_parent.model_dump() for teacher in teachers],
        "val_prevalence": prevalence(val.targets, val.ignore),
    }
    make_folder(work)
    with memory_told(config, accelerator.device):
        task: Task
        views: dict[str, Any] = {}
        if isinstance(config, TeachConfig):
            task = TeachTask(config, train)
        elif not teachers:
            task = DistillTask(config, None, model, train)
        else:
            task, views, known = lesson_of(config, teachers, model, train, val, unlabelled, cache, accelerator)
            facts |= {"teacher_val_mAP": known, "inherited": views.pop("inherited")}
        result = fit(model, task, train, val, config, work, inputs=inputs, accelerator=accelerator, **views)
    facts |= {"val_mAP": result.val_mAP, "best_epoch": result.best_epoch + 1, "history": result.history}
    if accelerator.is_main_process:
        write_model(
            model,
            out,
            inputs=inputs,
            facts={**facts, "training": config.model_dump(mode="json")},
            parent=teachers[0].as_parent if teachers else None,
            tensorboard=work / "tensorboard",
        )
        shutil.rmtree(work)
        _log_result(role, result, facts)
    accelerator.wait_for_everyone()
    return Bundle.open(out)


def work_of(out: Path) -> Path:
    """The folder of a training's state, next to the bundle that it makes."""
    return out.parent / f".{out.name}.training"


def finished(out: Path, inputs: str) -> Bundle | None:
    """Return the bundle in `out` if it was made from the same inputs; remove the state that a killed training left."""
    bundle = up_to_date(out, inputs)
    if (
        bundle is not None and process_state().is_main_process and work_of(out).is_dir()
    ):  # it was killed after the bundle was finished
        shutil.rmtree(work_of(out))
    return bundle


def require_trainable(
    role: Role, train: MultiLabelDataset, val: MultiLabelDataset, out: Path, teachers: tuple[Bundle, ...]
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
    for teacher in teachers:
        teacher.labels.require_equal(train.labels, f"the teacher {teacher.path}", f"the data set {train.root}")


def lesson_of(
    config: DistillConfig,
    teachers: tuple[Bundle, ...],
    student: MultiLabelModel,
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    unlabelled: MultiLabelDataset | None,
    cache: Path | None,
    accelerator: Accelerator,
) -> tuple[DistillTask, dict[str, Any], float]:
    """What a student is taught, what `fit` must provide for that, and the teacher's own val mAP."""
    models = [load_teacher(teacher) for teacher in teachers]
    model: AnyTeacher = models[0]
    if len(models) > 1 or config.teacher_mirrored:
        model = Ensemble(models, config.teacher_mirrored)
    model.to(accelerator.device)
    if model.preprocess.resize != student.preprocess.resize:
        raise InputError(
            f"resize is {model.preprocess.resize} for the teacher and {student.preprocess.resize} for the student: "
            f"both must see the same part of a picture; set them alike"
        )
    inherited: list[str] = []
    if config.inherit_head == "auto":
        first = models[0]
        assert isinstance(first, MultiLabelModel)
        inherited = inherit_head(student, first)
    if config.id and len(train.labels) < 3:
        log.warning(
            "id compares the labels of a picture and needs three: with %d it teaches nothing", len(train.labels)
        )
    known = evaluate(model, val, config, accelerator)
    log.info("teacher %s: val mAP %.2f", ", ".join(str(teacher.path) for teacher in teachers), 100 * known)
    # Pictures are augmented at the larger size with or without a teacher, so methods differ in nothing else.
    size = max(model.preprocess.size, student.preprocess.size)
    views: dict[str, Any] = {"augment_size": size, "inherited": inherited}
    views |= {"unlabelled": unlabelled, "unlabelled_share": config.unlabelled_share}
    listening: Teacher | None = None
    if config.taught and (cache is None or config.looks_inside):
        listening, views["teacher_preprocess"] = LiveTeacher(model), model.preprocess
    elif config.taught:
        assert cache is not None
        listening = CachedTeacher(
            model,
            train,
            augmentation_of(config),
            cache,
            identity=_identity(teachers, config),
            augment_size=size,
            batch_size=config.batch_size,
            workers=workers_of(config, accelerator.device),
            device=accelerator.device,
            unlabelled=unlabelled,
            sure=config.sure,
            mixed_precision=config.mixed_precision,
        )
    return DistillTask(config, listening, student, train), views, known


def load_teacher(bundle: Bundle) -> MultiLabelModel | OnnxTeacher:
    """Load the model of a teacher's bundle, of kind torch or onnx."""
    return OnnxTeacher(bundle) if bundle.manifest.kind == "onnx" else load_model(bundle.path)


def inherit_head(student: MultiLabelModel, teacher: MultiLabelModel) -> list[str]:
    """Copy the teacher's head into the student's and return the names of the copied tensors.

    After Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022 (arXiv 2203.14001), but
    trained further. Tensors of another shape stay as they are, such as the projection of the backbone's features if its
    width differs. If the head's kind or width differs, nothing is copied.
    """
    ours, theirs = student.config, teacher.config
    if ours.head != theirs.head or student.head.weight.shape != teacher.head.weight.shape:
        log.info(
            "the student's head starts random: it is %s, %d wide, and the teacher's %s, %d wide",
            *(ours.head, student.embedding_dim, theirs.head, teacher.embedding_dim),
        )
        return []
    own = student.head.state_dict()
    copied = {name: tensor for name, tensor in teacher.head.state_dict().items() if tensor.shape == own[name].shape}
    student.head.load_state_dict({**own, **copied})
    left = sorted(own.keys() - copied.keys())
    log.info("the student starts with the teacher's head%s", f", but for {', '.join(left)}" if left else "")
    return sorted(copied)


def _identity(teachers: tuple[Bundle, ...], config: DistillConfig) -> str:
    if len(teachers) == 1 and not config.teacher_mirrored:
        return teachers[0].digest
    return inputs_hash({"teachers": [teacher.digest for teacher in teachers], "mirrored": config.teacher_mirrored})


def unlabelled_of(config: TeachConfig | DistillConfig, val: MultiLabelDataset) -> MultiLabelDataset | None:
    """The unlabelled pictures that a configuration names, none of which is in val."""
    if not isinstance(config, DistillConfig) or config.unlabelled is None:
        return None
    pictures = load_unlabelled(config.unlabelled, val.labels)
    pictures.check_pictures()
    refuse_leaks(pictures, [val])
    return pictures


def _log_result(role: str, result: Fit, facts: dict) -> None:
    log.info(
        "%s done: val mAP %.2f at epoch %d (prevalence %.2f)",
        role,
        100 * result.val_mAP,
        result.best_epoch + 1,
        100 * facts["val_prevalence"],
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
