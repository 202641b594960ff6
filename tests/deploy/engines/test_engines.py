"""Every engine keeps the one contract; TensorRT does so in test_tensorrt_on_a_stand_in.py."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest

from edgepress.deploy.engines import Engine, open_engine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError
from tests.deploy.engines.engine_contract import EngineContract


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


class LiteRtContract(EngineContract):
    devices = "LiteRT takes cpu"


class TestLiteRtFp32(LiteRtContract):
    name = "litert-fp32"
    runs: ClassVar = {"runtime": "litert", "provider": "XNNPACK", "precision": "f32"}
    closeness = 100


class TestLiteRtFp16(LiteRtContract):
    """Its weights are stored in half precision; it computes in f32."""

    name = "litert-fp16"
    runs: ClassVar = {"runtime": "litert", "provider": "XNNPACK", "precision": "f32"}
    closeness = 50


class TestLiteRtInt8(LiteRtContract):
    name = "litert-int8"
    runs: ClassVar = {"runtime": "litert", "provider": "XNNPACK", "precision": "int8 + f32"}
    closeness = 15
    split_tolerance = 1e-3


class NcnnContract(EngineContract):
    devices = "ncnn takes cpu"
    runs: ClassVar = {"runtime": "ncnn", "provider": "CPU", "precision": "f32"}
    split_tolerance = 0  # it computes picture by picture


class TestNcnnFp32(NcnnContract):
    name = "ncnn-fp32"
    closeness = 100


class TestNcnnFp16(NcnnContract):
    """Its weights are stored in half precision; it computes in f32."""

    name = "ncnn-fp16"
    closeness = 50


class TestNcnnInt8(NcnnContract):
    name = "ncnn-int8"
    runs: ClassVar = {"runtime": "ncnn", "provider": "CPU", "precision": "int8 + f32"}
    closeness = 15


def test_without_a_folder_for_a_profile_an_engine_says_so_and_answers(onnx_bundle, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    with open_engine(onnx_bundle) as engine:
        size = engine.preprocess.size
        assert engine(np.zeros((1, size, size, 3), np.uint8)).shape == (1, len(engine.labels))
        proof = engine.proof()
        engine._provider = "CUDAExecutionProvider"  # of which nothing but a profile tells whether it ran
        with pytest.raises(EngineUnavailableError, match="TMPDIR=FOLDER names one"):
            engine.proof()
    assert (proof.provider, proof.precision, proof.products) == ("CPUExecutionProvider", "unknown", {})
    assert "no folder can be written for ONNX Runtime's profile (TMPDIR=FOLDER names one)" in caplog.text
