"""One contract for every engine: uint8 pictures in, float32 logits out, the same whatever the batch.

A subclass names its bundle and how far its precision may be from torch. TensorRT runs only on the GPU that an engine
was built for; its own tests are in test_tensorrt.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import pytest

from deploy.engines import Engine, open_engine
from multilabel.bundle import Bundle, write_bundle
from multilabel.errors import EngineUnavailableError, InputError


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

    def test_a_with_block_closes_it(self, bundle, images):
        with open_engine(bundle) as engine:
            engine(images[:1])
        with pytest.raises((AttributeError, RuntimeError)):
            engine(images[:1])

    def test_labels_and_preprocess_are_the_students(self, engine, student):
        assert (engine.labels, engine.preprocess) == (student.labels, student.preprocess)


class TestTorch(EngineContract):
    runs: ClassVar = {"runtime": "torch", "provider": "cpu", "precision": "fp32"}
    closeness = 100

    @pytest.fixture(scope="class")
    def bundle(self, student: Bundle) -> Bundle:
        return student


class TestOnnxFp32(EngineContract):
    name = "onnx-fp32"
    runs: ClassVar = {"runtime": "onnxruntime", "provider": "CPUExecutionProvider", "precision": "fp32"}
    closeness = 100


class TestOnnxFp16(EngineContract):
    name = "onnx-fp16"
    runs: ClassVar = {"runtime": "onnxruntime", "provider": "CPUExecutionProvider", "precision": "fp16"}
    closeness = 50
    split_tolerance = 0.02


class TestOnnxInt8(EngineContract):
    name = "onnx-int8-onnxruntime"
    runs: ClassVar = {"runtime": "onnxruntime", "provider": "CPUExecutionProvider", "precision": "int8"}
    closeness = 15
    split_tolerance = 1e-3


class TestOpenVinoFp32(EngineContract):
    name = "openvino-fp32"
    runs: ClassVar = {"runtime": "openvino", "provider": "CPU", "precision": "f32"}
    closeness = 100


class TestOpenVinoFp16(EngineContract):
    """Its weights are stored in half precision; a CPU executes it in f32."""

    name = "openvino-fp16"
    runs: ClassVar = {"runtime": "openvino", "provider": "CPU", "precision": "f32"}
    closeness = 50


class TestOpenVinoInt8(EngineContract):
    name = "openvino-int8"
    runs: ClassVar = {"runtime": "openvino", "provider": "CPU", "precision": "int8 + f32"}
    closeness = 15
    split_tolerance = 1e-3


def test_a_device_unknown_to_onnx_runtime(onnx_bundle):
    with pytest.raises(InputError, match="device 'toaster': ONNX Runtime takes cpu, cuda"):
        open_engine(onnx_bundle, device="toaster")


def test_a_device_that_openvino_does_not_see(build):
    with pytest.raises(InputError, match=r"'toaster': OpenVINO takes cpu, gpu, npu"):
        open_engine(build("openvino-fp32"), device="toaster")
    with pytest.raises(EngineUnavailableError, match=r"OpenVINO sees no NPU here; it sees .*CPU"):
        open_engine(build("openvino-fp32"), device="npu")


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
