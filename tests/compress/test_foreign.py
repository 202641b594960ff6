"""A teacher that is an ONNX graph: the same lesson as from the torch model that it was exported from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgepress.compress.checkpoint import load_model, write_model
from edgepress.compress.config import DistillConfig, ModelConfig
from edgepress.compress.distill import distill
from edgepress.compress.foreign import OnnxTeacher
from edgepress.compress.models import make_model
from edgepress.deploy.build.export import export_onnx
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError

SETTINGS = {
    "backbone": "test_efficientnet",
    "head": "linear",
    "size": 32,
    "weights": "none",
    "epochs": 2,
    "batch_size": 8,
    "augment": "none",
    "cutout": 0.0,
    "workers": 0,
    "review_kd": 0.0,
}


@pytest.fixture(scope="module")
def splits(tiny_data):
    return [load_dataset(tiny_data, name) for name in ("train", "val", "test")]


@pytest.fixture(scope="module")
def teachers(splits, tmp_path_factory) -> tuple[Bundle, Bundle]:
    """One model as a bundle of kind torch and of kind onnx."""
    folder = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(1)
    config = ModelConfig(backbone="test_efficientnet", head="linear", size=32, weights="none")
    model, _ = make_model(config, splits[0].labels)
    write_model(model.eval(), folder / "teacher", inputs="x", facts={"role": "teacher"})
    graph = export_onnx(load_model(folder / "teacher").eval(), splits[2], folder / "onnx-fp32", identity="x")
    return Bundle.open(folder / "teacher"), graph


def test_it_answers_as_the_model_does(teachers, splits):
    torch_one, graph = teachers
    model = load_model(torch_one.path).eval()
    images = torch.from_numpy(np.stack([graph.preprocess(splits[0].picture(row)) for row in range(6)]))
    logits, embeddings = OnnxTeacher(graph)(images)
    assert embeddings.shape == (6, 5, 0)
    with torch.no_grad():
        torch.testing.assert_close(logits, model.logits(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kept", [False, True])
def test_a_student_learns_the_same_from_both(teachers, splits, tmp_path, kept):
    train, val, _ = splits
    config = DistillConfig(**SETTINGS, mld=2.0)
    cache = tmp_path / "cache" if kept else None
    students = [distill(train, val, one, config, tmp_path / one.name, cache=cache) for one in teachers]
    first, second = (load_model(one.path).state_dict() for one in students)
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=2e-3, rtol=1e-2, msg=name)
    assert students[1].manifest.parent == teachers[1].as_parent


@pytest.mark.parametrize(
    "asked", [{"cd": 1.0}, {"hint": 1.0}, {"review_kd": 0.1}, {"mld": 1.0, "inherit_head": "auto"}]
)
def test_what_a_graph_cannot_teach_is_refused_by_name(teachers, splits, tmp_path, asked):
    train, val, _ = splits
    config = DistillConfig(**{**SETTINGS, **asked})
    with pytest.raises(InputError, match=rf"but {list(asked)[-1]} needs what is inside it.*--preset mld"):
        distill(train, val, teachers[1], config, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_the_verb_takes_it(teachers, tiny_data, tmp_path, edgepress):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    done = edgepress("distill", tiny_data, "--teacher", teachers[1].path, "--out", tmp_path / "s", *flags, "--mld", "1")
    assert done.code == 0, done.err
    refused = edgepress(
        "distill", tiny_data, "--teacher", teachers[1].path, "--out", tmp_path / "t", *flags, "--cd", "1"
    )
    assert (refused.code, refused.err.count("\n")) == (2, 1)
