"""One contract for every engine: uint8 pictures in, float32 logits out, the same whatever the batch or the thread.

A subclass names its bundle, how far its precision may be from torch and what must have executed. TensorRT runs only on
the GPU that an engine was built for: here its engine runs on a stand-in for that GPU, which checks where it puts and
finds its pictures, not TensorRT's arithmetic. Building is tested in test_tensorrt.py.
"""

from __future__ import annotations

import ctypes
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest

import deploy.engines
import deploy.engines.tensorrt as engine_room
from deploy.compile import derived_bundle
from deploy.cuda import cuda_compute_capability
from deploy.engines import Engine, open_engine
from deploy.engines.base import by_precision, summary
from deploy.engines.onnxruntime import require_placed
from multilabel.bundle import Bundle, write_bundle
from multilabel.errors import EngineUnavailableError, InputError

CONVOLUTIONS = 17  # of timm's test_efficientnet
REQUESTS = 4
"""Calls of each thread."""


def sqnr(reference: np.ndarray, value: np.ndarray) -> float:
    """Signal to quantisation noise, in dB."""
    noise = float(((reference - value) ** 2).sum())
    return 10 * np.log10(float((reference**2).sum()) / noise) if noise else np.inf


class EngineContract:
    """What an application may rely on; not collected by itself."""

    name: ClassVar[str]
    runs: ClassVar[dict[str, str]]
    """What `ran` must say."""
    closeness: ClassVar[float]
    """Least SQNR against torch, in dB; measured values are at least 5 dB above."""
    split_tolerance: ClassVar[float] = 1e-4
    """Largest difference of a logit between a batch and its pictures one by one (logits reach about 8)."""
    devices: ClassVar[str]
    """What the refusal of an unknown device lists."""

    @pytest.fixture(scope="class")
    def bundle(self, build: Callable[[str], Bundle]) -> Bundle:
        return build(self.name)

    @pytest.fixture(scope="class")
    def engine(self, bundle: Bundle) -> Iterator[Engine]:
        with open_engine(bundle.path) as engine:
            yield engine

    @pytest.mark.parametrize("batch", [1, 3, 33])
    def test_float32_logits_for_any_batch(self, engine, images, batch):
        result = engine(images[:batch])
        assert (result.dtype, result.shape) == (np.float32, (batch, len(engine.labels)))
        assert np.isfinite(result).all()

    @pytest.mark.parametrize("step", [1, 2, 7, 32])
    def test_a_picture_is_answered_alike_in_every_batch(self, engine, images, step):
        whole = engine(images)
        parts = np.concatenate([engine(images[at : at + step]) for at in range(0, len(images), step)])
        assert np.abs(whole - parts).max() <= self.split_tolerance

    def test_rows_follow_the_pictures(self, engine, images):
        order = np.random.default_rng(0).permutation(len(images))
        assert np.abs(engine(images)[order] - engine(images[order])).max() <= self.split_tolerance
        assert np.abs(engine(images) - engine(images)[::-1]).max() > 1  # so that an order can be told at all

    def test_close_to_torch(self, engine, images, logits):
        assert sqnr(logits, engine(images)) >= self.closeness

    def test_the_same_call_gives_the_same_bits(self, engine, images):
        first = engine(images[:5])
        engine(images[5:8])
        assert np.array_equal(first, engine(images[:5]))

    def test_an_answer_belongs_to_its_caller(self, engine, images):
        given = images[:2].copy()
        first = engine(given)
        kept = first.copy()
        given[:] = 0
        second = engine(images[2:4])
        assert np.array_equal(first, kept)
        assert not np.shares_memory(first, second)
        first[:] = -1  # an answer may be written to, and costs no later one anything
        assert np.array_equal(engine(images[2:4]), second)

    def test_pictures_are_left_as_they_are_and_may_be_views(self, engine, images):
        before = images.copy()
        mirrored = images[:3, :, ::-1]
        assert not mirrored.flags.c_contiguous
        assert np.array_equal(engine(mirrored), engine(np.ascontiguousarray(mirrored)))
        assert np.array_equal(images, before)

    @pytest.mark.parametrize(
        ("images_of", "received"),
        [
            (lambda size: np.zeros((1, size, size, 3), np.float32), r"float32 \[1, 64, 64, 3\]"),
            (lambda size: np.zeros((1, size, size, 3), np.int8), r"int8 \[1, 64, 64, 3\]"),
            (lambda size: np.zeros((1, size, size + 1, 3), np.uint8), r"uint8 \[1, 64, 65, 3\]"),
            (lambda size: np.zeros((1, size, size, 4), np.uint8), r"uint8 \[1, 64, 64, 4\]"),
            (lambda size: np.zeros((1, 3, size, size), np.uint8), r"uint8 \[1, 3, 64, 64\]"),
            (lambda size: np.zeros((size, size, 3), np.uint8), r"uint8 \[64, 64, 3\]"),
            (lambda size: np.zeros((0, size, size, 3), np.uint8), r"uint8 \[0, 64, 64, 3\]"),
            (lambda size: np.zeros((1, size, size, 3), np.uint8).tolist(), "list"),
        ],
    )
    def test_other_input_is_refused_with_received_and_expected(self, engine, images_of, received):
        with pytest.raises(ValueError, match=rf"received .*{received}.*; expected uint8 RGB pictures \[B, 64, 64, 3\]"):
            engine(images_of(engine.preprocess.size))

    def test_it_says_what_ran(self, engine):
        assert engine.ran.keys() == {"runtime", "version", "provider", "precision"}
        assert {key: engine.ran[key] for key in self.runs} == self.runs
        assert engine.ran["version"][0].isdigit()

    def test_the_proof_counts_layers_by_precision(self, engine):
        proof = engine.proof()
        precisions = self.runs["precision"].split(" + ")
        assert set(proof.products) == set(precisions)
        kept = engine.bundle.manifest.calibration.kept_float if engine.bundle.manifest.calibration else ()
        assert proof.products[precisions[0]] >= CONVOLUTIONS - len(kept)  # the smallest is that of the convolutions
        assert sum(proof.layers.values()) >= sum(proof.products.values())
        assert proof.source
        assert proof.as_dict()["products"] == proof.products

    def test_threads_get_their_own_answers(self, engine, images):
        whole, start = engine(images), threading.Barrier(2)

        def differences(first: int) -> list[float]:
            start.wait(timeout=60)
            found = []
            for at in range(first, len(images) - 5, 2 * max(len(images) // (2 * REQUESTS), 1)):
                found.append(float(np.abs(engine(images[at : at + 5]) - whole[at : at + 5]).max()))
            return found

        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(differences, first) for first in (0, 3)]
            found = [difference for answer in answers for difference in answer.result(timeout=120)]
        assert len(found) >= REQUESTS
        assert max(found) <= self.split_tolerance

    def test_an_unknown_device_is_refused_with_the_list(self, bundle):
        for device in ("toaster", "cpu:1:2", ""):
            with pytest.raises(InputError, match=rf"device '{device}': .*{self.devices}"):
                open_engine(bundle, device=device)

    def test_a_with_block_closes_it(self, bundle, images):
        with open_engine(bundle) as engine:
            engine(images[:1])
        with pytest.raises(RuntimeError, match="this engine is closed; open it again"):
            engine(images[:1])
        engine.close()  # a second time does nothing

    def test_labels_and_preprocess_are_the_students(self, engine, student):
        assert (engine.labels, engine.preprocess) == (student.labels, student.preprocess)


class TestTorch(EngineContract):
    runs: ClassVar = {"runtime": "torch", "provider": "cpu", "precision": "f32"}
    closeness = 100
    devices = "torch takes cpu, cuda or cuda:N"

    @pytest.fixture(scope="class")
    def bundle(self, student: Bundle) -> Bundle:
        return student


class OnnxContract(EngineContract):
    devices = "ONNX Runtime takes cpu, cuda"


class TestOnnxFp32(OnnxContract):
    name = "onnx-fp32"
    runs: ClassVar = {"runtime": "onnxruntime", "provider": "CPUExecutionProvider", "precision": "f32"}
    closeness = 100


class TestOnnxFp16(OnnxContract):
    """Its types are float16; an x86 CPU has no such kernels, and computes it in f32 between casts."""

    name = "onnx-fp16"
    runs: ClassVar = {"runtime": "onnxruntime", "provider": "CPUExecutionProvider", "precision": "f32"}
    closeness = 50
    split_tolerance = 0.02


class TestOnnxInt8(OnnxContract):
    name = "onnx-int8-onnxruntime"
    runs: ClassVar = {"runtime": "onnxruntime", "provider": "CPUExecutionProvider", "precision": "int8 + f32"}
    closeness = 15
    split_tolerance = 1e-3


class OpenVinoContract(EngineContract):
    devices = "OpenVINO takes cpu, gpu, npu"


class TestOpenVinoFp32(OpenVinoContract):
    name = "openvino-fp32"
    runs: ClassVar = {"runtime": "openvino", "provider": "CPU", "precision": "f32"}
    closeness = 100


class TestOpenVinoFp16(OpenVinoContract):
    """Its weights are stored in half precision; a CPU executes it in f32."""

    name = "openvino-fp16"
    runs: ClassVar = {"runtime": "openvino", "provider": "CPU", "precision": "f32"}
    closeness = 50


class TestOpenVinoInt8(OpenVinoContract):
    name = "openvino-int8"
    runs: ClassVar = {"runtime": "openvino", "provider": "CPU", "precision": "int8 + f32"}
    closeness = 12  # NNCF alone on a net of few channels; 13.7 to 16 dB were seen
    split_tolerance = 1e-3


class TestOpenVinoForThroughput(OpenVinoContract):
    """As many requests at once as OpenVINO names, which the contract's threads share."""

    name = "openvino-fp32"
    runs: ClassVar = {"runtime": "openvino", "provider": "CPU", "precision": "f32"}
    closeness = 100

    @pytest.fixture(scope="class")
    def engine(self, bundle: Bundle) -> Iterator[Engine]:
        with open_engine(bundle, hint="throughput") as engine:
            yield engine

    def test_it_is_compiled_for_throughput(self, engine):
        settings = engine.proof().settings
        assert settings["hint"] == "throughput"
        assert int(settings["requests"]) >= 1


class StandInGpu:
    """CUDA's memory and one stream, and a TensorRT that computes by ONNX Runtime.

    As on a device, nothing that is put on the stream happens before the host waits for it, and a copy must stay within
    memory that was allocated and not yet freed.
    """

    def __init__(self, model: Bundle) -> None:
        self.model, self.memory, self.stream = model, {}, []
        self.trt = types.ModuleType("tensorrt_rtx")
        logger = type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "__init__": lambda self: None})
        self.trt.__dict__.update(__version__="1.0", ILogger=logger, Runtime=lambda logger: self)
        self.cudaError_t = types.SimpleNamespace(cudaSuccess=0)
        self.cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address: int) -> tuple[int]:
        del self.memory[address]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaStreamCreate(self) -> tuple[int, int]:
        return 0, 7

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        assert all(size <= len(self.memory[address]) for address in (target, source))
        time.sleep(0.001)  # another thread's turn
        self.stream.append(lambda: ctypes.memmove(target, source, size))
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        waiting, self.stream = self.stream, []
        for step in waiting:
            step()
        return (0,)

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(self.model.model_path), providers=["CPUExecutionProvider"])
        size, labels = self.model.preprocess.size, len(self.model.labels)
        tensors = [("INPUT", "UINT8", (-1, size, size, 3)), ("OUTPUT", "FLOAT", (-1, labels))]
        addresses, shape = {}, [0]

        def execute(stream: int) -> bool:
            count, given, given_back = shape[0], self.memory[addresses["0"]], self.memory[addresses["1"]]

            def step() -> None:
                images = np.frombuffer(given, np.uint8)[: count * size * size * 3].reshape(count, size, size, 3)
                logits = session.run(None, {"images": images})[0]
                np.frombuffer(given_back, np.float32)[: logits.size] = logits.ravel()

            self.stream.append(step)
            return True

        def set_shape(name: str, given: tuple[int, ...]) -> bool:
            shape[0] = given[0]
            return given[0] <= 4

        context = types.SimpleNamespace(
            set_tensor_address=lambda name, address: addresses.update({name: address}) is None,
            set_input_shape=set_shape,
            execute_async_v3=execute,
        )
        return types.SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=str,
            get_tensor_mode=lambda name: types.SimpleNamespace(name=tensors[int(name)][0]),
            get_tensor_dtype=lambda name: types.SimpleNamespace(name=tensors[int(name)][1]),
            get_tensor_shape=lambda name: tensors[int(name)][2],
            create_execution_context=lambda: context,
        )


