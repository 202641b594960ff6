"""Rounding: weights on the grid that quantisers find again, and layers whose outputs move less than by the nearest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgepress.calibration.int8 import rounding  # noqa: E402
from edgepress.calibration.int8.rounding import grams, round_rows, round_weights  # noqa: E402
from edgepress.multilabel.errors import InputError  # noqa: E402


def objective(rows: np.ndarray, rounded: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """E‖(ŵ − w)x‖² of each row, `[groups, rows]`."""
    error = rounded - rows
    return np.einsum("gri,gij,grj->gr", error, gram, error)


def nearest(rows: np.ndarray, levels: int = 127) -> np.ndarray:
    step = np.abs(rows).max(axis=-1, keepdims=True) / levels
    return np.rint(rows / step) * step


def gram_of(groups: int, inputs: int, rng: np.random.Generator) -> np.ndarray:
    """Of inputs that are positive and alike, as those behind a ReLU are."""
    x = np.maximum(rng.normal(size=(groups, 200, inputs)) + rng.normal(size=(groups, 200, 1)), 0)
    return x.transpose(0, 2, 1) @ x / 200


@pytest.mark.parametrize(("groups", "rows", "inputs"), [(1, 40, 30), (12, 1, 9), (4, 3, 18)])
def test_never_worse_than_the_nearest_and_within_one_step(groups, rows, inputs):
    rng = np.random.default_rng(0)
    weight, gram = rng.normal(size=(groups, rows, inputs)), gram_of(groups, inputs, rng)
    rounded = round_rows(weight, gram)
    before, after = objective(weight, nearest(weight), gram), objective(weight, rounded, gram)
    assert (after <= before + 1e-12).all()
    assert after.sum() < 0.8 * before.sum()
    step = np.abs(weight).max(axis=2, keepdims=True) / 127
    assert (np.abs(rounded - weight) < step * (1 + 1e-9)).all()
    assert np.abs(rounded / step - np.rint(rounded / step)).max() < 1e-6
    largest = np.abs(weight).argmax(axis=2)[..., None]
    assert np.array_equal(np.take_along_axis(rounded, largest, 2), np.take_along_axis(weight, largest, 2))


def test_a_grid_of_64_levels_has_its_largest_weight_at_64():
    rng = np.random.default_rng(3)
    weight, gram = rng.normal(size=(2, 8, 20)), gram_of(2, 20, rng)
    rounded = round_rows(weight, gram, 64)
    integers = 64 * rounded / np.abs(weight).max(axis=2, keepdims=True)
    assert np.abs(integers - np.rint(integers)).max() < 1e-9
    assert np.array_equal(np.abs(integers).max(axis=2).round(9), np.full((2, 8), 64.0))
    assert objective(weight, rounded, gram).sum() < 0.9 * objective(weight, nearest(weight, 64), gram).sum()


def test_turning_any_one_weight_back_would_not_help():
    rng = np.random.default_rng(1)
    weight, gram = rng.normal(size=(1, 6, 12)), gram_of(1, 12, rng)
    rounded = round_rows(weight, gram)
    best = objective(weight, rounded, gram)
    step = np.abs(weight).max(axis=2, keepdims=True) / 127
    other = (np.floor(weight / step) + np.ceil(weight / step)) * step - rounded
    free = np.abs(np.abs(weight) - 127 * step) > 1e-9  # the largest has no other neighbour
    for column in range(12):
        turned = rounded.copy()
        turned[:, :, column] = np.where(free[:, :, column], other[:, :, column], rounded[:, :, column])
        assert (objective(weight, turned, gram) >= best - 1e-12).all()


def test_near_the_best_of_all_roundings():
    rng = np.random.default_rng(2)
    count, inputs = 60, 9
    weight, gram = rng.normal(size=(1, count, inputs)), gram_of(1, inputs, rng)
    step = np.abs(weight).max(axis=2, keepdims=True) / 127
    low, high = np.floor(weight / step - 1e-9), np.ceil(weight / step - 1e-9)
    every = np.array(list(itertools.product((0, 1), repeat=inputs)))[:, None]
    best = np.min([objective(weight, (low + up * (high - low)) * step, gram) for up in every], axis=0)
    found, plain = (objective(weight, value, gram) for value in (round_rows(weight, gram), nearest(weight)))
    assert (found >= best - 1e-12).all()
    assert np.isclose(found, best).mean() > 0.4
    assert found.sum() - best.sum() < 0.25 * (plain.sum() - best.sum())


def test_a_row_of_zeros_and_a_single_weight_stay():
    rows = np.array([[[0.0, 0.0, 0.0], [0.0, -0.3, 0.0]]])
    assert np.array_equal(round_rows(rows, gram_of(1, 3, np.random.default_rng(0))), rows)


LAYERS = {
    "dense": ((6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    "pointwise": ((6, 4, 1, 1), {}),
    "depthwise": ((4, 1, 3, 3), {"group": 4, "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "two rows a channel": ((8, 1, 5, 5), {"group": 4, "pads": [2, 2, 2, 2]}),
    "grouped": ((6, 2, 3, 3), {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 2]}),
    "dilated": ((5, 4, 3, 2), {"dilations": [2, 3], "pads": [2, 1, 1, 2]}),
    "same, upper": ((5, 4, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same, lower": ((5, 4, 2, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "valid": ((5, 4, 3, 3), {"auto_pad": "VALID"}),
}


def model_of(nodes: list, constants: dict[str, np.ndarray], shape: list, output: str = "y"):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0]


def constant(model, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_gram_matrix_says_what_the_graph_does(kind, monkeypatch):
    """‖(Ŵ − W)x‖² from G is the mean square by which the outputs of the graph really move, places sampled or not."""
    monkeypatch.setattr(rounding, "POSITIONS", 10**6)
    rng = np.random.default_rng(3)
    shape, attributes = LAYERS[kind]
    weight = rng.normal(size=shape).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], "layer", **attributes)
    model, images = model_of([node], {"w": weight}, [4, 9, 8]), rng.random((20, 4, 9, 8), np.float32)
    (gram,) = grams(model, [node], [weight], images)
    groups = attributes.get("group", 1)
    rows = weight.reshape(groups, len(weight) // groups, -1)
    moved = nearest(rows, levels=7)
    expected = objective(rows, moved, gram).reshape(-1)
    other = model_of([node], {"w": moved.reshape(shape)}, [4, 9, 8])
    measured = np.square(answers(other, images) - answers(model, images)).mean(axis=(0, 2, 3))
    assert measured == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("places", "near"), [(64, 0.2), (16, 0.3)])
def test_some_places_say_nearly_what_all_do(monkeypatch, places, near):
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(6, 4, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], "layer")
    model, images = model_of([node], {"w": weight}, [4, 20, 20]), rng.random((32, 4, 20, 20), np.float32)
    monkeypatch.setattr(rounding, "POSITIONS", 10**6)
    (every,) = grams(model, [node], [weight], images)
    monkeypatch.setattr(rounding, "POSITIONS", places)
    (some,) = grams(model, [node], [weight], images)
    assert not np.array_equal(some, every)
    assert some == pytest.approx(every, rel=near)


def network():
    """Convolutions of every kind, then a product and a Gemm of either orientation: node names are layers' names."""
    rng = np.random.default_rng(5)
    constants = {
        "stem.w": rng.normal(size=(8, 3, 3, 3)),
        "stem.b": rng.normal(size=8),
        "deep.w": rng.normal(size=(8, 1, 3, 3)),
        "group.w": rng.normal(size=(12, 4, 1, 1)),
        "matrix.w": rng.normal(size=(12, 10)),
        "gemm.w": rng.normal(size=(10, 7)),
        "gemm.b": rng.normal(size=7),
        "turned.w": rng.normal(size=(5, 7)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["a"], "stem", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["ra"], "relu"),
        helper.make_node("Conv", ["ra", "deep.w"], ["b"], "deep", group=8, pads=[1] * 4),
        helper.make_node("Conv", ["b", "group.w"], ["c"], "group", group=2),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], "pool"),
        helper.make_node("Flatten", ["d"], ["e"], "flatten"),
        helper.make_node("MatMul", ["e", "matrix.w"], ["f"], "matrix"),
        helper.make_node("Gemm", ["f", "gemm.w", "gemm.b"], ["g"], "gemm"),
        helper.make_node("Gemm", ["g", "turned.w"], ["y"], "turned", transB=1),
    ]
    return model_of(nodes, constants, [3, 16, 16]), rng.random((24, 3, 16, 16), np.float32)


