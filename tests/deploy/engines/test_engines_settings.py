"""Engines: devices, threads and hints that are refused or kept, and a model that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch

from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.base import by_precision, summary
from edgepress.deploy.engines.onnxruntime import require_placed
from edgepress.deploy.machine.cuda import cuda_compute_capability
from edgepress.multilabel.bundle import write_bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError


@pytest.mark.skipif(cuda_compute_capability() is not None, reason="a GPU is present here, and would be written to")
def test_the_cuda_calls_exist_with_these_arguments():
    """Without a driver every call answers with CUDA's own error; a wrong name or argument would be a TypeError."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    kinds = runtime.cudaMemcpyKind
    host = np.zeros(4, np.uint8).ctypes.data
    for name, arguments in {
        "cudaStreamCreateWithFlags": (runtime.cudaStreamNonBlocking,),
        "cudaMalloc": (4,),
        "cudaMallocHost": (4,),
        "cudaMemcpyAsync": (host, host, 4, kinds.cudaMemcpyHostToDevice, 0),
        "cudaStreamSynchronize": (0,),
        "cudaStreamBeginCapture": (0, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal),
        "cudaStreamEndCapture": (0,),
        "cudaGraphInstantiate": (0, 0),
        "cudaGraphLaunch": (0, 0),
        "cudaGraphDestroy": (0,),
        "cudaGraphExecDestroy": (0,),
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


def test_threads_are_those_asked_for(build):
    for name in ("onnx-fp32", "openvino-fp32", "litert-fp32", "ncnn-fp32"):
        open_engine(build(name), threads=np.int64(1)).close()
        bundle = build(name)
        with open_engine(bundle, threads=1) as engine:
            assert engine.proof().settings["threads"] == "1"
        with pytest.raises(InputError, match="threads 0: expected a whole number, at least 1"):
            open_engine(bundle, threads=0)
        with pytest.raises(InputError, match=r"threads 9999: expected at most \d+, which is 8 for each core here"):
            open_engine(bundle, threads=9999)


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


class CudaSession(onnxruntime.InferenceSession):
    """A session that says of itself, and in its profile, that it runs on a GPU; it runs on the processor."""

    asked: ClassVar[list[Any]] = []
    works = True

    def __init__(self, graph: Any, options: Any, providers: list[Any], **others: Any) -> None:
        self.asked[:] = providers
        super().__init__(graph, options, providers=["CPUExecutionProvider"], **others)

    def get_providers(self) -> list[str]:
        return [*(["CUDAExecutionProvider"] if self.works else []), "CPUExecutionProvider"]

    def end_profiling(self) -> str:
        file = Path(super().end_profiling())
        file.write_text(file.read_text().replace("CPUExecutionProvider", "CUDAExecutionProvider"))
        return str(file)


@pytest.fixture
def cuda_session(monkeypatch) -> type[CudaSession]:
    """Not run on a GPU."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", CudaSession)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so.9"))
    return CudaSession


def test_on_a_gpu_onnx_runtime_computes_fp32_in_float32(onnx_bundle, cuda_session, capsys):
    with open_engine(onnx_bundle, device="cuda") as engine:
        proof = engine.proof()
    assert cuda_session.asked == [("CUDAExecutionProvider", {"use_tf32": "0"})]
    assert (proof.provider, proof.settings["tf32"]) == ("CUDAExecutionProvider", "off")
    assert capsys.readouterr().out == ""


def test_a_gpu_whose_libraries_are_missing_is_told_with_the_library(onnx_bundle, cuda_session, monkeypatch):
    monkeypatch.setattr(cuda_session, "works", False)
    with pytest.raises(EngineUnavailableError, match=r"fell back to CPU.*\[cuda,cudnn\]'\): Failed to load libcudnn"):
        open_engine(onnx_bundle, device="cuda")


def test_on_a_gpu_torch_convolves_in_float32_and_leaves_the_setting(student, monkeypatch):
    """Not run on a GPU."""
    seen = []
    with open_engine(student) as engine:
        for device in ("cpu", "cuda"):
            engine._device = device
            with engine._without_tf32():
                seen.append(torch.backends.cudnn.allow_tf32)
        assert engine.proof().settings["tf32"] == "off"
    assert seen == [True, False]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-fp32", "litert-fp32", "ncnn-fp32"])
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
    ) as folder:
        for file in {manifest.model, *(one for one in manifest.files if one.endswith(".bin"))}:
            (folder / file).write_bytes(b"no model at all")
    with pytest.raises(InputError, match=r"cannot (load|compile) it") as error:
        open_engine(tmp_path / "broken")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-fp32", "litert-fp32", "ncnn-fp32"])
def test_a_model_of_another_size_than_its_manifest_is_refused_when_it_is_opened(build, tmp_path, name):
    like = build(name)
    fields = {key: getattr(like.manifest, key) for key in ("kind", "precision", "model", "labels")}
    other = like.preprocess.model_copy(update={"size": 32})
    with write_bundle(tmp_path / "other", **fields, preprocess=other) as folder:
        for file in like.manifest.files:
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes((like.path / file).read_bytes())
    with pytest.raises(InputError, match=r"takes (uint8|u8) \[any, 64, 64, 3\]; by its manifest .* \[any, 32, 32, 3\]"):
        open_engine(tmp_path / "other")


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(InputError, match="not a finished bundle"):
        open_engine(tmp_path)