class TestTensorRtOnAStandIn(EngineContract):
    """Not run on a GPU. 33 pictures are nine times its profile."""

    runs: ClassVar = {"runtime": "tensorrt_rtx", "provider": "cuda SM86", "precision": "f32"}
    closeness = 100
    devices = "a TensorRT engine runs on the GPU it was built for, cuda"

    @pytest.fixture(scope="class")
    def bundle(self, onnx_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        out = tmp_path_factory.mktemp("stand-in") / "tensorrt-fp32-sm86"
        built_for = {"runtime": "tensorrt_rtx", "version": "1.0", "compute_capability": "SM86", "max_batch": "4"}
        facts = {"products": {"f32": CONVOLUTIONS}, "types": {"f32": CONVOLUTIONS + 1}}
        fields = {"kind": "tensorrt", "precision": "fp32", "model": "model.plan", "built_for": built_for}
        with derived_bundle(onnx_bundle, out, **fields, facts=facts) as (folder, _):
            (folder / "model.plan").write_bytes(b"a plan")
        return Bundle.open(out)

    @pytest.fixture(scope="class")
    def gpu(self, onnx_bundle: Bundle) -> StandInGpu:
        return StandInGpu(onnx_bundle)

    @pytest.fixture(scope="class", autouse=True)
    def instead_of_a_gpu(self, gpu: StandInGpu) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deploy.engines, "fitted", lambda bundle, rebuild: bundle)
            patch.setattr(engine_room, "load_runtime", lambda name: gpu.trt)
            patch.setattr(engine_room, "_cuda_runtime", lambda: gpu)
            yield

    def test_what_it_held_is_freed(self, gpu, bundle, images):
        before = set(gpu.memory)
        with open_engine(bundle) as engine:
            engine(images[:1])
            assert len(set(gpu.memory) - before) == 4
        assert set(gpu.memory) == before

    def test_a_run_that_fails_is_told(self, bundle, gpu, images, monkeypatch):
        with open_engine(bundle) as engine:
            monkeypatch.setattr(gpu, "cudaStreamSynchronize", lambda stream: (700,))
            monkeypatch.setattr(gpu, "cudaGetErrorString", lambda code: (0, b"an illegal memory access"), raising=False)
            with pytest.raises(RuntimeError, match=r"cudaStreamSynchronize: an illegal memory access \(700\)"):
                engine(images[:1])


