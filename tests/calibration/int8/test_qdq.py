"""Q/DQ graphs of a net of four products: what is quantised, how, from what ranges, and what is left in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
pytest.importorskip("sympy", reason="sympy is not installed (pip install 'edgepress[quantize]')")
from onnx import helper, numpy_helper  # noqa: E402

from edgepress.calibration.int8.qdq import (  # noqa: E402
    OnnxQuantizer,
    check_qdq,
    convolutions_in_int8,
    float_products,
)
from edgepress.multilabel.errors import InputError  # noqa: E402
from tests.calibration.int8.small_graph import MEANS, PICTURES, PRODUCTS, attending_graph, small_graph  # noqa: E402

TARGETS = ("onnxruntime", "tensorrt")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """A file written to a wrong place is not found there by another test."""
    monkeypatch.chdir(tmp_path)


def make(folder: Path, target: str = "onnxruntime", model=None, **settings) -> OnnxQuantizer:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model or small_graph(), folder / "float.onnx")
    return OnnxQuantizer(folder / "float.onnx", folder, PICTURES, target, **settings)


@pytest.fixture(scope="module")
def quantizers(tmp_path_factory) -> dict[str, OnnxQuantizer]:
    return {target: make(tmp_path_factory.mktemp(target), target) for target in TARGETS}


def constants(model) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def in_int8(model) -> set[str]:
    """Names of the nodes that read two dequantised tensors."""
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in model.graph.node if dequantised.issuperset(node.input[:2])}


def activation_range(model, name: str) -> tuple[float, float]:
    """Lowest and highest value that a tensor's scale and zero point can say."""
    known = constants(model)
    scale, zero = known[f"{name}_scale"], known[f"{name}_zero_point"]
    ends = np.iinfo(zero.dtype)
    return (ends.min - int(zero)) * float(scale), (ends.max - int(zero)) * float(scale)


def answers(model) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, {"images": PICTURES}
    )[0]


@pytest.mark.parametrize("target", TARGETS)
def test_all_products_are_found_with_their_weights_and_multiplications(quantizers, target):
    found = quantizers[target]
    assert found.products == PRODUCTS
    assert found.macs == {"stem": 8 * 64 * 27, "deep": 8 * 64 * 9, "wide": 12 * 64 * 8, "head": 60}
    bias = {"stem": 8, "deep": 8, "wide": 0, "head": 5}
    assert found.weights == {name: size + bias[name] for name, size in zip(PRODUCTS, (216, 72, 96, 60), strict=True)}


@pytest.mark.parametrize("target", TARGETS)
def test_int8_is_near_float_and_every_product_is_in_it(target, tmp_path):
    make(tmp_path, target).write(tmp_path / "int8.onnx", "min-max")
    model = onnx.load(tmp_path / "int8.onnx")
    # Of what is behind the last convolution only the product wins anything, and TensorRT takes nothing else at all.
    assert in_int8(model) == {*PRODUCTS, *(["sum"] if target == "onnxruntime" else [])}
    assert float_products(tmp_path / "int8.onnx") == ()
    assert convolutions_in_int8(tmp_path / "int8.onnx") == (3, 3)
    expected = answers(small_graph())
    noise = np.square(answers(model) - expected).sum() / np.square(expected).sum()
    assert 0 < noise < 0.01


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_kept_is_in_float(quantizers, target, tmp_path):
    kept = ("deep", "head")
    quantizers[target].write(tmp_path / "int8.onnx", "min-max", kept)
    assert float_products(tmp_path / "int8.onnx") == kept
    assert convolutions_in_int8(tmp_path / "int8.onnx") == (2, 3)
    assert OnnxQuantizer.float_nodes(tmp_path / "int8.onnx", PRODUCTS) == kept
    assert OnnxQuantizer.float_nodes(tmp_path / "int8.onnx", ["stem", "head"]) == ("head",)


def test_a_product_with_one_float_side_is_no_int8(quantizers, tmp_path):
    model = quantizers["onnxruntime"].quantized("min-max")
    for node in model.graph.node:
        if node.name == "wide":
            node.input[0] = "stray"
    onnx.save(model, tmp_path / "stray.onnx")
    assert float_products(tmp_path / "stray.onnx") == ("wide",)


@pytest.mark.parametrize("target", TARGETS)
def test_weights_have_a_scale_a_channel_and_are_symmetric(quantizers, target):
    known = constants(quantizers[target].quantized("min-max"))
    weight = "pixels_weight" if target == "onnxruntime" else "stem.w"
    assert known[f"{weight}_scale"].shape == (8,)
    largest = np.abs(known[f"{weight}_quantized"].astype(int)).max(axis=(1, 2, 3))
    assert (largest == 127).all()
    for name, value in known.items():
        if name.endswith(".w_zero_point"):
            assert value.dtype == np.int8, name
            assert not value.any(), name


