"""INT8 models for ncnn: the arithmetic of each kind of layer, and what stays in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepress.calibration.int8 import ncnn as room
from edgepress.calibration.int8.ncnn import NcnnQuantizer, quantized
from edgepress.multilabel.ncnn_layers import Layer, read_layers, written_layers
from edgepress.multilabel.ncnn_network import answer, network, values
from tests.ncnn import require_ncnn

RNG = np.random.default_rng(0)
SIZE = 16
NAMES = ("node_stem", "node_depthwise", "node_groups", "node_pointwise", "node_product")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return RNG.integers(0, 256, (12, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A net with a convolution of each kind in a row, a sum, tokens, and a product of two activations."""
    require_ncnn()
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def node(kind: str, reads: list[str], gives: str, **attributes):
        return helper.make_node(kind, reads, [gives], f"node_{gives}", **attributes)

    kernel = {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        node("Cast", ["images"], "cast", to=TensorProto.FLOAT),
        node("Transpose", ["cast"], "planes", perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "w0", "b0"], "stem", strides=[2, 2], **kernel),
        node("Relu", ["stem"], "relu"),
        node("Conv", ["relu", "w1"], "depthwise", group=16, **kernel),
        node("Conv", ["depthwise", "w2"], "groups", group=2, **kernel),
        node("Add", ["relu", "groups"], "sum"),
        node("Conv", ["sum", "w3"], "pointwise", kernel_shape=[1, 1]),
        node("Reshape", ["pointwise", "flat"], "rows"),
        node("Transpose", ["rows"], "tokens", perm=[0, 2, 1]),
        node("MatMul", ["tokens", "w4"], "product"),
        node("Add", ["product", "b4"], "keys"),
        node("MatMul", ["rows", "keys"], "attention"),
        node("Reshape", ["attention", "all"], "logits"),
    ]
    constants = {
        "w0": RNG.normal(size=(16, 3, 3, 3)) / 255,
        "b0": RNG.normal(size=16),
        "w1": RNG.normal(size=(16, 1, 3, 3)),
        "w2": RNG.normal(size=(16, 8, 3, 3)) / 8,
        "w3": RNG.normal(size=(8, 16, 1, 1)),
        "w4": RNG.normal(size=(8, 5)),
        "b4": RNG.normal(size=5),
    }
    numbers = {"flat": np.array([0, 8, 64], np.int64), "all": np.array([0, 40], np.int64)}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 40])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
        + [numpy_helper.from_array(value, name) for name, value in numbers.items()],
    )
    file = tmp_path_factory.mktemp("ncnn") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(file))
    return file


@pytest.fixture(scope="module")
def quantizer(source, images) -> NcnnQuantizer:
    return NcnnQuantizer(source, images)