@pytest.mark.skipif(cuda_compute_capability() is not None, reason="a GPU is present here, and would be written to")
def test_the_cuda_calls_exist_with_these_arguments():
    """Without a driver every call answers with CUDA's own error; a wrong name or argument would be a TypeError."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    kinds = runtime.cudaMemcpyKind
    host = np.zeros(4, np.uint8).ctypes.data
    for name, arguments in {
        "cudaStreamCreate": (),
        "cudaMalloc": (4,),
        "cudaMallocHost": (4,),
        "cudaMemcpyAsync": (host, host, 4, kinds.cudaMemcpyHostToDevice, 0),
        "cudaStreamSynchronize": (0,),
        "cudaFree": (host,),
        "cudaFreeHost": (host,),
        "cudaStreamDestroy": (0,),
    }.items():
        code = getattr(runtime, name)(*arguments)[0]
        assert isinstance(code, runtime.cudaError_t), name
        assert code != runtime.cudaError_t.cudaSuccess, name
    assert isinstance(runtime.cudaGetErrorString(code)[1], bytes)


def test_a_device_that_openvino_does_not_see(build):
    for device in ("npu", "gpu.7", "cpu.1"):
        with pytest.raises(EngineUnavailableError, match=rf"OpenVINO sees no {device.upper()} here; it sees .*CPU"):
            open_engine(build("openvino-fp32"), device=device)


def test_threads_are_those_asked_for(build, onnx_bundle):
    for bundle in (onnx_bundle, build("openvino-fp32")):
        with open_engine(bundle, threads=1) as engine:
            assert engine.proof().settings["threads"] == "1"
        with pytest.raises(InputError, match="threads 0: expected at least 1"):
            open_engine(bundle, threads=0)


def test_a_setting_that_the_runtime_lacks_is_refused(student, onnx_bundle):
    for bundle, runtime in ((student, "torch"), (onnx_bundle, "ONNX Runtime")):
        with pytest.raises(InputError, match=f"hint 'throughput': only OpenVINO takes one; {runtime} has none"):
            open_engine(bundle, hint="throughput")
    with pytest.raises(InputError, match=r"threads 2: .*; torch takes none"):
        open_engine(student, threads=2)


def test_a_product_that_ran_elsewhere_is_told():
    ran = [{"op_name": "Conv", "provider": name} for name in ("CUDAExecutionProvider", "CPUExecutionProvider")]
    require_placed(ran[:1], "CUDAExecutionProvider")
    with pytest.raises(EngineUnavailableError, match=r"asked for CUDA.*; of 2 .* ran 1 on CPUExecutionProvider"):
        require_placed(ran, "CUDAExecutionProvider")


def test_precisions_have_one_name_each():
    assert by_precision(["float", "f32", "u8", "INT8", "HALF", "int64"]) == {"f16": 1, "f32": 2, "int64": 1, "int8": 2}
    assert summary({"f32": 1, "int8": 7}) == "int8 + f32"
    assert summary({"int32": 1, "bf16": 2}) == "bf16 + int32"
    assert summary({}) == "unknown"


def test_cuda_without_a_gpu_says_so(onnx_bundle, student):
    import onnxruntime
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(EngineUnavailableError, match="torch sees no CUDA device"):
            open_engine(student, device="cuda")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(EngineUnavailableError, match=r"no CUDAExecutionProvider .*edgepress\[gpu\]"):
            open_engine(onnx_bundle, device="cuda")


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-fp32"])
def test_a_model_that_is_no_model_is_one_line(build, tmp_path, name):
    bundle = build(name)
    manifest = bundle.manifest
    with write_bundle(
        tmp_path / "broken",
        kind=manifest.kind,
        precision="fp32",
        model=manifest.model,
        labels=manifest.labels,
        preprocess=manifest.preprocess,
    ) as (folder, _):
        (folder / manifest.model).write_bytes(b"no model at all")
    with pytest.raises(InputError, match=r"cannot (load|compile) it") as error:
        open_engine(tmp_path / "broken")
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(InputError, match="not a finished bundle"):
        open_engine(tmp_path)
