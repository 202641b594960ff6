"""What a teacher can teach: which of a student's terms its bundle has the answers for."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import DEFAULT_TERMS, INSIDE, NO_DEFAULT, ON_EMBEDDINGS, ON_LOGITS, ON_MAPS, TERMS
from edgepress.compress.reading import Given
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError

log = logging.getLogger("edgepress")
DIST_INSTEAD = 1.0
"""Weight of DIST, the best of the terms on logits by val, for a student whose teacher cannot teach the default's."""


def with_terms_for(config: DistillConfig, teachers: Sequence[Given], features: Sequence[str] = ()) -> DistillConfig:
    """The settings without those of the default that a teacher cannot teach; DIST in their place if no term is left.

    What somebody asked for by name stays as it is, also where it is the same as the default: `require_teachable`
    refuses it.

    Args:
        features: the tensors in a graph that are named; see `OnnxTeacher`.
    """
    left, without = config, []
    while (lacked := _lacked(left, teachers, features)) is not None and lacked.setting in left.by_default:
        path, what = lacked.teacher.path, _WHAT[lacked.teacher.kind]
        without.append(lacked.setting)
        left = left.model_copy(update={lacked.setting: NO_DEFAULT[lacked.setting]})
    if not without:
        return config
    if left.terms:
        log.info(
            "%s, %s: %s without %s, by default: it cannot teach more",
            path,
            what,
            ", ".join(left.terms),
            " and ".join(without),
        )
        return left
    terms = " and ".join(name for name in without if name in TERMS)
    log.info("%s, %s: dist %g instead of %s, the default, which it cannot teach", path, what, DIST_INSTEAD, terms)
    return left.model_copy(update={"dist": DIST_INSTEAD})


def told_terms(config: DistillConfig) -> str:
    """What a student learns by: the loss on the labels, the teacher's terms, and whether they are the default or what
    is left of it.

    Example:
        >>> told_terms(DistillConfig())
        'it learns by bce 1 from the labels, and by review_kd 0.1 and simkd 4 from the teacher (the default)'
    """
    labels = f"by {config.task_loss} {config.task:g} from the labels"
    if not config.taught:
        return f"it learns {labels} alone, without a teacher's terms"
    terms = " and ".join(f"{name} {getattr(config, name):g}" for name in config.terms)
    whose = "" if config.preset is None else f" (preset {config.preset})"
    if config.preset is None and set(config.terms) <= set(config.by_default):
        without = [name for name in DEFAULT_TERMS if name not in config.terms]
        whose = f" (the default without {' and '.join(without)})" if without else " (the default)"
    if not config.task:
        return f"it learns from the teacher alone, by {terms}{whose}"
    return f"it learns {labels}, and by {terms} from the teacher{whose}"


def can_teach(config: DistillConfig, teachers: Sequence[Given], features: Sequence[str] = ()) -> bool:
    """Whether the teachers have what the settings ask for; see `require_teachable`."""
    try:
        require_teachable(config, teachers, features)
    except InputError:
        return False
    return True


def require_teachable(config: DistillConfig, teachers: Sequence[Given], features: Sequence[str] = ()) -> None:
    """Raise an error if the settings ask a teacher for what it does not have.

    Args:
        features: the tensors in the first teacher's graph that are named; see `OnnxTeacher`.

    Raises:
        InputError: there is such a setting; the message names the first, and what the teacher can teach.
    """
    if features and teachers and teachers[0].kind != "onnx":
        raise InputError(f"{teachers[0].path}: teacher_features names tensors of an ONNX graph, and it is none")
    for teacher in teachers:
        if teacher.kind == "answers" and (len(teachers) > 1 or config.teacher_mirrored):
            what = "beside other teachers" if len(teachers) > 1 else "on mirror images (teacher_mirrored)"
            raise InputError(f"{teacher.path}: stored answers are all there is, and give none {what}")
    lacked = _lacked(config, teachers, features)
    if lacked is not None:
        name, kind = lacked.setting, lacked.teacher.kind
        where = "feature maps" if name in INSIDE else "label-wise embeddings" if name in ON_EMBEDDINGS else None
        mend = f"name its {where} (teacher_features), or " if kind == "onnx" and where else ""
        raise InputError(
            f"{lacked.teacher.path}: {_WHAT[kind]} teaches by its logits, but {name} needs what is inside it: {mend}"
            f"set {name} to {'no' if name == 'inherit_head' else 0} and one of {', '.join(ON_LOGITS)} above 0, such as "
            f"dist {DIST_INSTEAD:g}"
        )


class _Lacked(NamedTuple):
    setting: str
    teacher: Given


def _lacked(config: DistillConfig, teachers: Sequence[Given], features: Sequence[str]) -> _Lacked | None:
    """The first setting that asks a teacher for what it lacks; terms inside of a teacher ask the first one alone."""
    asked = [name for name in config.terms if name not in ON_LOGITS]
    asked += ["inherit_head"] if config.inherit_head == "auto" else []
    for place, teacher in enumerate(teachers):
        has = _has(teacher, tuple(features) if place == 0 else ()) if asked and teacher.kind != "torch" else {*asked}
        for name in asked:
            if name not in has and (place == 0 or name in (*ON_EMBEDDINGS, *ON_MAPS)):
                return _Lacked(name, teacher)
    return None


def _has(teacher: Given, features: tuple[str, ...]) -> set[str]:
    """The settings beyond logits that a graph or a file of answers serves."""
    if teacher.kind != "onnx" or not features:
        return set()
    maps, embeddings = _named(teacher.path, features)
    return {*(INSIDE if maps else ()), *(ON_EMBEDDINGS if embeddings else ())}


@functools.cache
def _named(path: Path, features: tuple[str, ...]) -> tuple[bool, bool]:
    """Whether there are feature maps, and whether there are label-wise embeddings, among the named tensors."""
    from edgepress.compress.foreign import OnnxTeacher

    graph = OnnxTeacher(Bundle.open(path), features)
    return bool(graph.map_channels), bool(graph.embedding_dim)


_WHAT = {"onnx": "an ONNX graph", "answers": "a file of answers"}
"""What a teacher is that is no torch model."""
