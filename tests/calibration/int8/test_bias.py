"""Bias correction: channels whose mean INT8 shifts are put back where float has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgepress.calibration.int8 import bias  # noqa: E402
from edgepress.calibration.int8.bias import correct_biases  # noqa: E402
from edgepress.multilabel.errors import InputError  # noqa: E402

NAMES = ("stem", "deep", "wide", "last")


def network(shared: bool = False):
    """A stem, a block with a shortcut and a last convolution that has no bias; pictures are positive, as pixels are."""
    rng = np.random.default_rng(0)
    constants = {
        "stem.w": rng.normal(size=(8, 3, 3, 3)),
        "stem.b": rng.normal(size=8),
        "deep.w": rng.normal(size=(8, 1, 3, 3)),
        "deep.b": rng.normal(size=8),
        "wide.w": rng.normal(size=(8, 8, 1, 1)),
        "wide.b": rng.normal(size=8),
        "last.w": rng.normal(size=(6, 8, 3, 3)),
    }
    second = "stem.b" if shared else "deep.b"
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["a"], "stem", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["ra"], "relu"),
        helper.make_node("Conv", ["ra", "deep.w", second], ["b"], "deep", group=8, pads=[1] * 4),
        helper.make_node("Relu", ["b"], ["rb"], "relu2"),
        helper.make_node("Conv", ["rb", "wide.w", "wide.b"], ["c"], "wide"),
        helper.make_node("Add", ["c", "ra"], ["sum"], "shortcut"),
        helper.make_node("Conv", ["sum", "last.w"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


PICTURES = np.random.default_rng(1).random((40, 3, 12, 12), np.float32)


def same(model):
    result = type(model)()
    result.CopyFrom(model)
    return result


def coarse(model):
    """A float graph with weights of 15 levels: an error like INT8's, but large, and with no ranges to set."""
    result = same(model)
    for tensor in result.graph.initializer:
        if tensor.name.endswith(".w"):
            value = numpy_helper.to_array(tensor)
            step = np.abs(value).max() / 7
            tensor.CopyFrom(numpy_helper.from_array(np.float32(np.rint(value / step) * step), tensor.name))
    return result


def means(model, images: np.ndarray = PICTURES) -> dict[str, np.ndarray]:
    """Each convolution's mean output a channel, by running the graph with its inner tensors as outputs."""
    seen = same(model)
    outputs = {node.name: node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    del seen.graph.output[:]
    seen.graph.output.extend(helper.make_tensor_value_info(out, TensorProto.FLOAT, None) for out in outputs.values())
    session = ort.InferenceSession(seen.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(None, {"x": images})
    return {name: value.mean(axis=(0, 2, 3)) for name, value in zip(outputs, values, strict=True)}


def biases(model) -> dict[str, np.ndarray]:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {n.name: constants[n.input[2]] for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2}


def error(model, reference) -> dict[str, float]:
    """Largest difference of a channel's mean, by convolution."""
    found, expected = means(model), means(reference)
    return {name: float(np.abs(found[name] - expected[name]).max()) for name in NAMES}


def test_every_mean_is_floats_again():
    """Behind each correction the next error is another, so that only one by one do all of them vanish."""
    model = network()
    corrected = correct_biases(model, coarse, PICTURES)
    before, after = error(coarse(model), model), error(coarse(corrected), model)
    for name in NAMES:
        assert before[name] > 0.1
        assert after[name] < 1e-5


def test_the_answers_come_nearer():
    model = network()
    corrected = correct_biases(model, coarse, PICTURES)
    images = np.random.default_rng(2).random((40, 3, 12, 12), np.float32)

    def answers(candidate) -> np.ndarray:
        session = ort.InferenceSession(candidate.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {"x": images})[0]

    noise = [np.square(answers(coarse(candidate)) - answers(model)).mean() for candidate in (model, corrected)]
    assert noise[1] < 0.8 * noise[0]


def test_int8_by_onnx_runtime(tmp_path: Path):
    """Q/DQ nodes, renamed tensors, INT32 biases, ranges that are measured anew."""
    pytest.importorskip("sympy", reason="sympy is not installed (pip install 'edgepress[quantize]')")
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{"x": image[None]} for image in PICTURES])

        def get_next(self):
            return next(self.feeds, None)

    def int8(model):
        onnx.save(model, tmp_path / "float.onnx")
        files = (tmp_path / "float.onnx", tmp_path / "int8.onnx")
        quantize_static(*files, Reader(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        return onnx.load(tmp_path / "int8.onnx")

    model = network()
    before, after = error(int8(model), model), error(int8(correct_biases(model, int8, PICTURES)), model)
    for name in NAMES:
        assert after[name] < 0.3 * before[name]


def test_a_model_that_quantisation_does_not_change_stays():
    model = network()
    corrected = correct_biases(model, same, PICTURES)
    old, new = biases(model), biases(corrected)
    assert new.keys() == old.keys() | {"last"}
    for name, value in new.items():
        assert value == pytest.approx(old.get(name, np.zeros(6)), abs=1e-5)


def test_only_biases_change():
    model = network()
    kept = model.SerializeToString()
    corrected = correct_biases(model, coarse, PICTURES)
    assert model.SerializeToString() == kept
    old, new = ({t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, corrected))
    assert {name for name in old if not np.array_equal(old[name], new[name])} == {"stem.b", "deep.b", "wide.b"}
    assert new.keys() - old.keys() == {"last/corrected_bias"}
    assert [(n.name, n.input[:2], n.output) for n in corrected.graph.node] == [
        (n.name, n.input[:2], n.output) for n in model.graph.node
    ]


def test_a_bias_that_two_convolutions_share_becomes_two():
    model = network(shared=True)
    corrected = correct_biases(model, coarse, PICTURES)
    assert max(error(coarse(corrected), model).values()) < 1e-5
    assert not np.array_equal(biases(corrected)["stem"], biases(corrected)["deep"])


def test_a_reference_is_what_the_means_should_be():
    model = network()
    rounded = coarse(model)
    assert max(error(correct_biases(rounded, same, PICTURES), rounded).values()) < 1e-5
    assert max(error(correct_biases(rounded, same, PICTURES, reference=model), model).values()) < 1e-5


def test_some_pictures_from_all_over_the_set_are_used(monkeypatch):
    monkeypatch.setattr(bias, "PICTURES", 4)
    model = network()
    some, four = (biases(correct_biases(model, coarse, images)) for images in (PICTURES, PICTURES[::10]))
    for name in NAMES:
        assert np.array_equal(some[name], four[name])
    monkeypatch.undo()
    assert not np.array_equal(biases(correct_biases(model, coarse, PICTURES))["last"], some["last"])


def test_what_cannot_be_corrected_is_refused():
    def renamed(model):
        result = same(model)
        result.graph.node[2].name = "other"
        return result

    with pytest.raises(InputError, match="no convolution 'deep'; expected the same names"):
        correct_biases(network(), renamed, PICTURES)
    with pytest.raises(InputError, match="received no pictures; expected at least 1"):
        correct_biases(network(), coarse, PICTURES[:0])


def test_a_graph_without_a_convolution_has_no_bias_to_correct():
    weights = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], "mean", axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["m", "w"], ["y"], "head"),
        ],
        "matrices",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    assert correct_biases(model, same, PICTURES) is None