NAMES = ("stem", "deep", "group", "matrix", "gemm", "turned")
AXES = {"matrix": 1, "gemm": 1}
"""Axis of the output channels, where it is not the first."""


def quantised(model, images: np.ndarray, reduce_range: bool = False) -> dict[str, np.ndarray]:
    """The INT8 weights that ONNX Runtime's quantiser finds for a model, by the layer's name."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    tensors = {name for node in model.graph.node for name in (*node.input[:1], *node.output)}
    ranges = {name: TensorData(lowest=np.float32(-9), highest=np.float32(9)) for name in tensors}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        extra_options={"WeightSymmetric": True, "AddQDQPairToWeight": False, "QuantizeBias": True},
    )
    quantizer.quantize_model()
    return {name: constant(quantizer.model.model, f"{name}.w_quantized") for name in NAMES}


@pytest.mark.parametrize(("levels", "reduce_range"), [(127, False), (64, True)])
def test_onnx_runtimes_quantiser_finds_the_integers_that_were_chosen(levels, reduce_range):
    model, images = network()
    rounded = round_weights(model, images, levels=levels)
    found = quantised(rounded, images, reduce_range)
    plain = quantised(network()[0], images, reduce_range)
    for name in NAMES:
        axes = tuple(axis for axis in range(found[name].ndim) if axis != AXES.get(name, 0))
        weight = constant(model, f"{name}.w")
        step = np.abs(weight).max(axis=axes, keepdims=True) / levels
        chosen = constant(rounded, f"{name}.w") / step
        assert np.abs(chosen - np.rint(chosen)).max() < 1e-3
        assert np.array_equal(found[name], np.rint(chosen))
        assert (np.abs(found[name]).max(axis=axes) == levels).all()
        assert (np.abs(found[name] - weight / step) < 1 + 1e-3).all()
        assert not np.array_equal(found[name], plain[name])


def test_each_layers_own_output_moves_less_than_by_the_nearest():
    """On the inputs that each layer has in the float model."""
    model, images = network()
    rounded = round_weights(model, images)
    nodes = {node.name: node for node in model.graph.node}
    for name in NAMES:
        weight, better = constant(model, f"{name}.w"), constant(rounded, f"{name}.w")
        (gram,) = grams(model, [nodes[name]], [weight], images)
        rows, found = (rounding._rows(nodes[name], value) for value in (weight, better))
        assert objective(rows, found, gram).sum() < 0.8 * objective(rows, nearest(rows), gram).sum()


def test_what_is_kept_and_all_that_is_no_weight_stays():
    model, images = network()
    before = model.SerializeToString()
    rounded = round_weights(model, images, ("deep", "gemm"))
    assert model.SerializeToString() == before
    changed = {
        t.name
        for t in model.graph.initializer
        if not np.array_equal(constant(rounded, t.name), numpy_helper.to_array(t))
    }
    assert changed == {"stem.w", "group.w", "matrix.w", "turned.w"}
    assert rounded.graph.node == model.graph.node


def test_a_weight_that_two_layers_share_and_a_product_of_activations_stay():
    weight = np.random.default_rng(6).normal(size=(4, 4))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "w"], ["b"], "second"),
        helper.make_node("Transpose", ["b"], ["t"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["b", "t"], ["y"], "both"),
    ]
    model = model_of(nodes, {"w": weight}, [3, 4])
    images = np.random.default_rng(6).random((5, 3, 4), np.float32)
    assert round_weights(model, images).graph == model.graph


def test_more_layers_than_are_held_at_once_give_the_same(monkeypatch):
    model, images = network()
    monkeypatch.setattr(rounding, "POSITIONS", 10**6)
    together = round_weights(model, images)
    monkeypatch.setattr(rounding, "LAYERS", 2)
    apart = round_weights(model, images)
    for name in NAMES:
        assert np.array_equal(constant(together, f"{name}.w"), constant(apart, f"{name}.w"))


def test_no_pictures_are_refused():
    model, images = network()
    with pytest.raises(InputError, match="received no pictures; expected at least 1"):
        round_weights(model, images[:0])
