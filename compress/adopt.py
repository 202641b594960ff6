"""Brings finished teachers from elsewhere into a run's folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepress.compress.checkpoint import load_model, write_model
from edgepress.compress.gather import process_state
from edgepress.compress.timm_tagger import load_timm_tagger
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, up_to_date, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.reached import answer_split, compare_relatives, tell_reached, tell_relatives

log = logging.getLogger("edgepress")


def adopt_teachers(sources: Sequence[str], folder: Path, labels: LabelSpace) -> list[Bundle]:
    """Bring finished teachers into a run's folder, as `teacher`, `teacher-2`, `teacher-3` and so on.

    Raises:
        InputError: one of them is where another is to be placed; see also `adopt_teacher`.
    """
    places = [folder / ("teacher" if number == 1 else f"teacher-{number}") for number in range(1, len(sources) + 1)]
    for number, source in enumerate(sources):
        for place in places:
            if place != places[number] and place.resolve() == Path(source).resolve():
                raise InputError(
                    f"{source}: stands where the run puts {sources[places.index(place)]}; give this folder's own "
                    f"teachers in their order, or name another folder for the run"
                )
    return [adopt_teacher(Path(source), place, labels) for source, place in zip(sources, places, strict=True)]


def adopt_teacher(source: Path, out: Path, labels: LabelSpace) -> Bundle:
    """Bring a finished teacher into a run's folder: a torch bundle as it is, or a .safetensors file of `save_model`.

    Raises:
        InputError: it is neither, or its labels are not `labels`, those of the data set.
    """
    if not source.exists():
        raise InputError(f"{source}: no such teacher; expected a bundle of kind torch, or a .safetensors file")
    if source.suffix == ".onnx":
        raise InputError(f"{source}: a graph; make a bundle of it (edgepress adopt) and give that to distill --teacher")
    theirs = Bundle.open(source, kind="torch").labels if source.is_dir() else load_model(source).labels
    theirs.require_equal(labels, f"the teacher {source}", "the data set")
    with process_state().main_process_first():  # the other processes find it finished
        if source.is_dir():
            _copy_bundle(Bundle.open(source, kind="torch"), out)
        else:
            _wrap_weights(source, out)
    return Bundle.open(out)


def adopt_checkpoint(
    file: Path, backbone: str, labels: LabelSpace, verified: MultiLabelDataset, out: Path, **pictures: Any
) -> Bundle:
    """Make a bundle of kind torch, a teacher, from a finished timm model's checkpoint; see `load_timm_tagger`.

    Args:
        labels: the names of the classifier's outputs, in their order, which include those of `verified`; the
            classifier keeps only the latter, in the data set's order.
        verified: the split on which its mAP is reported.
        pictures: size, resize, mean and std if they differ from timm's.

    Raises:
        InputError: as for `load_timm_tagger`; or labels of the data set are not among the model's.
    """
    if not set(verified.labels) <= set(labels):
        labels.require_equal(verified.labels, f"the model {file}", f"the data set {verified.root}")
    inputs = inputs_hash(
        {"adopted": file_sha256(file), "as": [backbone, labels.names, verified.labels.names, str(pictures)]}
    )
    if (made := up_to_date(out, inputs)) is not None:
        return made
    model = load_timm_tagger(file, backbone, labels, **pictures)
    model.keep([labels.index(name) for name in verified.labels], verified.labels)
    tell_reached(file.name, verified, answer_split(model.answer, model.preprocess, verified))
    tell_relatives(file.name, compare_relatives(model.answer, model.preprocess, verified, fractional=True))
    write_model(model, out, inputs=inputs, facts={"role": "teacher", "weights": f"adopted from {file.name}"})
    return Bundle.open(out)


def _copy_bundle(bundle: Bundle, out: Path) -> None:
    if bundle.path.resolve() == out.resolve():
        return
    there = up_to_date(out, bundle.manifest.inputs)
    if there is not None and there.manifest.files == bundle.manifest.files:
        return
    fields = bundle.manifest.model_dump(exclude={"files", "created"})
    fields["facts"]["role"] = "teacher"  # whatever it was trained as, possibly a student
    with write_bundle(out, **fields) as (folder, _):
        for name in bundle.manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, folder / name)


def _wrap_weights(file: Path, out: Path) -> None:
    model = load_model(file)
    inputs = inputs_hash({"teacher": file_sha256(file)})
    if up_to_date(out, inputs) is not None:
        return
    write_model(model, out, inputs=inputs, facts={"role": "teacher", "weights": str(file)})
