"""Converting to ncnn: equal answers whatever the size, nodes' names, and one line for what cannot be converted."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.multilabel import ncnn_model as converting
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.ncnn_model import ncnn_model
from edgepress.multilabel.ncnn_network import answer, network
from edgepress.multilabel.onnx_session import cpu_session
from tests.ncnn import require_ncnn

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)


def tagger(path: Path, *more: Any, last: str = "means", size: int = 9, **constants: np.ndarray) -> Path:
    """A convolution of pictures whose rows of pixels ncnn would pad, the means of its channels, and what is given."""
    weights = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["maps"], "conv", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("ReduceMean", ["maps", "axes"], ["means"], "mean", keepdims=0),
        *more,
    ]
    constants = {"weights": weights, "axes": np.array([2, 3], np.int64), **constants}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize("size", [8, 9, 13])
def test_it_answers_as_the_onnx_whatever_the_size(tmp_path, size):
    require_ncnn()
    source = tagger(tmp_path / "tagger.onnx", size=size)
    before = source.read_bytes()
    net = network(*ncnn_model(source, half=False), threads=1)
    images = RNG.integers(0, 256, (3, size, size, 3), np.uint8)
    (expected,) = cpu_session(source).run(None, {"images": images})
    assert np.abs(np.stack([answer(net, image) for image in images]) - expected).max() < 1e-3
    assert source.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["tagger.onnx"]


def test_an_operator_that_ncnn_lacks_is_one_line(tmp_path):
    require_ncnn()
    source = tagger(tmp_path / "a.onnx", helper.make_node("Det", ["means"], ["logits"]), last="logits")
    onnx.save(onnx.load(str(source)), str(source))
    with pytest.raises(InputError, match=r"a\.onnx: ") as error:
        ncnn_model(source, half=False)
    assert "\n" not in str(error.value)


def test_pictures_that_are_not_cast_are_refused(tmp_path):
    require_ncnn()
    source = tagger(tmp_path / "a.onnx")
    model = onnx.load(str(source))
    model.graph.node[0].op_type = "Identity"
    onnx.save(model, str(source))
    with pytest.raises(InputError, match=r"a\.onnx: its pictures are read by Conv; expected one Cast to float32"):
        ncnn_model(source, half=False)


def test_a_batch_that_is_fixed_is_refused(tmp_path):
    require_ncnn()
    nodes = [helper.make_node("Reshape", ["means", "one"], ["logits"])]
    source = tagger(tmp_path / "one.onnx", *nodes, last="logits", one=np.array([1, 4], np.int64))
    with pytest.raises(InputError, match=r"one\.onnx: ONNX Runtime cannot run it: .*Reshape node"):
        ncnn_model(source, half=False)


def test_a_conversion_that_fails_is_one_line(tmp_path, monkeypatch):
    require_ncnn()

    def fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 255, "reading\nno such thing\n", "")

    monkeypatch.setattr(converting.subprocess, "run", fails)
    with pytest.raises(
        InputError, match=r"cannot convert it: it ends with 255; its last line: no such thing; take another runtime$"
    ):
        ncnn_model(tagger(tmp_path / "a.onnx"), half=False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda weights: 1.1 * weights, r"a logit differs by [\d.]+ from ONNX Runtime's, and"),
        (lambda weights: weights[:3], r"its logits are \[\d+, 3\], and ONNX Runtime's are \[\d+, 4\]"),
    ],
)
def test_another_answer_than_onnx_runtimes_is_refused(tmp_path, monkeypatch, wrong, said):
    """As if pnnx had read a weight wrongly, or left some out."""
    require_ncnn()
    run = subprocess.run

    def errs(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        graph = onnx.load(command[1])
        weights = next(tensor for tensor in graph.graph.initializer if tensor.name == "weights")
        weights.CopyFrom(numpy_helper.from_array(wrong(numpy_helper.to_array(weights)), "weights"))
        onnx.save(graph, command[1])
        return run(command, **settings)

    monkeypatch.setattr(converting.subprocess, "run", errs)
    with pytest.raises(InputError, match=rf"answers otherwise: {said}.*take another runtime$"):
        ncnn_model(tagger(tmp_path / "a.onnx"), half=False)


def test_a_layer_has_the_name_of_the_node_whose_weights_it_holds(tmp_path):
    require_ncnn()
    wide = {"first": RNG.normal(size=(6, 4, 1, 1)), "second": RNG.normal(size=(4, 6, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["maps", "first"], ["six"], "a name with spaces"),
        helper.make_node("Conv", ["six", "second"], ["four"], "second"),
        helper.make_node("ReduceMean", ["four", "axes"], ["logits"], "mean of four", keepdims=0),
    ]
    constants = {name: values.astype(np.float32) for name, values in wide.items()}
    graph, _ = ncnn_model(tagger(tmp_path / "a.onnx", *nodes, last="logits", **constants), half=False)
    names = [line.split()[1] for line in graph.decode().splitlines() if line.startswith("Convolution ")]
    assert (len(names), names[0], names[2]) == (3, "conv", "second")
    assert "spaces" not in graph.decode()  # a name that ncnn could not read


TOKENS = (
    helper.make_node("Reshape", ["maps", "flat"], ["rows"], "rows"),
    helper.make_node("Transpose", ["rows"], ["tokens"], "tokens", perm=[0, 2, 1]),
    helper.make_node("ReduceMean", ["tokens", "one"], ["mean"], "mean of tokens", keepdims=0),
    helper.make_node("Gemm", ["mean", "w", "b"], ["logits"], "head", transB=1),
)
MIXED = (
    helper.make_node("ReduceMean", ["maps", "one"], ["mean"], "over channels", keepdims=1),
    helper.make_node("Mul", ["maps", "mean"], ["scaled"], "scaled"),
    helper.make_node("ReduceMean", ["scaled", "axes"], ["logits"], "over places", keepdims=0),
)
BARE = (helper.make_node("Gemm", ["means", "w"], ["logits"], "head"),)  # findings/pnnx-gemm-without-bias.sh
MEANS = helper.make_node("ReduceMean", ["powers", "axes"], ["logits"], "over places", keepdims=0)
CUBES = (helper.make_node("Pow", ["maps", "three"], ["powers"], "cubes"), MEANS)
FOURTHS = (helper.make_node("Pow", ["maps", "four"], ["powers"], "fourths"), MEANS)
TWO = (
    helper.make_node("Gemm", ["means", "w", "b"], ["first"], "first", transB=1),
    helper.make_node("Relu", ["first"], ["relu"], "relu"),
    helper.make_node("Gemm", ["relu", "w", "b"], ["logits"], "second"),
)


@pytest.mark.parametrize(
    "nodes",
    [TOKENS, MIXED, TWO, BARE, CUBES, FOURTHS],
    ids=["linear head", "mean over channels", "two products", "no bias", "cubes", "fourths"],
)
def test_what_pnnx_would_convert_wrongly_is_rewritten(tmp_path, nodes):
    require_ncnn()
    constants = {"flat": np.array([0, 4, -1], np.int64), "one": np.array([1], np.int64)}
    constants |= {"three": np.array(3, np.float32), "four": np.array(4, np.float32)}
    constants |= {"w": RNG.normal(size=(4, 4)).astype(np.float32), "b": RNG.normal(size=4).astype(np.float32)}
    read = {name for node in nodes for name in node.input}
    used = {name: value for name, value in constants.items() if name in read}
    ncnn_model(tagger(tmp_path / "a.onnx", *nodes, last="logits", **used), half=False)  # proves it equal
