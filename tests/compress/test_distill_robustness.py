"""Faults that a run must survive or name: sizes, tags, folders, states, precisions."""

import errno
import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgepress.compress.checkpoint import WEIGHTS, load_model, load_state, save_model
from edgepress.compress.config import ModelConfig, TeachConfig
from edgepress.compress.distill import distill, teach
from edgepress.compress.models import make_model
from edgepress.compress.tasks import TeachTask
from edgepress.compress.teacher_sources import bring_teacher
from edgepress.multilabel.bundle import Bundle, write_atomically, write_bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from tests.compress.lessons import COMMON, QUICK, STUDENT, TEACHER, run_fit, updated, with_arrays

LABELS = LabelSpace(("a", "b", "c"))


@pytest.mark.parametrize(("backbone", "size"), [("test_vit", 72), ("inception_v3", 64), ("crossvit_tiny_240", 64)])
def test_a_size_that_the_backbone_cannot_take_is_refused(backbone, size):
    with pytest.raises(InputError, match=rf"{backbone}.*{size} px"):
        make_model(ModelConfig(backbone=backbone, size=size, width=32, weights="none"), LABELS)


def test_an_unknown_tag_is_refused():
    with pytest.raises(InputError, match=r"resnet50\.nosuch"):
        make_model(ModelConfig(backbone="resnet50.nosuch", size=64, weights="none"), LABELS)


def test_a_person_s_folder_is_refused_before_training(splits, tmp_path):
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError):
        teach(*splits, TEACHER, out)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


def test_worker_processes_do_not_pile_up(splits, tmp_path):
    counts = []

    class Counting(TeachTask):
        def __call__(self, *arguments):
            counts.append(len(multiprocessing.active_children()))
            return super().__call__(*arguments)

    run_fit(splits, tmp_path, Counting(TeachConfig(**QUICK), splits[0]), epochs=4, workers=1)
    assert max(counts) <= 2


def test_another_teacher_of_the_same_inputs_replaces_the_adopted_one(teacher, tmp_path):
    fields = {name: value for name, value in teacher.manifest if name not in ("files", "created")}
    with write_bundle(tmp_path / "other", **fields) as folder:
        model = load_model(teacher.path)
        with torch.no_grad():
            model.head.bias.add_(1)
        save_model(model, folder / WEIGHTS)
    bring_teacher(teacher.path, "data", tmp_path / "teacher")
    adopted = bring_teacher(tmp_path / "other", "data", tmp_path / "teacher")
    assert adopted.manifest.files[WEIGHTS] == Bundle.open(tmp_path / "other").manifest.files[WEIGHTS]


@pytest.mark.parametrize(
    ("key", "value"), [("preprocess", {"size": 3}), ("preprocess", {"bad": 1}), ("preprocess", [1]), ("labels", 5)]
)
def test_a_damaged_description_is_refused(tmp_path, key, value):
    whole = {"architecture": {"backbone": "test_efficientnet"}, "labels": ["a"], "preprocess": {"size": 32}}
    text = json.dumps({**whole, key: value})
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"edgepress": text})
    with pytest.raises(InputError, match=r"m\.safetensors"):
        load_model(tmp_path / "m.safetensors")


def test_a_damaged_state_is_told(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"state\.pt"):
        load_state(tmp_path / "state.pt", "x")


def test_teacher_and_student_may_differ_in_mixed_precision(splits, teacher, tmp_path):
    distill(*splits, teacher, updated(STUDENT, mixed_precision="bf16"), tmp_path / "student")


def test_a_val_split_without_a_positive_is_refused_before_training(splits, tmp_path):
    train, val = splits
    empty = with_arrays(val, targets=np.zeros_like(val.targets))
    with pytest.raises(InputError, match="positive"):
        teach(train, empty, TEACHER, tmp_path / "teacher")


def test_one_picture_is_refused(splits, tmp_path):
    train, val = splits
    config = TeachConfig(backbone="test_efficientnet", size=32, width=32, **COMMON)
    with pytest.raises(InputError):
        teach(train.subset(np.arange(1)), val, config, tmp_path / "teacher")


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_rise_of_exactly_one_step_is_no_division_by_zero(splits, tmp_path, epochs):
    config = updated(TEACHER, batch_size=24, epochs=epochs, pct_start=1 / epochs if epochs > 1 else 0.99)
    assert teach(*splits, config, tmp_path / "teacher").manifest.facts.history


def test_a_launch_of_another_size_does_not_continue(splits, tmp_path):
    run_fit(splits, tmp_path / "work", inputs="x", epochs=1)
    state = torch.load(tmp_path / "work" / "state.pt", weights_only=True)
    torch.save({**state, "steps": state["steps"] + 1}, tmp_path / "work" / "state.pt")
    with pytest.raises(InputError, match=r"state\.pt.*as many processes as before"):
        run_fit(splits, tmp_path / "work", inputs="x", epochs=1)


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write_atomically(tmp_path / "state.pt", b"old")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "state.pt", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").read_bytes() == b"old"
