"""The nodes that prepare a picture give the pixels that Preprocess gives, from pictures of every shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepress.deploy.build.resize_graph import Nodes, add_preprocess
from edgepress.multilabel.onnx_session import cpu_session
from edgepress.multilabel.preprocess import Preprocess

SHAPES = ((1, 1), (1, 7), (3, 90), (64, 64), (63, 65), (96, 96), (128, 128), (60, 200), (120, 213), (97, 31))
INTERPOLATIONS = ("bilinear-aa", "bicubic-aa", "bilinear", "area-cubic")


def graph_of(preprocess: Preprocess, opset: int = 20) -> onnx.ModelProto:
    """A model of the nodes alone, from pictures to pixels."""
    nodes, size = Nodes("front"), preprocess.size
    pixels = add_preprocess(nodes, "images", preprocess)
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    made = helper.make_tensor_value_info(pixels, TensorProto.UINT8, ["batch", size, size, 3])
    graph = helper.make_graph(nodes.nodes, "front", [given], [made], nodes.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_runtime(preprocess: Preprocess, opset: int = 20) -> Callable[[np.ndarray], np.ndarray]:
    session = cpu_session(graph_of(preprocess, opset).SerializeToString())
    return lambda pictures: session.run(None, {"images": pictures})[0]


def openvino(preprocess: Preprocess) -> Callable[[np.ndarray], np.ndarray]:
    ov = pytest.importorskip("openvino", reason="openvino is not installed")
    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(graph_of(preprocess).SerializeToString()), "CPU", settings)
    return lambda pictures: np.array(compiled(pictures)[0])


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Half of it in few colours, so that many sums end exactly between two bytes."""
    picture = np.random.default_rng(seed + height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture[height // 2 :] //= 64
    picture[height // 2 :] *= 64
    return picture


def apart(graph: Callable[[np.ndarray], np.ndarray], preprocess: Preprocess) -> np.ndarray:
    """By how much every value of every shape differs."""
    found = [graph(noise(*shape)[None])[0].astype(int) - preprocess(noise(*shape)) for shape in SHAPES]
    return np.abs(np.concatenate(found, axis=None))


@pytest.mark.parametrize("resize", ["squash", "crop", "letterbox"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_the_pixels_are_those_of_preprocess(interpolation, resize):
    preprocess = Preprocess(size=64, resize=resize, crop_fraction=0.9, interpolation=interpolation)
    found = apart(onnx_runtime(preprocess), preprocess)
    if interpolation.startswith("bilinear"):
        assert not found.any()
    else:
        assert found.max() <= 2
        assert (found > 0).mean() <= (0.0005 if interpolation == "bicubic-aa" else 0.01)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_openvino_computes_the_same_pixels(interpolation):
    # 16 pixels become 56: some weights are whole sixteenths, and their sums end between two bytes, unless a division by
    # 112 is inexact, as OpenVINO's is.
    preprocess = Preprocess(size=56, resize="letterbox", interpolation=interpolation)
    ours, theirs = onnx_runtime(preprocess), openvino(preprocess)
    for shape in ((3, 90), (16, 16), (112, 84)):
        picture = noise(*shape)[None]
        differ = (ours(picture) != theirs(picture)).mean()
        assert differ <= (0 if interpolation.startswith("bilinear") else 0.001)


def test_an_old_opset_and_a_batch_are_taken():
    preprocess = Preprocess(size=8, interpolation="bicubic-aa")
    pictures = np.stack([noise(30, 40, seed) for seed in range(3)])
    found = onnx_runtime(preprocess, opset=13)(pictures)
    assert np.array_equal(found, np.stack([preprocess(picture) for picture in pictures]))
