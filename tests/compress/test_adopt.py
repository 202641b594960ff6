"""A finished teacher from elsewhere, brought into a run's folder."""

from __future__ import annotations

import shutil

import pytest
import torch

from edgepress.compress.adopt import adopt_teacher
from edgepress.compress.checkpoint import load_model
from edgepress.compress.distill import distill
from edgepress.multilabel.bundle import MANIFEST
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from tests.compress.lessons import STUDENT, content

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_teacher_is_adopted_from_a_bundle(teacher, tmp_path):
    adopted = adopt_teacher(teacher.path, tmp_path / "run" / "teacher", teacher.labels)
    assert adopted.path == tmp_path / "run" / "teacher"
    assert adopted.manifest.files == teacher.manifest.files
    assert adopted.manifest.facts == teacher.manifest.facts
    assert adopted.manifest.preprocess == teacher.manifest.preprocess
    made = content(adopted.path)
    assert adopt_teacher(teacher.path, adopted.path, teacher.labels).digest == adopted.digest
    assert content(adopted.path) == made


def test_a_teacher_already_in_its_place_stays(teacher, tmp_path):
    shutil.copytree(teacher.path, tmp_path / "teacher")
    made = content(tmp_path / "teacher")
    assert adopt_teacher(tmp_path / "teacher", tmp_path / "teacher", teacher.labels).digest == teacher.digest
    assert content(tmp_path / "teacher") == made


def test_a_teacher_is_adopted_from_a_file(teacher, tmp_path):
    shutil.copyfile(teacher.model_path, tmp_path / "mine.safetensors")
    adopted = adopt_teacher(tmp_path / "mine.safetensors", tmp_path / "teacher", teacher.labels)
    assert adopted.manifest.kind == "torch"
    assert adopted.labels == teacher.labels
    assert adopted.preprocess == teacher.preprocess
    images = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(load_model(adopted.path).logits(images), load_model(teacher.path).logits(images))
    made = content(adopted.path)
    adopt_teacher(tmp_path / "mine.safetensors", tmp_path / "teacher", teacher.labels)
    assert content(adopted.path) == made


def test_what_is_no_teacher_is_not_adopted(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no teacher")
    for source in ("folder", "notes.txt", "nowhere"):
        with pytest.raises(InputError, match=source):
            adopt_teacher(tmp_path / source, tmp_path / "teacher", LabelSpace(("a",)))
    assert not (tmp_path / "teacher" / MANIFEST).exists()


def test_a_teacher_of_other_labels_is_not_adopted(teacher, tmp_path):
    with pytest.raises(InputError, match="labels of the teacher"):
        adopt_teacher(teacher.path, tmp_path / "run" / "teacher", LabelSpace(("a", "b")))
    assert not (tmp_path / "run").exists()


def test_what_was_trained_as_a_student_teaches_and_makes_room_for_another(teacher, splits, tmp_path):
    student = distill(*splits, teacher, STUDENT, tmp_path / "student")
    assert (student.manifest.role, teacher.manifest.role) == ("student", "teacher")
    adopted = adopt_teacher(student.path, tmp_path / "run" / "teacher", teacher.labels)
    assert (adopted.manifest.role, adopted.manifest.files) == ("teacher", student.manifest.files)
    assert adopt_teacher(teacher.path, adopted.path, teacher.labels).manifest.files == teacher.manifest.files
