"""Conversion to LiteRT's format: equal, with no more than is needed, and nothing outside it changed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgepress.multilabel import litert_model as converting  # noqa: E402
from edgepress.multilabel.errors import EngineUnavailableError, InputError  # noqa: E402
from edgepress.multilabel.litert_model import (  # noqa: E402
    INSTALL,
    INSTALL_CONVERTER,
    REDUCED_PRECISION,
    litert_model,
    require_converter,
)
from tests.litert import require_litert  # noqa: E402

SIZE = 8
RNG = np.random.default_rng(0)


def tagger(path: Path, *more: Any, last: str = "means", labels: int = 4, **constants: np.ndarray) -> Path:
    """A convolution of stride 2, whose padding is not TensorFlow's, the means of its channels, and what is given."""
    weights = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv", ["planes", "weights"], ["maps"], "conv", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
        ),
        helper.make_node("ReduceMean", ["maps", "axes"], ["means"], "mean", keepdims=0),
        *more,
    ]
    constants = {"weights": weights, "axes": np.array([2, 3], np.int64), **constants}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", labels])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    return path


def operators(model: bytes) -> Counter[str]:
    from ai_edge_litert.interpreter import Interpreter

    return Counter(
        node["op_name"] for node in Interpreter(model_content=model)._get_ops_details() if node["op_name"] != "DELEGATE"
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    require_litert()
    return tagger(tmp_path_factory.mktemp("onnx") / "tagger.onnx")


@pytest.fixture(scope="module")
def converted(source) -> bytes:
    return litert_model(source)


def test_it_holds_the_networks_operators_alone(converted):
    found = operators(converted)
    assert (found["CAST"], found["PAD"], found["CONV_2D"]) == (1, 1, 1)
    assert set(found) <= {"CAST", "PAD", "CONV_2D", "TRANSPOSE", "MEAN"}


@pytest.mark.parametrize("after", ["Relu", "Neg"])
def test_what_a_padding_holds_and_what_follows_it_is_kept(tmp_path, after):
    """onnx2tf adds zeros to what is padded, and joins a Relu with that sum."""
    require_litert()
    nodes = [
        helper.make_node("Pad", ["maps", "wide", "two"], ["padded"], "pad"),
        helper.make_node(after, ["padded"], ["other"], "after"),
        helper.make_node("ReduceMean", ["other", "axes"], ["logits"], "mean of all", keepdims=0),
    ]
    wide = np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64)
    made = litert_model(tagger(tmp_path / "a.onnx", *nodes, last="logits", wide=wide, two=np.array(2, np.float32)))
    found = operators(made)
    assert (found["PADV2"], found["SLICE"], found["CONCATENATION"]) == (1, 0, 0)


def test_it_may_not_be_computed_in_half_precision(converted):
    """XNNPACK computes a file that says so in half precision on processors that can, whatever its name."""
    assert REDUCED_PRECISION not in converted


def test_it_is_the_same_each_time(source, converted):
    assert litert_model(source) == converted


def test_nothing_else_is_changed(source):
    """onnx2tf writes names into the ONNX file it is given, and changes the process that imports it."""
    before = source.read_bytes(), sys.getrecursionlimit(), warnings.filters[:], np.random.get_state()[1].tolist()
    litert_model(source)
    after = source.read_bytes(), sys.getrecursionlimit(), warnings.filters[:], np.random.get_state()[1].tolist()
    assert before == after
    assert "onnx2tf" not in sys.modules
    assert [file.name for file in source.parent.iterdir()] == ["tagger.onnx"]


@pytest.mark.parametrize("missing", ["onnx2tf", "ai_edge_litert", "litert_quantizer", "sng4onnx"])
def test_what_is_missing_is_told_with_both_commands(monkeypatch, missing):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name) or name)
    with pytest.raises(EngineUnavailableError) as error:
        require_converter()
    assert str(error.value) == f"{missing} is not installed here ({INSTALL})"
    assert "pip install 'edgepress[litert-build]', then pip install --no-deps --ignore-requires-python" in INSTALL


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile", "README.md", "docs/litert.md"])
def test_every_place_that_installs_the_converter_does_it_alike(file):
    said = (Path(__file__).parents[2] / file).read_text(encoding="utf-8")
    found = re.findall(r"pip install[^\n]*(--no-deps --ignore-requires-python onnx2tf==[^\s`]+)", said)
    assert set(found) == {INSTALL_CONVERTER.removeprefix("pip install ")}


def test_a_model_that_litert_cannot_run_is_told(tmp_path):
    require_litert()
    nodes = [
        helper.make_node("Reshape", ["means", "square"], ["matrices"], "square"),
        helper.make_node("Det", ["matrices"], ["det"], "det"),
        helper.make_node("Reshape", ["det", "column"], ["logits"], "column"),
    ]
    shapes = {"square": np.array([-1, 2, 2], np.int64), "column": np.array([-1, 1], np.int64)}
    file = tagger(tmp_path / "a.onnx", *nodes, last="logits", labels=1, **shapes)
    with pytest.raises(InputError, match=r"a\.onnx: onnx2tf [\d.]+ ") as error:
        litert_model(file)
    assert "\n" not in str(error.value)


def test_a_conversion_that_fails_is_one_line(source, monkeypatch):
    def fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        said = "\x1b[31mERROR:\x1b[0m the op Wobble is not supported\n100%|####| 3/3 [00:00, 9it/s]\n"
        return subprocess.CompletedProcess(command, 1, said, "")

    monkeypatch.setattr(converting.subprocess, "run", fails)
    with pytest.raises(
        InputError,
        match=r"onnx2tf [\d.]+ cannot convert it: ERROR: the op Wobble is not supported; take another",
    ):
        litert_model(source)


def test_a_full_disk_is_no_fault_of_the_model(source, monkeypatch):
    said = "Traceback\nOSError: [Errno 28] No space left on device: 'model_float32.tflite'\n"
    monkeypatch.setattr(
        converting.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said)
    )
    with pytest.raises(OSError, match="No space left"):
        litert_model(source)


def test_another_answer_than_onnx_runtimes_is_refused(source, converted, monkeypatch, tmp_path):
    """As if the converter had read a weight wrongly."""
    run = subprocess.run

    def errs(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        given = Path(command[command.index("-i") + 1])
        graph = onnx.load(str(given))
        weights = next(tensor for tensor in graph.graph.initializer if tensor.name == "weights")
        values = numpy_helper.to_array(weights).copy()
        values[0] *= 1.1
        weights.CopyFrom(numpy_helper.from_array(values, "weights"))
        onnx.save(graph, str(given))
        return run(command, **settings)

    monkeypatch.setattr(converting.subprocess, "run", errs)
    with pytest.raises(InputError, match=r"LiteRT answers otherwise: with 1 picture a logit differs by [\d.]+ from"):
        litert_model(source)


def test_a_batch_that_is_fixed_is_refused(tmp_path):
    require_litert()
    nodes = [helper.make_node("Reshape", ["means", "one"], ["logits"])]
    file = tagger(tmp_path / "one.onnx", *nodes, last="logits", one=np.array([1, 4], np.int64))
    with pytest.raises(InputError, match=r"one\.onnx: ONNX Runtime cannot run it: .*Reshape node"):
        litert_model(file)
