"""The lesson: what a student is taught by finished teachers, examined first, live or from answers that are kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate import Accelerator

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig
from edgepress.compress.examination import Examined, examine
from edgepress.compress.foreign import OnnxTeacher
from edgepress.compress.inside_store import with_inside
from edgepress.compress.keep import Keep
from edgepress.compress.kept import AnswerStore, KeptTeacher
from edgepress.compress.mapped import MappedTeacher
from edgepress.compress.material import Material
from edgepress.compress.methods import ON_EMBEDDINGS
from edgepress.compress.models import MultiLabelModel, channels_last
from edgepress.compress.reading import Reading, TeacherSource
from edgepress.compress.stored import StoredTeacher, answers_for
from edgepress.compress.tasks import DistillTask, Task
from edgepress.compress.teacher import AnyTeacher, Ensemble, LiveTeacher, Teacher, known_of, map_labels, single_of
from edgepress.compress.training import augmentation_of, predict_logits, workers_of
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_map import LabelMatch
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.stored_answers import StoredAnswers

log = logging.getLogger("edgepress")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a model is taught."""

    task: Task
    views: dict[str, Any] = field(default_factory=dict)
    """What `fit` must provide for the task, by the names of its arguments."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the model's bundle says about its teachers, by the names of `Facts`."""


class _Heard(NamedTuple):
    """The teachers as the student hears them."""

    examined: Examined
    teacher: Teacher | None
    """Who answers in every step; None where no term asks."""
    views: dict[str, Any]
    """As in `Lesson`."""
    inherited: tuple[str, ...] = ()
    """Names of the head's tensors that came from the teacher."""


def lesson_of(
    config: DistillConfig,
    material: Material,
    student: MultiLabelModel,
    cache: Path | None,
    accelerator: Accelerator,
    keep: Keep = Keep(),
) -> Lesson:
    """Open the teachers, examine them on val, and make the student's task; without teachers it learns alone.

    Args:
        cache: a folder in which the teacher's answers are kept; None to ask it in every step.
        keep: what other students will need.

    Raises:
        InputError: the teachers see another part of a picture than the student, know no label, or have no answer for a
            picture; see also `examine` and `Ensemble`.
    """
    train, teachers = material.train, material.teachers
    if not teachers:
        return Lesson(task=DistillTask(config, None, student, train))
    if config.id and len(train.labels) < 3:
        log.warning(
            "id compares the labels of a picture and needs three: with %d it teaches nothing", len(train.labels)
        )
    matches = material.reading.matches(teachers, train.labels)
    if isinstance(teachers[0], StoredAnswers):
        heard = _stored_answers(config, material, teachers[0], matches[0])
    else:
        keep |= Keep.for_students([config])
        heard = _living_teachers(config, material, matches, student, cache, accelerator, keep)
    examined = heard.examined
    asked = config.terms
    if asked and not examined.taught.any():
        raise InputError(
            f"{_whose(teachers)}: it knows no label of {material.val.split} better than chance, so {asked[0]} would "
            f"teach nothing; look at its labels and its preprocessing, or set teacher_weak to keep"
        )
    return Lesson(
        task=DistillTask(config, heard.teacher, student, train, examined),
        views={"unlabelled": material.unlabelled, "unlabelled_share": config.unlabelled_share, **heard.views},
        facts={
            "teacher_val_mAP": examined.val_mAP,
            "teacher_calibration": examined.calibrator.method if examined.calibrator is not None else "none",
            "untaught": tuple(train.labels.names[column] for column in np.flatnonzero(~examined.taught)),
            "inherited": heard.inherited,
        },
    )


def _stored_answers(config: DistillConfig, material: Material, answers: StoredAnswers, match: LabelMatch) -> _Heard:
    """A teacher that cannot run here, whose answers are in a file."""
    if config.refined and not answers.has(material.val):
        raise InputError(
            f"{answers.path}: no answers for the pictures of {material.val.split!r}; refined needs them for the "
            "teacher's precision: set refined to 0 and mld above 0"
        )
    examined = _examined_answers(answers, match, material.val, material.reading, config.sure)
    if not config.taught:
        return _Heard(examined, None, {})
    train, unlabelled = material.train, material.unlabelled
    asked = train if unlabelled is None else train.followed_by(unlabelled)
    return _Heard(examined, StoredTeacher(answers, match, asked), {})


