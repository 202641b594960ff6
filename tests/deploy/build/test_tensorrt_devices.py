"""TensorRT: engines that are opened, replayed from a CUDA graph, or built for a deep learning accelerator."""

from __future__ import annotations

import types

import numpy as np
import pytest

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt_rtx is not installed (pip install 'edgepress[tensorrt-rtx]')"
)
onnx = pytest.importorskip("onnx", reason="onnx is not installed; the tests make their parents with it")
pytest.importorskip("timm", reason="timm is not installed; the tests export a small model of it")

import edgepress.deploy.build.tensorrt as building  # noqa: E402
from edgepress.deploy.build.reference import REFERENCE  # noqa: E402
from edgepress.deploy.build.tensorrt import build_tensorrt, parse_network  # noqa: E402
from edgepress.deploy.engines import open_engine, passport  # noqa: E402
from edgepress.deploy.engines.table import GpuTarget  # noqa: E402
from edgepress.deploy.machine.cuda import cuda_compute_capability  # noqa: E402
from edgepress.multilabel.bundle import Bundle, write_bundle  # noqa: E402
from edgepress.multilabel.errors import EngineUnavailableError, InputError  # noqa: E402
from tests.deploy.build.tensorrt_parents import TEST_CONVOLUTIONS  # noqa: E402

no_gpu = pytest.mark.skipif(cuda_compute_capability() is not None, reason="a GPU is present here")
pytestmark = pytest.mark.usefixtures("only_rtx")


@pytest.fixture(scope="module")
def engine_bundle(parents, tmp_path_factory) -> Bundle:
    return build_tensorrt(parents["fp16"], tmp_path_factory.mktemp("engines") / "tensorrt-fp16", GpuTarget(sm=86))


@no_gpu
def test_an_engine_that_does_not_deserialise_says_why(engine_bundle, monkeypatch):
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed (pip install 'edgepress[gpu]')")
    monkeypatch.setattr(passport, "cuda_compute_capability", lambda: (8, 6))
    with pytest.raises(EngineUnavailableError, match=r"TensorRT cannot open it: .*CUDA"):
        open_engine(engine_bundle)


def test_a_plan_that_is_none_is_told_in_the_runtimes_words(engine_bundle, tmp_path, monkeypatch):
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed (pip install 'edgepress[gpu]')")
    monkeypatch.setattr(passport, "cuda_compute_capability", lambda: (8, 6))
    fields = {name: value for name, value in engine_bundle.manifest if name not in ("files", "created")}
    for number, plan in enumerate((b"no plan", b"\0" * 4096)):
        with write_bundle(tmp_path / str(number), **fields) as folder:
            (folder / "model.plan").write_bytes(plan)
        with pytest.raises(InputError, match="TensorRT cannot open it: MALFORMED_ENGINE, "):
            open_engine(tmp_path / str(number))


def test_what_a_cuda_graph_and_dla_ask_of_tensorrt_is_there():
    """Of the classes themselves: none of these objects exists without a GPU or a Jetson."""
    assert "WHOLE_GRAPH_CAPTURE" in trt.CudaGraphStrategy.__members__
    assert hasattr(trt.IRuntimeConfig, "cuda_graph_strategy")
    assert hasattr(trt.ICudaEngine, "create_runtime_config")
    assert "runtime_config: " in trt.ICudaEngine.create_execution_context.__doc__
    assert all(hasattr(trt.Runtime, name) for name in ("num_DLA_cores", "DLA_core"))
    assert all(hasattr(trt.IBuilderConfig, name) for name in ("default_device_type", "DLA_core", "can_run_on_DLA"))


def test_an_engine_to_be_replayed_says_so_and_is_another(parents, tmp_path):
    plain = build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86))
    assert not plain.manifest.built_for.cuda_graph
    replayed = build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86, cuda_graph=True))
    assert replayed.manifest.built_for.cuda_graph
    assert replayed.digest != plain.digest


def test_a_dla_that_is_not_there_or_does_not_compute_so_is_refused(parents, tmp_path):
    for precision, given, error, text in (
        ("fp16", {"max_batch": 1}, EngineUnavailableError, "dla 0: tensorrt_rtx finds 0 DLA cores here"),
        ("fp32", {"max_batch": 1}, EngineUnavailableError, "is fp32; DLA computes in fp16 and int8"),
        ("fp16", {"max_batch": 2}, InputError, "an engine for DLA takes one picture a call"),
    ):
        with pytest.raises(error, match=text):
            build_tensorrt(parents[precision], tmp_path / "engine", GpuTarget(sm=86, dla=0, **given))
    assert not list(tmp_path.iterdir())


def test_a_dla_takes_what_it_can_and_the_gpu_the_rest(parents):
    parsed = parse_network(parents["int8"].model_path)
    able = {layer.name for layer in parsed.layers if layer.type == trt.LayerType.CONVOLUTION}
    flags = []
    config = types.SimpleNamespace(set_flag=flags.append, can_run_on_DLA=lambda layer: layer.name in able)
    jetson = types.SimpleNamespace(trt=trt, builder=types.SimpleNamespace(num_DLA_cores=2), layers=parsed.layers)
    assert building._prefer_dla(jetson, config, 1) == TEST_CONVOLUTIONS
    assert (config.default_device_type, config.DLA_core) == (trt.DeviceType.DLA, 1)
    assert flags == [trt.BuilderFlag.GPU_FALLBACK]
    able.clear()
    with pytest.raises(EngineUnavailableError, match="dla 1: the builder finds no layer of this network"):
        building._prefer_dla(jetson, config, 1)


@pytest.mark.skipif(cuda_compute_capability() is None, reason="no GPU here")
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_an_engine_gives_the_reference_logits(parents, tmp_path, cuda_graph):
    from edgepress.deploy.build.reference import Reference

    major, minor = cuda_compute_capability()
    if not hasattr(trt.ComputeCapability, f"SM{major}{minor}"):
        pytest.skip(f"tensorrt_rtx does not build for this GPU, SM{major}{minor}")
    bundle = build_tensorrt(
        parents["fp32"], tmp_path / "engine", GpuTarget(sm=10 * major + minor, max_batch=3, cuda_graph=cuda_graph)
    )
    reference = Reference.load(bundle.path / REFERENCE)
    images = [bundle.preprocess.load(parents["fp32"].path.parent / f"{i}.png") for i in range(4)]
    with open_engine(bundle) as engine:
        for _ in range(3):  # plainly, captured, replayed
            logits = engine(np.stack(images))  # four pictures of an engine for three: it runs twice
            assert np.abs(logits - reference.logits).max() < 1e-3
