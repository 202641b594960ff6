"""Finished teachers as they are given: a bundle, weights of edgepress, or answers; opened, or brought into a run."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgepress.compress.checkpoint import describes_itself, load_model, write_model
from edgepress.compress.gather import process_state
from edgepress.compress.reading import TeacherSource
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, up_to_date, write_atomically, write_bundle
from edgepress.multilabel.datasets import DataOptions, list_splits
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.folder_kinds import holds_pictures
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.manifest import MANIFEST, Kind
from edgepress.multilabel.model_files import kind_of
from edgepress.multilabel.stored_answers import SUFFIXES, StoredAnswers

log = logging.getLogger("edgepress")
_KINDS = ("torch", "onnx")
_EXPECTED = (
    "a teacher: a bundle that edgepress teach or adopt made, weights that save_model wrote (.safetensors), or answers "
    f"({', '.join(SUFFIXES)})"
)


def open_teachers(sources: Sequence[str | Path], data: str | Path, out: Path) -> list[TeacherSource]:
    """Open finished teachers where they are.

    Args:
        sources: bundles of kind torch or onnx (fp32), .safetensors files of `save_model`, or stored answers.
        data: the data set's folder, for the command in a message.
        out: the student's bundle; weights get a bundle of their own beside it.

    Raises:
        InputError: as for `look_at_teacher`.
    """
    teachers: list[TeacherSource] = []
    for number, source in enumerate(map(Path, sources), 1):
        given = look_at_teacher(source, data)
        if given.answers is not None:
            teachers.append(given.answers)
        elif source.is_dir():
            teachers.append(Bundle.open(source))
        else:
            name = f"{out.name}-teacher" + (f"-{number}" if number > 1 else "")
            teachers.append(_wrap_weights(source, out.parent / name))
    return teachers


def bring_teachers(sources: Sequence[str | Path], data: str | Path, folder: Path) -> list[TeacherSource]:
    """Bring finished teachers into a run's folder, as `teacher`, `teacher-2`, `teacher-3` and so on.

    Args:
        sources, data: as for `open_teachers`.

    Raises:
        InputError: one of them is where another is to be placed; see also `bring_teacher`.
    """
    places = [folder / ("teacher" if number == 1 else f"teacher-{number}") for number in range(1, len(sources) + 1)]
    for number, source in enumerate(sources):
        for place in places:
            if place != places[number] and place.resolve() == Path(source).resolve():
                raise InputError(
                    f"{source}: is where the run puts {sources[places.index(place)]}; give this folder's own "
                    f"teachers in their order, or name another folder for the run"
                )
    return [bring_teacher(Path(source), data, place) for source, place in zip(sources, places, strict=True)]


def bring_teacher(source: Path, data: str | Path, out: Path) -> TeacherSource:
    """Bring a finished teacher into a run's folder: a bundle as it is, weights of edgepress in a bundle, or answers,
    which keep the suffix of their file.

    Raises:
        InputError: as for `look_at_teacher`; or something else is at `out`.
    """
    answers = look_at_teacher(source, data).answers
    if answers is not None:
        file = out.with_name(f"{out.name}{source.suffix}")
        with process_state().main_process_first():
            if not file.is_file() or file_sha256(file) != answers.digest:
                write_atomically(file, source.read_bytes())
        return StoredAnswers.read(file)
    if not source.is_dir():
        return _wrap_weights(source, out)
    with process_state().main_process_first():  # the other processes find it finished
        _copy_bundle(Bundle.open(source), out)
    return Bundle.open(out)


@dataclass(frozen=True)
class GivenTeacher:
    """A finished teacher as it is given, before anything is loaded or copied."""

    path: Path
    kind: Kind | Literal["answers"]
    labels: LabelSpace
    answers: StoredAnswers | None = None


def look_at_teacher(source: Path, data: str | Path, reader: DataOptions | None = None) -> GivenTeacher:
    """Find out what a path holds.

    Args:
        data, reader: the data set's folder and how it is read, for the commands in messages.

    Raises:
        InputError: there is nothing, a bundle that is no teacher, or something that `edgepress adopt` makes a bundle
            of; the message has its command.
    """
    options = reader or DataOptions()
    read_so = options.as_flags()
    if not source.exists():
        raise InputError(f"{source}: no such file or folder; expected {_EXPECTED}")
    if (source / MANIFEST).is_file():
        bundle = Bundle.open(source)
        if bundle.kind not in _KINDS:
            raise InputError(f"{source}: a bundle of kind {bundle.kind}; expected a teacher, torch or onnx")
        if bundle.manifest.precision != "fp32":
            raise InputError(f"{source}: a teacher in {bundle.manifest.precision}; expected the fp32 bundle")
        return GivenTeacher(source, bundle.kind, bundle.labels)
    if source.is_file() and source.suffix in SUFFIXES:
        answers = StoredAnswers.read(source)
        return GivenTeacher(source, "answers", answers.labels, answers)
    if source.suffix == ".safetensors" and describes_itself(source):
        return GivenTeacher(source, "torch", load_model(source).labels)
    if (source.parent / MANIFEST).is_file():
        raise InputError(f"{source}: a file of the bundle {source.parent}; give that folder")
    if source.is_dir() and any(source.glob(f"*/{MANIFEST}")):
        Bundle.open(source)  # its error lists the bundles in the folder
    try:
        kind = kind_of(source, _EXPECTED)
    except InputError as error:
        if source.is_dir() and holds_pictures(source):
            teach = shlex.join(["edgepress", "teach", str(data), *read_so, "--out", "TEACHER"])
            raise InputError(f"{error}; to train one: {teach}, and give its folder as the teacher") from None
        raise
    what = {"onnx": "an ONNX file", "checkpoint": "a checkpoint"}.get(kind, "a folder of another library")
    raise InputError(
        f"{source}: {what}, and a teacher is a bundle; make one and give its folder: "
        f"{_adopt(source, data, [*read_so, *_split_for_adopt(data, options)])}"
    )


def _split_for_adopt(data: str | Path, reader: DataOptions) -> list[str]:
    """The option that names a split for `adopt` to verify a model on, where none is named test."""
    try:
        names = list_splits(data, reader)
    except (InputError, OSError):
        return []  # told when the data set is read
    if not names or "test" in names:
        return []
    return ["--split", next((name for name in ("val", "valid", "validation", "dev") if name in names), names[-1])]


def _adopt(source: Path, data: str | Path, read_so: Sequence[str]) -> str:
    """The command that makes a bundle of a model from elsewhere; it asks for what the model does not say."""
    out = source.with_suffix("") if source.is_file() else source.with_name(f"{source.name}-teacher")
    command = shlex.join(["edgepress", "adopt", str(source), "--data", str(data), *read_so, "--out", str(out)])
    kind = kind_of(source)
    if kind == "onnx":
        return (
            f"{command} --labels FILE --mean R,G,B --std R,G,B (without --labels if the file names its outputs, and "
            "without --mean and --std if it takes uint8)"
        )
    return f"{command} --backbone NAME --labels FILE" if kind == "checkpoint" else command


def _copy_bundle(bundle: Bundle, out: Path) -> None:
    if bundle.path.resolve() == out.resolve():
        return
    there = up_to_date(out, bundle.manifest.inputs)
    if there is not None and there.manifest.files == bundle.manifest.files:
        return
    kept = {name: value for name, value in bundle.manifest if name not in ("files", "created")}
    # Whatever it was trained as, possibly a student.
    facts = bundle.manifest.facts.model_copy(update={"role": "teacher"})
    with write_bundle(out, **{**kept, "facts": facts}) as folder:
        for name in bundle.manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, folder / name)


def _wrap_weights(file: Path, out: Path) -> Bundle:
    with process_state().main_process_first():
        inputs = inputs_hash({"teacher": file_sha256(file)})
        if up_to_date(out, inputs) is None:
            write_model(load_model(file), out, inputs=inputs, facts=Facts(role="teacher", weights=str(file)))
    return Bundle.open(out)