@pytest.mark.parametrize("target", TARGETS)
def test_seven_bits_are_half_of_eight(tmp_path, target):
    known = constants(make(tmp_path, target, weight_bits=7).quantized("min-max"))
    weights = [value for name, value in known.items() if name.endswith("_quantized") and value.dtype == np.int8]
    assert {int(np.abs(value.astype(int)).max()) for value in weights} == {64}


def test_onnx_runtime_gets_uint8_from_low_to_high_and_int32_biases(quantizers):
    found = quantizers["onnxruntime"]
    model = found.quantized("min-max")
    known = constants(model)
    assert known["pooled_zero_point"].dtype == np.uint8
    assert known["deep.b_quantized"].dtype == np.int32
    assert activation_range(model, "pooled") == pytest.approx(found.ranges.limits["pooled"], rel=0.01)
    assert activation_range(model, "answers") == pytest.approx(found.ranges.limits["answers"], rel=0.01)


def test_pixels_are_their_own_int8(tmp_path):
    """The range of a picture's bytes is known, whatever these pictures hold: a level is one of 256."""
    found = make(tmp_path / "found")
    assert found.zero == round(np.mean(MEANS)) == 114
    assert make(tmp_path / "other", "tensorrt").zero is None
    for method in ("min-max", "percentile-99.9"):
        known = constants(found.quantized(method))
        assert known["pixels_centred_scale"] == 1
        assert known["pixels_centred_zero_point"] == 114


def test_tensorrt_gets_symmetric_int8_float_biases_and_activations_before_they_are_rounded(quantizers):
    found = quantizers["tensorrt"]
    model = found.quantized("min-max")
    known = constants(model)
    assert known["deep.b"].dtype == np.float32
    assert not [name for name in known if name.startswith(("deep.b_", "b_", "cb_", "c_", "answers_"))]
    assert known["ra_zero_point"] == 0
    assert known["ra_zero_point"].dtype == np.int8
    highest = max(np.abs(found.ranges.limits["pooled"]))
    assert activation_range(model, "pooled")[1] == pytest.approx(highest, rel=0.01)
    operators = {node.op_type for node in model.graph.node}
    assert {"Relu", "Clip", "ReduceMean"} <= operators


def test_a_method_sets_the_ranges_and_may_be_asked_again(quantizers):
    found = quantizers["onnxruntime"]
    graphs = {method: found.quantized(method) for method in ("min-max", "percentile-99.9", "entropy")}
    widths = {method: np.ptp(activation_range(model, "ra")) for method, model in graphs.items()}
    for method, width in widths.items():
        low, high = found.ranges.by(method)["ra"]
        assert width == pytest.approx(high - low, rel=0.01), method
    assert widths["min-max"] > widths["percentile-99.9"]
    assert found.quantized("min-max").SerializeToString() == graphs["min-max"].SerializeToString()


@pytest.mark.parametrize(
    ("node", "ends"), [("stem", "relu"), ("deep", "clip"), ("wide", None), ("head", None)], ids=PRODUCTS
)
@pytest.mark.parametrize("target", TARGETS)
def test_one_node_alone_with_the_activation_behind_it(quantizers, target, node, ends):
    model = quantizers[target].only(node, "min-max")
    assert in_int8(model) == {node}
    if target == "onnxruntime" and ends:
        # Behind the activation, which is in the range then, the result is rounded; between them it is not.
        rounded = {other.input[0] for other in model.graph.node if other.op_type == "QuantizeLinear"}
        assert {"relu": "ra", "clip": "cb"}[ends] in rounded
        assert {"relu": "a", "clip": "b"}[ends] not in rounded
        assert ends not in {other.name for other in model.graph.node}
    expected = answers(small_graph())
    noise = np.square(answers(model) - expected).sum() / np.square(expected).sum()
    assert 0 < noise < 0.01


def test_nothing_that_is_asked_for_changes_the_float_model(tmp_path):
    found = make(tmp_path)
    before = found.float_model.SerializeToString()
    found.quantized("min-max", ("stem",))
    found.only("deep", "min-max")
    assert found.float_model.SerializeToString() == before
    assert onnx.load(found.prepared).SerializeToString() == before


def test_structure_is_the_operators_and_what_is_in_float(quantizers, tmp_path):
    def structure(*arguments) -> tuple:
        quantizers["onnxruntime"].write(tmp_path / "int8.onnx", *arguments)
        return OnnxQuantizer.structure(tmp_path / "int8.onnx")

    plain, operators = structure("min-max"), dict(structure("min-max")[0])
    assert plain == structure("percentile-99.9")
    assert (operators["Conv"], operators["Gemm"], plain[1]) == (3, 1, ())
    assert structure("min-max", ("wide",)) != plain
    # The same operators, another convolution in float: another time.
    assert structure("min-max", ("stem", "wide"))[1] == ("stem", "wide")
    assert hash(plain) == hash(structure("entropy"))