@pytest.fixture(scope="module")
def made(quantizer, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("quantized") / "model.param"
    assert quantizer.write(file, "min-max")
    return file


def opened(file: Path):
    return network(file.read_bytes(), file.with_suffix(".bin").read_bytes(), threads=1)


def test_products_have_the_names_of_their_onnx_nodes_and_groups_stay_in_float(quantizer, made):
    assert {name: layer.type for name, layer in quantizer.found.items()} == {
        "node_stem": "Convolution",
        "node_depthwise": "ConvolutionDepthWise",
        "node_pointwise": "Convolution",
        "node_product": "Gemm",
    }
    assert NcnnQuantizer.float_nodes(made, list(NAMES)) == ("node_groups",)


def test_what_is_kept_is_in_float_and_has_its_own_bytes(quantizer, tmp_path):
    quantizer.write(tmp_path / "kept.param", "min-max", ("node_stem", "node_product"))
    assert NcnnQuantizer.float_nodes(tmp_path / "kept.param", list(NAMES)) == (
        "node_stem",
        "node_groups",
        "node_product",
    )
    kept = read_layers(*(tmp_path.joinpath(f"kept.{ending}").read_bytes() for ending in ("param", "bin")))
    before = {layer.name: layer for layer in quantizer.layers}
    assert all(layer == before[layer.name] for layer in kept if layer.name in ("node_stem", "node_product"))


def test_structure_is_what_is_in_int8_and_not_how_it_was_scaled(quantizer, made, tmp_path):
    quantizer.write(tmp_path / "narrow.param", "percentile-99.9")
    quantizer.write(tmp_path / "kept.param", "min-max", ("node_stem",))
    assert NcnnQuantizer.structure(tmp_path / "narrow.param") == NcnnQuantizer.structure(made)
    assert NcnnQuantizer.structure(tmp_path / "kept.param") != NcnnQuantizer.structure(made)


def test_answers_are_near_the_float_models(quantizer, made, images):
    exact = np.stack([answer(quantizer._network, image) for image in images])
    found = np.stack([answer(opened(made), image) for image in images])
    noise = float(((exact - found) ** 2).sum())
    assert 0 < noise < 0.01 * float((exact**2).sum())


def convolution(*, channels: int, given: int, side: int, stride: int = 1, depthwise: bool = False, **params) -> Layer:
    weights = RNG.normal(size=(channels, 1 if depthwise else given, side, side)).astype("<f4")
    bias = RNG.normal(size=channels).astype("<f4")
    sizes = {"0": channels, "1": side, "3": stride, "4": side // 2, "5": 1, "6": weights.size}
    return Layer(
        type="ConvolutionDepthWise" if depthwise else "Convolution",
        name="layer",
        reads=("in0",),
        gives=("out0",),
        params={
            key: str(value) for key, value in {**sizes, **({"7": channels} if depthwise else {}), **params}.items()
        },
        weights=bytes(4) + weights.tobytes() + bias.tobytes(),
    )


def gemm(*, channels: int, given: int) -> Layer:
    weights, bias = (RNG.normal(size=size).astype("<f4") for size in ((channels, given), (1, channels)))
    sizes = {"3": 1, "5": 1, "6": 1, "7": 0, "8": channels, "9": given, "10": 4}
    return Layer(
        type="Gemm",
        name="layer",
        reads=("in0",),
        gives=("out0",),
        params={key: str(value) for key, value in sizes.items()},
        weights=bytes(4) + weights.tobytes() + bytes(4) + bias.tobytes(),
    )


def in_whole_numbers(layer: Layer, given: np.ndarray, largest: float) -> np.ndarray:
    """What a convolution of INT8 values gives, computed here in exact arithmetic."""
    groups, side, stride = (int(layer.params.get(number, 1)) for number in ("7", "1", "3"))
    channels, count = int(layer.params["0"]), int(layer.params["6"])
    weights = np.frombuffer(layer.weights, "<f4", count, 4).reshape(channels, -1, side, side).astype(np.float64)
    bias = np.frombuffer(layer.weights, "<f4", channels, 4 + 4 * count).astype(np.float64)
    steps = 127 / np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    whole = np.clip(np.round(given.astype(np.float64) * 127 / largest), -127, 127)
    padded = np.pad(whole, ((0, 0), *[(side // 2, side // 2)] * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    parts = zip(np.split(windows, groups), np.split(np.round(weights * steps), groups), strict=True)
    sums = np.concatenate([np.einsum("chwij,ocij->ohw", *part) for part in parts])
    return sums * largest / 127 / steps[:, 0] + bias[:, None, None]


@pytest.mark.parametrize(
    ("layer", "given"),
    [
        (convolution(channels=16, given=24, side=1), (24, 9, 9)),
        (convolution(channels=9, given=5, side=3, stride=2), (5, 9, 9)),
        (convolution(channels=16, given=16, side=3), (16, 12, 12)),
        (convolution(channels=16, given=16, side=3, depthwise=True), (16, 9, 9)),
        (convolution(channels=6, given=6, side=5, stride=2, depthwise=True), (6, 11, 11)),
    ],
    ids=["1x1", "3x3, stride 2", "3x3", "depthwise", "depthwise, odd channels"],
)
def test_a_convolution_computes_in_whole_numbers(layer, given):
    require_ncnn()
    values_given = RNG.normal(size=given).astype(np.float32)
    largest = float(np.abs(values_given).max()) / 1.5  # so that some are cut
    found = run(quantized([layer], {"layer"}, {"in0": largest}), values_given)
    expected = in_whole_numbers(layer, values_given, largest)
    # ncnn's depthwise kernel on x86 divides by an estimate of 12 bits.
    assert np.abs(found - expected).max() < 5e-4 * np.abs(expected).max()


def run(layers: list[Layer], given: np.ndarray) -> np.ndarray:
    read = Layer(type="Input", name="given", reads=(), gives=("in0",), params={})
    return values(network(*written_layers([read, *layers]), threads=1), given, ["out0"])["out0"]


def test_rows_are_multiplied_in_whole_numbers():
    require_ncnn()
    layer, given = gemm(channels=8, given=16), RNG.normal(size=(5, 16)).astype(np.float32)
    weights = np.frombuffer(layer.weights, "<f4", 128, 4).reshape(8, 16).astype(np.float64)
    bias = np.frombuffer(layer.weights, "<f4", 8, 8 + 4 * 128)
    rows, step = 127 / np.abs(given).max(axis=1, keepdims=True), 127 / np.abs(weights).max()
    expected = np.round(given * rows) @ np.round(weights * step).T / rows / step + bias
    found = run(quantized([layer], {"layer"}, {}), given)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_largest_sums_of_a_3x3_convolution_are_right():
    """Winograd's form, which is forbidden to it, overflows here (findings/ncnn-int8-winograd.sh)."""
    require_ncnn()
    layer = convolution(channels=16, given=64, side=3)
    ones = np.ones(64 * 16 * 9, "<f4")
    layer = Layer(**{**vars(layer), "weights": bytes(4) + ones.tobytes() + bytes(4 * 16)})
    stripes = np.array([1, -1, -1, 1] * 5, np.float32)
    given = np.broadcast_to(np.outer(stripes, stripes)[1:-1, 1:-1], (64, 18, 18)).copy()
    found = run(quantized([layer], {"layer"}, {"in0": 1.0}), given)
    assert np.abs(found - in_whole_numbers(layer, given, 1.0)).max() < 0.01


@pytest.mark.parametrize(
    "activation", [{}, {"9": 1}, {"9": 3, "-23310": "2,0.0,1.5"}, {"9": 6, "-23310": "2,0.1667,0.5"}]
)
@pytest.mark.parametrize("depthwise", [False, True])
def test_values_that_stay_in_int8_between_convolutions_are_those_that_would_be_quantised_again(activation, depthwise):
    require_ncnn()
    first = convolution(channels=16, given=16, side=3, depthwise=depthwise, **activation)
    first = Layer(**{**vars(first), "name": "first", "gives": ("between",)})
    second = convolution(channels=8, given=16, side=1)
    second = Layer(**{**vars(second), "reads": ("between",)})
    given = RNG.normal(size=(16, 9, 9)).astype(np.float32)
    largest = {"in0": 3.0, "between": 2.0}
    fused = quantized([first, second], {"first", "layer"}, largest)
    assert fused[0].params["8"] == ("101" if depthwise else "102")
    apart = [quantized([one], {one.name}, largest)[0] for one in (first, second)]
    assert apart[0].params["8"] == ("1" if depthwise else "2")
    found, expected = run(fused, given), run(apart, given)
    # A value on the edge between two steps may go to either.
    assert np.mean(np.abs(found - expected) > 1e-3 * np.abs(expected).max()) < 0.02


def test_a_channel_of_zeros_is_its_bias():
    require_ncnn()
    layer = convolution(channels=8, given=4, side=1)
    weights = np.frombuffer(layer.weights, "<f4").copy()
    weights[1 : 1 + 4] = 0
    layer = Layer(**{**vars(layer), "weights": weights.tobytes()})
    found = run(quantized([layer], {"layer"}, {"in0": 2.0}), RNG.normal(size=(4, 3, 3)).astype(np.float32))
    np.testing.assert_allclose(found[0], weights[1 + 32], rtol=1e-5)


def test_layers_that_are_slower_are_named_unless_all_are(quantizer, monkeypatch):
    taken = iter([1.0, 2.0, 1.0, 0.5, 1.0, 0.5, 1.0, 2.0])
    monkeypatch.setattr(room, "_in_turns", lambda nets, given: [next(taken) for _ in nets])
    assert quantizer.slower_in_int8() == ("node_stem", "node_product")
    monkeypatch.setattr(room, "_in_turns", lambda nets, given: [1.0, 2.0])
    assert quantizer.slower_in_int8() == ()


def test_layers_are_timed_on_what_they_read(quantizer):
    assert set(quantizer.slower_in_int8()) <= set(quantizer.found)


def test_the_same_pictures_give_the_same_bytes_in_any_order(source, made, images, tmp_path):
    NcnnQuantizer(source, images[::-1]).write(tmp_path / "again.param", "min-max")
    for ending in (".param", ".bin"):
        assert (tmp_path / "again.param").with_suffix(ending).read_bytes() == made.with_suffix(ending).read_bytes()
