"""Finished teachers from elsewhere, brought into a run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from edgepress.compress.checkpoint import load_model, write_model
from edgepress.compress.gather import process_state
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, is_current, write_bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace


def adopt_teachers(sources: Sequence[str], folder: Path, labels: LabelSpace) -> list[Bundle]:
    """Bring finished teachers into a run's folder, as `teacher`, `teacher-2`, `teacher-3` and so on.

    Raises:
        InputError: one of them stands where another is to be put; see also `adopt_teacher`.
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
    """Bring a finished teacher into a run's folder: a torch bundle as it is, or one of our .safetensors files.

    Raises:
        InputError: neither of these, or its labels are not `labels`, those of the data set.
    """
    if not source.exists():
        raise InputError(f"{source}: no such teacher; expected a bundle of kind torch, or a .safetensors file")
    theirs = Bundle.open(source, kind="torch").labels if source.is_dir() else load_model(source).labels
    theirs.require_equal(labels, f"the teacher {source}", "the data set")
    with process_state().main_process_first():  # the others find it finished
        if source.is_dir():
            _copy_bundle(Bundle.open(source, kind="torch"), out)
        else:
            _wrap_weights(source, out)
    return Bundle.open(out)


def _copy_bundle(bundle: Bundle, out: Path) -> None:
    if bundle.path.resolve() == out.resolve():
        return
    if is_current(out, bundle.manifest.inputs) and Bundle.open(out).manifest.files == bundle.manifest.files:
        return
    fields = bundle.manifest.model_dump(exclude={"files", "created"})
    fields["facts"]["role"] = "teacher"  # whatever it was trained as, a student perhaps
    with write_bundle(out, **fields) as (folder, _):
        for name in bundle.manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, folder / name)


def _wrap_weights(file: Path, out: Path) -> None:
    model = load_model(file)
    inputs = inputs_hash({"teacher": file_sha256(file)})
    if is_current(out, inputs):
        return
    write_model(model, out, inputs=inputs, facts={"role": "teacher", "weights": str(file)})
