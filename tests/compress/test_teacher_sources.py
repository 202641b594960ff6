"""A finished teacher from elsewhere, brought into a run's folder."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgepress.compress.checkpoint import load_model
from edgepress.compress.distill import distill
from edgepress.compress.teacher_sources import bring_teacher, look_at_teacher, open_teachers
from edgepress.deploy.build.export import export_onnx
from edgepress.multilabel.bundle import MANIFEST
from edgepress.multilabel.datasets import DataOptions, load_dataset
from edgepress.multilabel.errors import InputError
from tests.compress.lessons import STUDENT, content
from tests.multilabel.layouts import picture, write

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def graph(teacher, tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("graph") / "onnx-fp32"
    return export_onnx(load_model(teacher.path), load_dataset(tiny_data, "test"), out, identity="x")


def test_a_teacher_is_adopted_from_a_bundle(teacher, tmp_path):
    adopted = bring_teacher(teacher.path, "data", tmp_path / "run" / "teacher")
    assert adopted.path == tmp_path / "run" / "teacher"
    assert adopted.manifest.files == teacher.manifest.files
    assert adopted.manifest.facts == teacher.manifest.facts
    assert adopted.manifest.preprocess == teacher.manifest.preprocess
    made = content(adopted.path)
    assert bring_teacher(teacher.path, "data", adopted.path).digest == adopted.digest
    assert content(adopted.path) == made


def test_a_teacher_already_in_its_place_stays(teacher, tmp_path):
    shutil.copytree(teacher.path, tmp_path / "teacher")
    made = content(tmp_path / "teacher")
    assert bring_teacher(tmp_path / "teacher", "data", tmp_path / "teacher").digest == teacher.digest
    assert content(tmp_path / "teacher") == made


def test_a_teacher_is_adopted_from_a_file(teacher, tmp_path):
    shutil.copyfile(teacher.model_path, tmp_path / "mine.safetensors")
    adopted = bring_teacher(tmp_path / "mine.safetensors", "data", tmp_path / "teacher")
    assert adopted.manifest.kind == "torch"
    assert adopted.labels == teacher.labels
    assert adopted.preprocess == teacher.preprocess
    images = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(load_model(adopted.path).logits(images), load_model(teacher.path).logits(images))
    made = content(adopted.path)
    bring_teacher(tmp_path / "mine.safetensors", "data", tmp_path / "teacher")
    assert content(adopted.path) == made


def test_what_is_no_teacher_is_not_adopted(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no teacher")
    for source in ("folder", "notes.txt", "nowhere"):
        with pytest.raises(InputError, match=source):
            bring_teacher(tmp_path / source, "data", tmp_path / "teacher")
    assert not (tmp_path / "teacher" / MANIFEST).exists()


def test_what_was_trained_as_a_student_teaches_and_makes_room_for_another(teacher, splits, tmp_path):
    student = distill(*splits, teacher, STUDENT, tmp_path / "student")
    assert (student.manifest.role, teacher.manifest.role) == ("student", "teacher")
    adopted = bring_teacher(student.path, "data", tmp_path / "run" / "teacher")
    assert (adopted.manifest.role, adopted.manifest.files) == ("teacher", student.manifest.files)
    assert bring_teacher(teacher.path, "data", adopted.path).manifest.files == teacher.manifest.files


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("big.onnx", "edgepress adopt big.onnx --data 'my pictures' --out big --labels FILE --mean R,G,B --std"),
        ("net.pth", "edgepress adopt net.pth --data 'my pictures' --out net --backbone NAME --labels FILE"),
        ("folder", "edgepress adopt folder --data 'my pictures' --out folder-teacher"),
    ],
)
def test_what_is_no_bundle_yet_is_refused_with_the_command_that_makes_one(tmp_path, monkeypatch, name, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for file in ("big.onnx", "net.pth", "folder/config.json"):
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(InputError, match=re.escape(command)):
        look_at_teacher(Path(name), "my pictures")


def test_the_command_reads_the_data_set_as_the_verb_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("big.onnx").write_bytes(b"")
    reader = DataOptions(format="csv", separator=" ", label_columns=("cat", "dog, hot"))
    said = """--data here --format csv --label-columns 'cat,"dog, hot"' --separator ' ' --out big"""
    with pytest.raises(InputError, match=re.escape(said)) as refused:
        look_at_teacher(Path("big.onnx"), "here", reader)
    words = shlex.split(str(refused.value).partition("edgepress adopt ")[2].partition(" (")[0])
    given = {flag: words[words.index(flag) + 1] for flag in ("--format", "--label-columns", "--separator")}
    assert DataOptions.parse({flag[2:].replace("-", "_"): text for flag, text in given.items()}, "flags") == reader
    assert DataOptions().as_flags() == []


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (("train", "test"), "--data set --out big --labels"),
        (("train", "valid"), "--data set --split valid --out big --labels"),
        (("main",), "--data set --split main --out big --labels"),
    ],
)
def test_the_command_names_a_split_that_the_data_set_has(tmp_path, monkeypatch, named, said):
    monkeypatch.chdir(tmp_path)
    Path("big.onnx").write_bytes(b"")
    for split in named:
        rows = write(Path("set") / split / "metadata.jsonl", '{"file_name": "a.png", "labels": ["cat"]}')
        picture(rows.parent / "a.png")
    with pytest.raises(InputError, match=re.escape(said)):
        look_at_teacher(Path("big.onnx"), "set")


def test_what_is_no_model_is_told_with_what_a_teacher_is(tiny_data, tmp_path):
    """And not with what adopt takes, which is another verb."""
    train = f"edgepress teach {tiny_data} --out TEACHER"
    (tmp_path / "notes.txt").write_text("no model")
    for given, said in (
        (tiny_data, "holds pictures and no model; "),
        (tiny_data / "val", "holds pictures and no model; "),
        (tmp_path / "notes.txt", "a file of another kind; "),
        (tmp_path / "gone", "no such file or folder; "),
    ):
        with pytest.raises(InputError) as refused:
            look_at_teacher(given, tiny_data)
        assert str(refused.value).startswith(
            f"{given}: {said}expected a teacher: a bundle that edgepress teach or adopt"
        )
        assert "checkpoint with --backbone" not in str(refused.value)
        assert (train in str(refused.value)) == given.is_dir()


def test_a_file_of_timm_is_a_checkpoint_and_not_one_of_ours(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "timm.safetensors")
    with pytest.raises(InputError, match=r"timm\.safetensors: a checkpoint, .* make one .*: edgepress adopt"):
        look_at_teacher(tmp_path / "timm.safetensors", "data")


def test_a_file_of_a_bundle_stands_for_no_teacher(graph):
    with pytest.raises(InputError, match=r"model\.onnx: a file of the bundle .*onnx-fp32; give that folder"):
        look_at_teacher(graph.model_path, "data")


def test_what_a_path_holds_is_seen_before_it_is_opened(teacher, graph, tmp_path):
    shutil.copyfile(teacher.model_path, tmp_path / "mine.safetensors")
    seen = [look_at_teacher(path, "data") for path in (teacher.path, graph.path, tmp_path / "mine.safetensors")]
    assert [(one.kind, one.labels) for one in seen] == [
        ("torch", teacher.labels),
        ("onnx", graph.labels),
        ("torch", teacher.labels),
    ]


def test_weights_are_opened_as_a_bundle_beside_the_student(teacher, tmp_path):
    shutil.copyfile(teacher.model_path, tmp_path / "mine.safetensors")
    first, second = open_teachers([tmp_path / "mine.safetensors", teacher.path], "data", tmp_path / "student")
    assert (first.path, second.path) == (tmp_path / "student-teacher", teacher.path)
    assert (first.labels, first.manifest.role) == (teacher.labels, "teacher")
