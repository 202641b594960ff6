"""How answers are read: as many maps as teachers, and a hash that follows what changes the answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepress.compress.config import TeacherOptions
from edgepress.compress.reading import Reading
from edgepress.compress.teacher_sources import GivenTeacher
from edgepress.multilabel.bundle import inputs_hash
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

OURS = LabelSpace(("dog", "cat"))


def given(*names: str) -> GivenTeacher:
    return GivenTeacher(Path("big"), "onnx", LabelSpace(names))


def reading_of(tmp_path: Path, text: str | None = None, **options) -> Reading:
    if text is not None:
        (tmp_path / "map.yaml").write_text(text)
        options["teacher_labels"] = str(tmp_path / "map.yaml")
    return Reading.of(TeacherOptions(teacher="big", **options), lambda *_: pytest.fail("nothing is fitted here"))


def test_each_teacher_is_matched_by_its_own_map(tmp_path):
    (tmp_path / "one.yaml").write_text("dog: hound")
    (tmp_path / "two.yaml").write_text("cat: tom")
    maps = (str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml"))
    reading = Reading.of(TeacherOptions(teacher=("a", "b"), teacher_labels=maps), lambda *_: None)
    first, second = reading.matches([given("hound", "Cat"), given("tom", "DOG")], OURS)
    assert (first.columns, second.columns) == (((0,), (1,)), ((1,), (0,)))
    with pytest.raises(InputError, match="teacher_labels: 2 maps of labels for 1 teachers; expected one for each"):
        Reading.of(TeacherOptions(teacher="a", teacher_labels=maps), lambda *_: None)


def test_without_a_map_names_alone_decide():
    assert Reading().matches([given("cat", "dog")], OURS)[0].columns == ((1,), (0,))
    with pytest.raises(InputError, match="the teacher big: none of its 1 labels"):
        Reading().matches([given("hound")], OURS)


def test_what_changes_the_answers_changes_the_hash(tmp_path):
    readings = [
        Reading(),
        reading_of(tmp_path),
        reading_of(tmp_path, teacher_weak="stop"),
        reading_of(tmp_path, teacher_calibration="platt"),
        reading_of(tmp_path, "dog: hound"),
        reading_of(tmp_path, "dog: [hound, pug]"),
        reading_of(tmp_path, "dog: {noisy-or: [hound, pug]}"),
    ]
    assert len({inputs_hash(reading.identity) for reading in readings}) == len(readings)
    again = reading_of(tmp_path, "dog:   'hound'  # the same")
    assert again.identity == readings[4].identity