def _living_teachers(
    config: DistillConfig,
    material: Material,
    matches: tuple[LabelMatch, ...],
    student: MultiLabelModel,
    cache: Path | None,
    accelerator: Accelerator,
    keep: Keep,
) -> _Heard:
    """Teachers that run here: asked in every step, or once where their answers are kept in a cache."""
    reading, train, val = material.reading, material.train, material.val
    bundles = tuple(teacher for teacher in material.teachers if isinstance(teacher, Bundle))
    model = _joined(bundles, matches, reading, config, train.labels).to(accelerator.device)
    channels_last(model, accelerator.device)
    _require_fitting(model, student, config, bundles)
    inherits = config.inherit_head == "auto"
    inherited = tuple(inherit_head(student, load_model(bundles[0].path), matches[0])) if inherits else ()
    store = None
    if cache is not None:
        store = AnswerStore(
            model=model.eval().requires_grad_(False),
            folder=cache,
            identity=_identity(bundles, matches, reading, config),
            labels=len(train.labels),
            batch_size=config.batch_size,
            workers=workers_of(config, accelerator.device),
            device=accelerator.device,
            mixed_precision=config.mixed_precision,
            map_side=map_labels(model) if keep.label_maps else 0,
        )
    needed = keep.embeddings or config.compares_embeddings
    for one in model.modules():
        if isinstance(one, MultiLabelModel):
            one.label_wise = needed
    known, single = (mask.cpu().numpy() for mask in (known_of(model), single_of(model)))
    logits = predict_logits(model, val, config, accelerator) if store is None else store.plain(val)
    examined = examine(logits, val, known, single, reading, _whose(material.teachers), config.sure)
    # Pictures are augmented at the larger size with or without a teacher, so methods differ in nothing else.
    size = max(model.preprocess.size, student.preprocess.size)
    if not config.taught:
        return _Heard(examined, None, {"augment_size": size}, inherited)
    if store is not None and (config.looks_inside or keep.inside):
        pictures = len(train) + (0 if material.unlabelled is None else len(material.unlabelled))
        inside = with_inside(store, config, keep, pictures, student, size, embeddings=needed)
        store = inside if config.looks_inside else inside or store
    if store is None:
        seen = {"augment_size": size, "teacher_preprocess": model.preprocess}
        return _Heard(examined, LiveTeacher(model, maps=config.compares_maps), seen, inherited)
    kept = KeptTeacher(
        store,
        train,
        augmentation_of(config, student.preprocess.interpolation),
        size,
        unlabelled=material.unlabelled,
        embeddings=needed,
        sure=config.sure,
        examined=examined,
    )
    return _Heard(examined, kept, {"augment_size": size}, inherited)


def _require_fitting(
    model: AnyTeacher, student: MultiLabelModel, config: DistillConfig, teachers: tuple[Bundle, ...]
) -> None:
    if model.preprocess.seen != student.preprocess.seen:
        raise InputError(
            f"resize is {model.preprocess.seen} for the teacher and {student.preprocess.seen} for the student: "
            f"both must see the same part of a picture; set resize and crop_fraction alike"
        )
    if config.compares_embeddings and not model.embedding_dim:
        raise InputError(f"{_whose(teachers)}: its labels share queries: {', '.join(ON_EMBEDDINGS)} need one per label")


def _whose(teachers: tuple[TeacherSource, ...]) -> str:
    return f"teacher {', '.join(str(teacher.path) for teacher in teachers)}"


def _joined(
    teachers: tuple[Bundle, ...],
    matches: tuple[LabelMatch, ...],
    reading: Reading,
    config: DistillConfig,
    labels: LabelSpace,
) -> AnyTeacher:
    """The teachers as one model that answers for the labels of the data set."""
    models: list[MultiLabelModel | OnnxTeacher | MappedTeacher] = []
    for teacher, match in zip(teachers, matches, strict=True):
        model = load_teacher(teacher, () if models else reading.features)
        models.append(model if match.same else MappedTeacher(model, match, labels))
    return models[0] if len(models) == 1 and not config.teacher_mirrored else Ensemble(models, config.teacher_mirrored)


