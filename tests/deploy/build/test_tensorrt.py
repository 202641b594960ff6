"""TensorRT: engines are built for a named GPU without one, and the parsed network is what the manifest says.

A machine without a GPU can build and cannot run, so the network that TensorRT parsed stands for the engine.
"""

from __future__ import annotations

import itertools
import logging
import platform
import sys

import pytest

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt_rtx is not installed (pip install 'edgepress[tensorrt-rtx]')"
)
onnx = pytest.importorskip("onnx", reason="onnx is not installed; the tests make their parents with it")
pytest.importorskip("timm", reason="timm is not installed; the tests export a small model of it")

from edgepress.deploy.build.reference import REFERENCE  # noqa: E402
from edgepress.deploy.build.tensorrt import build_tensorrt, builder_config, parse_network  # noqa: E402
from edgepress.deploy.engines import passport, tensorrt_runtime  # noqa: E402
from edgepress.deploy.engines.table import GpuTarget  # noqa: E402
from edgepress.multilabel.bundle import file_sha256  # noqa: E402
from edgepress.multilabel.errors import EngineUnavailableError  # noqa: E402
from edgepress.multilabel.manifest import BuiltForTensorRt  # noqa: E402
from tests.deploy.build.tensorrt_parents import LABELS, SIZE, TEST_CONVOLUTIONS  # noqa: E402

pytestmark = pytest.mark.usefixtures("only_rtx")


def test_the_runtime_without_a_gpu_is_found():
    assert tensorrt_runtime.runtime_module() is trt


def test_no_runtime_names_what_to_install(monkeypatch):
    monkeypatch.setattr(tensorrt_runtime, "TENSORRT_MODULES", {"tensorrt_of_nobody": "none"})
    with pytest.raises(EngineUnavailableError, match=r"edgepress\[tensorrt-rtx\].*edgepress\[gpu\]"):
        tensorrt_runtime.runtime_module()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_parsed_network_keeps_the_contract(parents, precision):
    parsed = parse_network(parents[precision].model_path)
    images, logits = parsed.network.get_input(0), parsed.network.get_output(0)
    assert (images.dtype, tuple(images.shape)) == (trt.DataType.UINT8, (-1, SIZE, SIZE, 3))
    assert (logits.dtype, tuple(logits.shape)) == (trt.DataType.FLOAT, (-1, len(LABELS)))
    assert parsed.network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    convolutions = [layer for layer in parsed.layers if layer.type == trt.LayerType.CONVOLUTION]
    computed = trt.DataType.HALF if precision == "fp16" else trt.DataType.FLOAT
    assert {layer.get_output(0).dtype for layer in convolutions} == {computed}
    facts = parsed.facts
    assert facts.layers == parsed.network.num_layers
    assert facts.convolutions == len(convolutions) == TEST_CONVOLUTIONS
    assert facts.quantized_convolutions == (TEST_CONVOLUTIONS if precision == "int8" else 0)
    name = {"fp32": "f32", "fp16": "f16", "int8": "int8"}[precision]
    assert facts.products[name] > TEST_CONVOLUTIONS  # and matrix products
    if precision != "int8":  # there one product stays in float
        assert set(facts.products) == {name}
    constants = sum(layer.type == trt.LayerType.CONSTANT for layer in parsed.layers)
    assert sum(facts.types.values()) == facts.layers - constants


@pytest.mark.parametrize(("max_batch", "typical"), [(64, 8), (8, 8), (4, 4), (1, 1)])
def test_the_profile_spans_one_to_max_batch(parents, max_batch, typical):
    shapes = parse_network(parents["fp32"].model_path).profile(max_batch).get_shape("images")
    assert [tuple(shape) for shape in shapes] == [(batch, SIZE, SIZE, 3) for batch in (1, typical, max_batch)]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_fp32_is_true_fp32_for_the_named_gpu(parents, precision):
    parsed = parse_network(parents[precision].model_path)
    config = builder_config(parsed, precision=precision, sm=86, max_batch=8)
    assert config.get_flag(trt.BuilderFlag.TF32) == (precision != "fp32")
    assert config.get_compute_capability(0) == trt.ComputeCapability.SM86
    assert config.num_optimization_profiles == 1


@pytest.mark.parametrize(
    ("precision", "sm"), [*itertools.product(("fp32", "fp16", "int8"), (80, 86, 89, 120)), ("fp16", 75)]
)
def test_an_engine_is_built_for_the_named_gpu(parents, tmp_path, precision, sm):
    parent = parents[precision]
    bundle = build_tensorrt(parent, tmp_path / "engine", GpuTarget(sm=sm, max_batch=16))
    manifest = bundle.manifest
    assert (manifest.kind, manifest.precision, manifest.model) == ("tensorrt", precision, "model.plan")
    assert manifest.built_for == BuiltForTensorRt(
        runtime="tensorrt_rtx",
        version=trt.__version__,
        onnx_sha256=file_sha256(parent.model_path),
        platform=f"{sys.platform}-{platform.machine().lower()}",
        compute_capability=f"SM{sm}",
        max_batch=16,
        driver_cuda=passport.driver_cuda(),
        flags="TF32" if precision != "fp32" else "none",
    )
    assert manifest.parent == parent.as_parent
    for name in ("labels", "preprocess", "decisions", "calibration", "opset"):
        assert getattr(manifest, name) == getattr(parent.manifest, name), name
    assert manifest.facts == parse_network(parent.model_path).facts
    assert manifest.tools["tensorrt_rtx"] == trt.__version__
    assert manifest.files[REFERENCE] == parent.manifest.files[REFERENCE]
    assert bundle.model_path.stat().st_size > 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_the_share_of_quantised_convolutions_is_told(parents, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="edgepress"):
        build_tensorrt(parents["int8"], tmp_path / "int8", GpuTarget(sm=120))
    all_of_them = f"{TEST_CONVOLUTIONS} of {TEST_CONVOLUTIONS} convolutions with dequantized input and weights"
    assert all_of_them in caplog.text


def test_a_second_build_is_kept_and_a_changed_one_is_not(parents, tmp_path, caplog):
    first = build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86))
    with caplog.at_level(logging.INFO, logger="edgepress"):
        assert build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86)).digest == first.digest
    assert "unchanged, kept" in caplog.text
    assert build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86, max_batch=4)).digest != first.digest
