"""INT8 models for LiteRT: what is in INT8, with which ranges, and what stays in float."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgepress.calibration.int8.litert import PRODUCTS, LiteRtQuantizer
from tests.litert import require_litert

SIZE = 16
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return RNG.integers(0, 256, (12, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A net with a padded convolution, one of each channel, a sum, tokens, and a product of two activations."""
    require_litert()
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def node(kind: str, reads: list[str], gives: str, **attributes):
        return helper.make_node(kind, reads, [gives], f"node_{gives}", **attributes)

    kernel = {"kernel_shape": [3, 3]}
    nodes = [
        node("Cast", ["images"], "cast", to=TensorProto.FLOAT),
        node("Transpose", ["cast"], "planes", perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "w0", "b0"], "stem", strides=[2, 2], pads=[1] * 4, **kernel),
        node("Relu", ["stem"], "relu"),
        node("Conv", ["relu", "w1"], "depthwise", group=8, pads=[1] * 4, **kernel),
        node("Add", ["relu", "depthwise"], "sum"),
        node("Conv", ["sum", "w2"], "pointwise", kernel_shape=[1, 1]),
        node("Reshape", ["pointwise", "flat"], "rows"),
        node("Transpose", ["rows"], "tokens", perm=[0, 2, 1]),
        node("MatMul", ["tokens", "w3"], "product"),
        node("Add", ["product", "b3"], "keys"),
        node("MatMul", ["rows", "keys"], "attention"),
        node("ReduceMean", ["attention", "axes"], "logits", keepdims=0),
    ]
    constants = {
        "w0": RNG.normal(size=(8, 3, 3, 3)) / 255,
        "b0": RNG.normal(size=8),
        "w1": RNG.normal(size=(8, 1, 3, 3)),
        "w2": RNG.normal(size=(8, 8, 1, 1)),
        "w3": RNG.normal(size=(8, 5)),
        "b3": RNG.normal(size=5),
    }
    numbers = {"flat": np.array([0, 8, 64], np.int64), "axes": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
        + [numpy_helper.from_array(value, name) for name, value in numbers.items()],
    )
    file = tmp_path_factory.mktemp("litert") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(file))
    return file


@pytest.fixture(scope="module")
def quantizer(source, images) -> LiteRtQuantizer:
    return LiteRtQuantizer(source, images)


@pytest.fixture(scope="module")
def quantized(quantizer, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("quantized") / "model.tflite"
    assert quantizer.write(file, "min-max")
    return file


def answers(model: bytes, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


NAMES = ("node_stem", "node_depthwise", "node_pointwise", "node_product")


def test_products_have_the_names_of_their_onnx_nodes(quantizer):
    assert {product.name: product.kind for product in quantizer.found} == dict(
        zip(NAMES, ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED"), strict=True)
    )
    assert {product.kind for product in quantizer.found} == set(PRODUCTS)
    assert tuple(quantizer.names) == NAMES


def test_all_products_with_weights_are_in_int8_and_nothing_else(quantized):
    assert LiteRtQuantizer.float_nodes(quantized, list(NAMES)) == ()
    kinds = dict(LiteRtQuantizer.structure(quantized)[0])
    assert kinds["BATCH_MATMUL"] == 1  # of two activations
    assert kinds["PAD"] == 1


def test_answers_are_near_the_float_models(quantizer, quantized, images):
    exact, found = (answers(model, images) for model in (quantizer.float_model, quantized.read_bytes()))
    noise = float(((exact - found) ** 2).sum())
    assert 0 < noise < 0.01 * float((exact**2).sum())
    assert np.abs(found - found[:1]).max() > 0.1 * np.abs(exact - exact[:1]).max()  # and not the same everywhere


def test_what_is_kept_is_in_float(quantizer, tmp_path):
    assert quantizer.write(tmp_path / "kept.tflite", "min-max", ("node_stem", "node_product"))
    assert LiteRtQuantizer.float_nodes(tmp_path / "kept.tflite", list(NAMES)) == ("node_stem", "node_product")
    assert LiteRtQuantizer.structure(tmp_path / "kept.tflite")[1] == ("node_stem", "node_product")
    assert not any(product.in_int8 for product in quantizer.found)  # of the float model


def test_a_padding_is_in_int8_with_its_convolution(quantizer, quantized, tmp_path):
    padded = next(product for product in quantizer.found if product.name == "node_stem")
    assert padded.padded is not None
    quantizer.write(tmp_path / "kept.tflite", "min-max", ("node_stem",))
    for file, expected in ((quantized, np.int8), (tmp_path / "kept.tflite", np.float32)):
        assert types_of(file, "PAD") == [expected]


def types_of(file: Path, kind: str) -> list[type]:
    from ai_edge_litert.interpreter import Interpreter

    nodes = Interpreter(model_content=file.read_bytes())._get_ops_details()
    return [node["operand_types"][0] for node in nodes if node["op_name"] == kind]


def test_the_ranges_are_those_that_were_measured(quantizer, quantized, tmp_path):
    """Not those of LiteRT's own calibration, which is a moving average that depends on the order of the pictures."""
    from ai_edge_litert.tools import flatbuffer_utils

    def scales(file: Path) -> dict[str, float]:
        (graph,) = flatbuffer_utils.read_model(str(file)).subgraphs
        return {
            tensor.name.decode(): float(tensor.quantization.scale[0])
            for tensor in graph.tensors
            if tensor.quantization is not None and tensor.quantization.scale is not None
        }

    quantizer.write(tmp_path / "narrow.tflite", "percentile-99.9")
    whole, narrow = scales(quantized), scales(tmp_path / "narrow.tflite")
    for product in quantizer.found:
        for method, found in (("min-max", whole), ("percentile-99.9", narrow)):
            low, high = quantizer.ranges.by(method)[product.gives]
            assert found[product.gives] == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-3)
    assert whole != narrow


def test_weights_have_a_scale_for_each_channel(quantized):
    from ai_edge_litert.tools import flatbuffer_utils

    (graph,) = flatbuffer_utils.read_model(str(quantized)).subgraphs
    weights = [tensor for tensor in graph.tensors if re.search(r"_(conv|depthwise)_filter$", tensor.name.decode())]
    assert [len(tensor.quantization.scale) for tensor in weights] == [8, 8, 8]
    assert all(not np.any(tensor.quantization.zeroPoint) for tensor in weights)


def test_the_same_pictures_give_the_same_bytes_in_any_order(source, quantized, images, tmp_path):
    LiteRtQuantizer(source, images[::-1]).write(tmp_path / "again.tflite", "min-max")
    assert (tmp_path / "again.tflite").read_bytes() == quantized.read_bytes()
