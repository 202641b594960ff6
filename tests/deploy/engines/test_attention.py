"""Attention: a second output that says where each label looks, and nothing else is made from such a graph."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from edgepress.deploy.build.compile import compile_fp16, compile_openvino
from edgepress.deploy.build.export import export_onnx
from edgepress.deploy.build.tensorrt import build_tensorrt
from edgepress.deploy.build.triton import write_triton
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.attention import attention_of, has_attention
from edgepress.deploy.engines.table import GpuTarget
from edgepress.multilabel.errors import InputError
from edgepress.run.quantize import quantize_bundle
from edgepress.run.recipe import QuantizeConfig


@pytest.fixture(scope="module")
def shown(model, splits, tmp_path_factory):
    out = tmp_path_factory.mktemp("shown") / "onnx-fp32-attention"
    return export_onnx(model, splits.test, out, identity="shown", attention=True)


def by_hand(model, image: np.ndarray) -> np.ndarray:
    """Attention `[C, S]` of one picture from the head's weights, a label and a head at a time."""
    with torch.inference_mode():
        tokens = model.tokens(torch.from_numpy(image[None]))[0].numpy()
        head = {name: value.numpy() for name, value in model.head.state_dict().items()}
        query = model.head.norm1(model.head.queries).numpy()
    memory = np.maximum(tokens @ head["embed.weight"].T + head["embed.bias"], 0)
    keys = memory @ head["to_key.weight"].T + head["to_key.bias"]
    queries = query @ head["to_query.weight"].T + head["to_query.bias"]
    width = keys.shape[1] // 8
    result = np.zeros((len(queries), len(keys)))
    for label, asked in enumerate(queries):
        for start in range(0, 8 * width, width):
            scores = keys[:, start : start + width] @ asked[start : start + width] / np.sqrt(width)
            result[label] += np.exp(scores) / np.exp(scores).sum() / 8
    return result


def test_it_is_what_the_queries_of_the_head_attend_to(shown, model, images):
    assert has_attention(shown)
    with open_engine(shown) as engine:
        maps = attention_of(engine, images[:3])
    assert maps.shape == (3, 5, 2, 2)
    expected = np.stack([by_hand(model, image) for image in images[:3]])
    np.testing.assert_allclose(maps.reshape(3, 5, 4), expected, atol=1e-5)
    assert expected.std(axis=2).max() > 0.01  # a map that is the same everywhere would prove nothing


def test_the_logits_are_those_of_the_export_without(shown, onnx_bundle, images):
    with open_engine(shown) as one, open_engine(onnx_bundle) as other:
        np.testing.assert_allclose(one(images), other(images), atol=1e-4)
    assert not has_attention(onnx_bundle)


def test_of_a_linear_head_it_is_the_softmax_of_the_scores_at_each_position(fit, splits, images, tmp_path):
    model = fit(splits.test, head="linear", steps=5)
    bundle = export_onnx(model, splits.test, tmp_path / "linear", identity="linear", attention=True)
    with torch.inference_mode():
        scores = model.tokens(torch.from_numpy(images[:2])) @ model.head.weight.T
    with open_engine(bundle) as engine:
        maps = attention_of(engine, images[:2])
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(maps.reshape(2, 5, 4), expected.numpy().transpose(0, 2, 1), atol=1e-5)


def test_the_export_is_kept_and_is_another_than_the_one_without(shown, model, splits):
    again = export_onnx(model, splits.test, shown.path, identity="shown", attention=True)
    assert again.digest == shown.digest
    assert json.loads((shown.path / "manifest.json").read_text())["facts"]["attention"] is True


def test_a_bundle_without_it_says_how_to_make_one(onnx_bundle, images):
    with open_engine(onnx_bundle) as engine, pytest.raises(InputError, match=r"edgepress export STUDENT .*--attention"):
        attention_of(engine, images[:1])


def test_nothing_else_is_made_from_it(shown, splits, tmp_path):
    out = tmp_path / "out"
    for make in (
        lambda: compile_fp16(shown, out),
        lambda: compile_openvino(shown, out, "fp32"),
        lambda: build_tensorrt(shown, out, GpuTarget(sm=86)),
        lambda: write_triton(shown, out),
        lambda: quantize_bundle(shown, splits, "onnxruntime", out, QuantizeConfig(pictures=8)),
    ):
        with pytest.raises(InputError, match=r"attention as a second output.*without --attention"):
            make()
    assert not out.exists()


def test_positions_that_are_no_square_map_are_refused(model, splits, tmp_path, monkeypatch):
    monkeypatch.setattr(type(model), "tokens", lambda self, images: torch.zeros(len(images), 6, 1280))
    model = copy.deepcopy(model)  # the other tests' own stays as it is
    model.head.embed = torch.nn.Linear(1280, 32)
    with pytest.raises(InputError, match="6 positions, which are no square map"):
        export_onnx(model, splits.test, tmp_path / "out", identity="odd", attention=True)
    assert not (tmp_path / "out").exists()
