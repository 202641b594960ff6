"""An ONNX file whose weights lie outside its bundle is not opened, whatever runtime reads it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepress.deploy.build.compile import compile_openvino
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.preprocess import Preprocess

SIZE = 8


def model(location: str) -> onnx.ModelProto:
    """Mean of the pixels times weights that lie in another file."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[3, 2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "24")):
        weights.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    graph = helper.make_graph(nodes, "graph", [images], [logits], [axes, weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def bundle_of(folder: Path, location: str, beside: bytes | None = None) -> Bundle:
    preprocess = Preprocess(size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    fields = {"kind": "onnx", "precision": "fp32", "model": "model.onnx", "labels": ("cat", "dog"), "opset": 20}
    with write_bundle(folder, **fields, preprocess=preprocess, facts=Facts(), tools={}, inputs="0" * 64) as partial:
        (partial / "model.onnx").write_bytes(model(location).SerializeToString())
        if beside is not None:
            (partial / location).write_bytes(beside)
    return Bundle.open(folder)


@pytest.mark.parametrize("location", ["../secret.bin", "{absolute}", "link.bin"])
def test_weights_outside_the_bundle_are_not_read(tmp_path, location):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(6, dtype=np.float32).tobytes())
    bundle = bundle_of(tmp_path / "bundle", location.format(absolute=secret))
    if location == "link.bin":
        os.symlink(secret, bundle.path / location)
    with pytest.raises(InputError, match=r"bundle.model\.onnx"):
        open_engine(bundle)
    with pytest.raises(InputError):
        compile_openvino(bundle, tmp_path / "compiled", "fp32")
    assert not (tmp_path / "compiled").exists()


def test_weights_within_it_are(tmp_path):
    bundle = bundle_of(tmp_path / "bundle", "weights.bin", np.arange(6, dtype=np.float32).tobytes())
    with open_engine(bundle) as engine:
        np.testing.assert_allclose(engine(np.ones((1, SIZE, SIZE, 3), np.uint8)), [[6.0, 9.0]])