def _examined_answers(
    answers: StoredAnswers, match: LabelMatch, val: MultiLabelDataset, reading: Reading, sure: float
) -> Examined:
    """Examine stored answers, which may be for the training pictures alone."""
    none = np.zeros(len(val.labels), bool)
    if answers.has(val):
        logits = answers_for(answers, match, val)
        return examine(logits, val, match.known, none, reading, f"teacher {answers.path}", sure)
    for needs, what in (
        (answers.scale == "scores", "scores need them to become probabilities"),
        (reading.calibration in ("temperature", "platt"), f"teacher_calibration {reading.calibration} needs them"),
        (reading.weak == "stop", "teacher_weak stop needs them"),
    ):
        if needs:
            raise InputError(f"{answers.path}: no answers for the pictures of {val.split!r}; {what}")
    log.info("teacher %s: no answers for the pictures of %s, so it is not examined", answers.path, val.split)
    return Examined(taught=match.known, inside=none)


def load_teacher(bundle: Bundle, features: Sequence[str] = ()) -> MultiLabelModel | OnnxTeacher:
    """Load the model of a teacher's bundle, of kind torch or onnx.

    Args:
        features: names of tensors in a graph; see `OnnxTeacher`.
    """
    return OnnxTeacher(bundle, features) if bundle.kind == "onnx" else load_model(bundle.path)


def inherit_head(student: MultiLabelModel, teacher: MultiLabelModel, match: LabelMatch | None = None) -> list[str]:
    """Copy the teacher's head into the student's and return the names of the copied tensors.

    After Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022 (arXiv 2203.14001), but
    trained further. Tensors of another shape stay as they are, such as the projection of the backbone's features if its
    width differs. If the head's kind or width differs, or a label of the student is not one of the teacher's, nothing
    is copied, and a line says so.

    Args:
        match: where the student's labels are among the teacher's; by default in the same places.
    """
    ours, theirs = student.config, teacher.config
    if shared := ours.query_groups or theirs.query_groups:
        log.info("the student's head starts with random weights: its labels share %d queries, or its teacher's", shared)
        return []
    if ours.head != theirs.head or student.embedding_dim != teacher.embedding_dim:
        log.info(
            "the student's head starts with random weights: it is %s, %d wide, and the teacher's %s, %d wide",
            *(ours.head, student.embedding_dim, theirs.head, teacher.embedding_dim),
        )
        return []
    own, given = student.head.state_dict(), teacher.head.state_dict()
    if match is not None and not match.same:
        if not match.single.all():
            name = student.labels.names[int(np.argmin(match.single))]
            log.info("the student's head starts with random weights: %r is not one label of the teacher's", name)
            return []
        columns = [column for (column,) in match.columns]
        given |= {name: given[name][columns] for name in _BY_LABEL & given.keys()}
    copied = {name: tensor for name, tensor in given.items() if tensor.shape == own[name].shape}
    student.head.load_state_dict({**own, **copied})
    left = sorted(own.keys() - copied.keys())
    log.info("the student starts with the teacher's head%s", f", but for {', '.join(left)}" if left else "")
    return sorted(copied)


_BY_LABEL = {"weight", "bias", "queries"}
"""A head's tensors that have a row per label."""


def _identity(
    teachers: tuple[Bundle, ...], matches: tuple[LabelMatch, ...], reading: Reading, config: DistillConfig
) -> str:
    """Tells apart teachers that answer otherwise."""
    if len(teachers) == 1 and not config.teacher_mirrored and matches[0].same and not reading.features:
        return teachers[0].digest
    taken = [None if match.same else [match.columns, match.combine] for match in matches]
    digests = [teacher.digest for teacher in teachers]
    made_by = {"mirrored": config.teacher_mirrored, "taken": taken, "features": reading.features}
    return inputs_hash({"teachers": digests, **made_by})
