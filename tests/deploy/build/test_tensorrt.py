"""TensorRT: engines are built for a named GPU without one, and the parsed network is what the manifest says.

A machine without a GPU can build and cannot run, so the network that TensorRT parsed stands for the engine.
"""

from __future__ import annotations

import itertools
import logging
import platform
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt_rtx is not installed (pip install 'edgepress[tensorrt-rtx]')"
)
onnx = pytest.importorskip("onnx", reason="onnx is not installed; the tests make their parents with it")
pytest.importorskip("timm", reason="timm is not installed; the tests export a small model of it")

import edgepress.deploy.build.tensorrt as building  # noqa: E402
from edgepress.compress.config import ModelConfig  # noqa: E402
from edgepress.compress.models import make_model  # noqa: E402
from edgepress.deploy.build import timing_cache  # noqa: E402
from edgepress.deploy.build.export import export_onnx  # noqa: E402
from edgepress.deploy.build.reference import REFERENCE  # noqa: E402
from edgepress.deploy.build.tensorrt import build_tensorrt, builder_config, parse_network  # noqa: E402
from edgepress.deploy.engines import open_engine, passport, tensorrt_runtime  # noqa: E402
from edgepress.deploy.engines.table import GpuTarget  # noqa: E402
from edgepress.deploy.machine.cuda import cuda_compute_capability  # noqa: E402
from edgepress.multilabel.bundle import Bundle, file_sha256, write_bundle  # noqa: E402
from edgepress.multilabel.datasets import MultiLabelDataset  # noqa: E402
from edgepress.multilabel.decisions import Decisions  # noqa: E402
from edgepress.multilabel.errors import EngineUnavailableError, InputError  # noqa: E402
from edgepress.multilabel.labels import LabelSpace  # noqa: E402
from edgepress.multilabel.manifest import BuiltForTensorRt, Calibration  # noqa: E402

SIZE = 64
LABELS = LabelSpace(("cat", "dog", "snow"))
DECISIONS = Decisions.plain(LABELS.names, (0.25, 0.5, 0.75))
CALIBRATION = Calibration(pictures=4, sha256="ab", split="train", method="min-max")
TEST_CONVOLUTIONS = 17  # of timm's test_efficientnet
no_gpu = pytest.mark.skipif(cuda_compute_capability() is not None, reason="a GPU is present here")


@pytest.fixture(scope="module", autouse=True)
def only_rtx():
    """Build without a GPU, also where the full TensorRT is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorrt_runtime, "RUNTIMES", {"tensorrt_rtx": "tensorrt-rtx"})
        yield


@pytest.fixture(scope="module")
def parents(tmp_path_factory) -> dict[str, Bundle]:
    """ONNX bundles of one small random model: fp32, fp16, int8."""
    root = tmp_path_factory.mktemp("parents")
    rng = np.random.default_rng(0)
    paths = [root / f"{i}.png" for i in range(4)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    config = ModelConfig(backbone="test_efficientnet", head="ml_decoder", width=64, size=SIZE, weights="none")
    model, _ = make_model(config, LABELS)
    nothing = np.zeros((4, len(LABELS)), dtype=np.uint8)
    pictures = MultiLabelDataset(
        root=root, split="test", labels=LABELS, paths=paths, targets=nothing, ignore=nothing.astype(bool)
    )
    fp32 = export_onnx(model.eval(), pictures, root / "onnx-fp32", identity="random")
    images = np.stack([model.preprocess.load(path) for path in paths])
    return {
        "fp32": fp32,
        "fp16": wrap(root / "onnx-fp16", half(fp32), fp32, precision="fp16", decisions=DECISIONS),
        "int8": wrap(
            root / "onnx-int8-tensorrt",
            quantized(fp32, images, root),
            fp32,
            precision="int8",
            calibration=CALIBRATION,
        ),
    }


def wrap(path: Path, model: bytes, like: Bundle, **fields) -> Bundle:
    """Any bytes as an ONNX bundle with another's labels, preprocessing and reference."""
    given = {"labels": LABELS.names, "preprocess": like.preprocess, "parent": like.as_parent, "opset": 20} | fields
    with write_bundle(path, kind="onnx", model="model.onnx", **given) as (folder, _):
        (folder / "model.onnx").write_bytes(model)
        (folder / REFERENCE).write_bytes((like.path / REFERENCE).read_bytes())
    return Bundle.open(path)


