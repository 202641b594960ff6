"""TensorRT: what cannot be built is refused in one line, and nothing is left behind."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
import pytest

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt_rtx is not installed (pip install 'edgepress[tensorrt-rtx]')"
)
onnx = pytest.importorskip("onnx", reason="onnx is not installed; the tests make their parents with it")
pytest.importorskip("timm", reason="timm is not installed; the tests export a small model of it")

import edgepress.deploy.build.tensorrt as building  # noqa: E402
from edgepress.deploy.build.tensorrt import build_tensorrt  # noqa: E402
from edgepress.deploy.engines.table import GpuTarget  # noqa: E402
from edgepress.multilabel.bundle import Bundle  # noqa: E402
from edgepress.multilabel.errors import EngineUnavailableError, InputError  # noqa: E402
from tests.deploy.build.tensorrt_parents import wrap  # noqa: E402

pytestmark = pytest.mark.usefixtures("only_rtx")


def test_a_graph_that_does_not_build_is_one_line(parents, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_require_target", lambda *_: None)
    with pytest.raises(InputError, match=r"TensorRT cannot build it for SM75: .*FP32 GEMM is not supported") as error:
        build_tensorrt(parents["fp32"], tmp_path / "engine", GpuTarget(sm=75))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("precision", "sm"), [("fp32", 90), ("fp16", 87), ("fp32", 75), ("int8", 75)])
def test_a_gpu_that_cannot_be_built_for_is_refused_with_the_list(parents, tmp_path, precision, sm):
    with pytest.raises(EngineUnavailableError, match=rf"^SM{sm}: .* builds {precision} for .*SM80, SM86, SM89, SM120"):
        build_tensorrt(parents[precision], tmp_path / "engine", GpuTarget(sm=sm))
    assert not list(tmp_path.iterdir())


def test_the_full_tensorrt_builds_only_for_the_gpu_present(monkeypatch):
    full = types.ModuleType("tensorrt")
    for present, error, text in (
        ((9, 0), EngineUnavailableError, "SM86: tensorrt builds for the GPU present, SM90"),
        (None, EngineUnavailableError, "no GPU here"),
    ):
        monkeypatch.setattr(building, "cuda_compute_capability", lambda present=present: present)
        with pytest.raises(error, match=text):
            building._require_target(full, 86, "fp32")
    monkeypatch.setattr(building, "cuda_compute_capability", lambda: (8, 6))
    building._require_target(full, 86, "fp32")


def refused(parent: Bundle, tmp_path: Path) -> str:
    """The one line that a build stops with; nothing may be left behind."""
    with pytest.raises(InputError) as error:
        build_tensorrt(parent, tmp_path / "engines" / "engine", GpuTarget(sm=86))
    assert not (tmp_path / "engines").exists()
    message = str(error.value)
    assert "\n" not in message
    assert str(parent.path) in message
    return message


def test_broken_onnx_is_one_line(parents, tmp_path):
    message = refused(wrap(tmp_path / "broken", b"no graph", parents["fp32"], precision="fp32"), tmp_path)
    assert "TensorRT cannot read the graph" in message
    assert "Failed to parse the ONNX model" in message


def test_a_fixed_batch_is_refused(parents, tmp_path):
    graph = onnx.load(parents["fp32"].model_path)
    del graph.graph.value_info[:]
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    fixed = wrap(tmp_path / "fixed", graph.SerializeToString(), parents["fp32"], precision="fp32")
    assert "images is UINT8 [2, 64, 64, 3]; expected UINT8 [-1, 64, 64, 3]" in refused(fixed, tmp_path)


@pytest.mark.parametrize(("precision", "text"), [("int8", "not a Q/DQ graph for TensorRT"), ("fp16", "not an fp16")])
def test_a_float_graph_marked_otherwise_is_refused(parents, tmp_path, precision, text):
    model = parents["fp32"].model_path.read_bytes()
    assert text in refused(wrap(tmp_path / "marked", model, parents["fp32"], precision=precision), tmp_path)


def test_uint8_zero_points_are_refused(parents, tmp_path):
    graph = onnx.load(parents["int8"].model_path)
    names = {node.input[2] for node in graph.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in graph.graph.initializer:
        if tensor.name in names:
            zeros = np.zeros(tuple(tensor.dims), dtype=np.uint8)
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    unsigned = wrap(tmp_path / "unsigned", graph.SerializeToString(), parents["int8"], precision="int8")
    assert "UINT8 zero points" in refused(unsigned, tmp_path)


def test_another_kind_and_an_empty_batch_are_refused(parents, tmp_path):
    engine = build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86))
    with pytest.raises(InputError, match="a bundle of kind tensorrt; expected onnx"):
        build_tensorrt(engine, tmp_path / "again", GpuTarget(sm=86))
    with pytest.raises(InputError, match="max_batch 0"):
        build_tensorrt(parents["fp16"], tmp_path / "again", GpuTarget(sm=86, max_batch=0))