def test_the_calibrators_print_nothing(tmp_path, capsys):
    make(tmp_path).quantized("entropy")
    assert capsys.readouterr().out == ""


def pooling_only():
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=1),
        helper.make_node("ReduceMean", ["float"], ["logits"], "pool", keepdims=0),
    ]
    model = small_graph()
    graph = helper.make_graph(nodes, "none", model.graph.input, [helper.make_tensor_value_info("logits", 1, None)])
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=10)


def test_a_graph_without_products_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"^.*float\.onnx: no convolution or matrix product to quantise$"):
        make(tmp_path, model=pooling_only())


def test_operators_are_counted_and_float_is_no_int8(quantizers, tmp_path):
    quantizers["onnxruntime"].write(tmp_path / "int8.onnx", "min-max")
    counts = check_qdq(tmp_path / "int8.onnx", "onnxruntime")
    assert (counts["Conv"], counts["Gemm"], counts["QuantizeLinear"]) == (3, 1, 6)
    onnx.save(small_graph(), tmp_path / "float.onnx")
    for target in TARGETS:
        with pytest.raises(
            InputError, match=r"float\.onnx: no DequantizeLinear in the graph; it is not an INT8 model$"
        ):
            check_qdq(tmp_path / "float.onnx", target)


def test_tensorrt_takes_only_int8_zero_points_of_zero(quantizers, tmp_path):
    quantizers["tensorrt"].write(tmp_path / "int8.onnx", "min-max")
    assert check_qdq(tmp_path / "int8.onnx", "tensorrt")["DequantizeLinear"] > 4
    quantizers["onnxruntime"].write(tmp_path / "uint8.onnx", "min-max")
    with pytest.raises(InputError, match=r"uint8\.onnx: .+ has a u?int\d+ zero point; TensorRT takes INT8, 0$"):
        check_qdq(tmp_path / "uint8.onnx", "tensorrt")


@pytest.mark.parametrize("changed", ["ra_zero_point", "head.w_zero_point"])
@pytest.mark.parametrize("value", [np.int8(3), np.uint8(0)])
def test_any_one_zero_point_that_tensorrt_would_misread_is_seen(quantizers, tmp_path, changed, value):
    model = quantizers["tensorrt"].quantized("min-max")
    for tensor in model.graph.initializer:
        if tensor.name == changed:
            zero = np.full(tuple(tensor.dims), value, value.dtype)
            tensor.CopyFrom(numpy_helper.from_array(zero, changed))
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(InputError, match=f"has a {value.dtype} zero point; TensorRT takes INT8, 0"):
        check_qdq(tmp_path / "changed.onnx", "tensorrt")


def test_what_rounds_is_checked_as_what_reads(quantizers, tmp_path):
    model = quantizers["tensorrt"].quantized("min-max")
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(0), "other"))
    (node,) = (node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "ra")
    node.input[2] = "other"
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(InputError, match="ra_QuantizeLinear has a uint8 zero point"):
        check_qdq(tmp_path / "changed.onnx", "tensorrt")


def test_a_quantiser_without_zero_points_is_symmetric(quantizers, tmp_path):
    """The third input is optional, and 0 where it is missing."""
    model = quantizers["tensorrt"].quantized("min-max")
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[2].startswith("ra"):
            del node.input[2]
    onnx.save(model, tmp_path / "short.onnx")
    assert check_qdq(tmp_path / "short.onnx", "tensorrt")["Conv"] == 3


@pytest.mark.parametrize("target", TARGETS)
def test_a_flat_softmax_has_a_range_that_every_onnx_runtime_answers(tmp_path, target):
    """ONNX Runtime 1.30.0 and 1.31.1 answer one row for every picture where it has the measured range."""
    model = attending_graph()
    quantizer = make(tmp_path, target, model)
    high = quantizer.ranges.limits["attention"][1]
    assert high * 64 < 1.7  # as flat as it takes
    made = quantizer.quantized("min-max")
    scale, top = constants(made)["attention_scale"], 255 if target == "onnxruntime" else 127
    assert float(scale) * top == pytest.approx(2 / 64)
    assert activation_range(made, "attention")[1] > high
    difference = np.abs(answers(made) - answers(model)).max()
    assert difference < (0.1 if target == "onnxruntime" else 1)
    assert answers(made).std(axis=0).min() > 0.05  # another row for another picture