def half(parent: Bundle) -> bytes:
    float16 = pytest.importorskip("onnxruntime.transformers.float16", reason="onnxruntime is not installed")
    return float16.convert_float_to_float16(onnx.load(parent.model_path), keep_io_types=True).SerializeToString()


def quantized(parent: Bundle, images: np.ndarray, root: Path) -> bytes:
    """The Q/DQ graph that TensorRT takes: symmetric INT8, weights stored as INT8, float bias."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")
    shape_inference = pytest.importorskip("onnxruntime.quantization.shape_inference", reason="sympy is not installed")

    class Pictures(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{"images": images}])

        def get_next(self):
            return next(self.left, None)

    shape_inference.quant_pre_process(str(parent.model_path), str(root / "prepared.onnx"))
    quantization.quantize_static(
        str(root / "prepared.onnx"),
        str(root / "quantized.onnx"),
        Pictures(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": False,
            "QuantizeBias": False,
        },
    )
    return (root / "quantized.onnx").read_bytes()


def test_the_runtime_without_a_gpu_is_found():
    assert tensorrt_runtime.runtime_module() is trt


def test_no_runtime_names_what_to_install(monkeypatch):
    monkeypatch.setattr(tensorrt_runtime, "RUNTIMES", {"tensorrt_of_nobody": "none"})
    with pytest.raises(EngineUnavailableError, match=r"edgepress\[gpu\].*edgepress\[tensorrt-rtx\]"):
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
    assert facts["layers"] == parsed.network.num_layers
    assert facts["convolutions"] == len(convolutions) == TEST_CONVOLUTIONS
    assert facts["quantized_convolutions"] == (TEST_CONVOLUTIONS if precision == "int8" else 0)
    name = {"fp32": "f32", "fp16": "f16", "int8": "int8"}[precision]
    assert facts["products"][name] > TEST_CONVOLUTIONS  # and matrix products
    if precision != "int8":  # there one product stays in float
        assert set(facts["products"]) == {name}
    constants = sum(layer.type == trt.LayerType.CONSTANT for layer in parsed.layers)
    assert sum(facts["types"].values()) == facts["layers"] - constants


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


def test_a_graph_that_does_not_build_is_one_line(parents, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_require_target", lambda *_: None)
    with pytest.raises(InputError, match=r"TensorRT cannot build it for SM75: .*FP32 GEMM is not supported") as error:
        build_tensorrt(parents["fp32"], tmp_path / "engine", GpuTarget(sm=75))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


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
        with write_bundle(tmp_path / str(number), **fields) as (folder, _):
            (folder / "model.plan").write_bytes(plan)
        with pytest.raises(InputError, match="TensorRT cannot open it: MALFORMED_ENGINE, "):
            open_engine(tmp_path / str(number))


def test_kernel_timings_are_kept_beside_the_engine(parents, tmp_path, monkeypatch):
    """TensorRT-RTX has the same calls, without effect; that later builds are shorter was not seen on a GPU."""
    monkeypatch.setattr(timing_cache, "is_kept", lambda trt: True)
    for max_batch in (2, 4):  # the second reads what the first wrote
        bundle = build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86, max_batch=max_batch))
    (cache,) = tmp_path.glob("*.cache")
    assert cache.name == f"timing-tensorrt_rtx-{trt.__version__}-SM86.cache"
    assert cache.stat().st_size > 0
    cache.write_bytes(b"of another device")
    build_tensorrt(parents["fp16"], tmp_path / "another", GpuTarget(sm=86, max_batch=2))
    assert cache.read_bytes() != b"of another device"
    assert not [name for name in bundle.manifest.files if name.endswith(".cache")]


def test_timings_of_another_device_are_measured_again(tmp_path):
    """As TensorRT documents `set_timing_cache`: false of a cache that does not fit the device."""
    given: list[bytes] = []

    def set_cache(cache: bytes, ignore_mismatch: bool) -> bool:
        given.append(cache)
        return not ignore_mismatch and not cache

    (tmp_path / "other.cache").write_bytes(b"another device")
    timing_cache.read(
        types.SimpleNamespace(create_timing_cache=bytes, set_timing_cache=set_cache), tmp_path / "other.cache"
    )
    assert given == [b"another device", b""]


def test_tensorrt_rtx_is_given_no_timings(parents, tmp_path):
    build_tensorrt(parents["fp16"], tmp_path / "engine", GpuTarget(sm=86))
    assert not list(tmp_path.glob("*.cache"))
    assert timing_cache.is_kept(types.ModuleType("tensorrt"))


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
