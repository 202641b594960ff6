"""TensorRT's engine keeps the contract of all engines.

It runs only on the GPU that it was built for: here it runs on a stand-in for that GPU, which checks where it puts and
finds its pictures, not TensorRT's arithmetic. Building is tested in test_tensorrt.py.
"""

from __future__ import annotations

import ctypes
import time
import types
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

import edgepress.deploy.engines
import edgepress.deploy.engines.tensorrt as engine_room
from edgepress.deploy.build.compile import derived_bundle
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.manifest import BuiltForTensorRt
from tests.deploy.engines.engine_contract import CONVOLUTIONS, EngineContract


class StandInGpu:
    """CUDA's memory and one stream, and a TensorRT that computes by ONNX Runtime.

    As on a device, nothing that is put on the stream happens before the host waits for it, and a copy must stay within
    memory that was allocated and not yet freed.
    """

    most = 4
    """Pictures of its profile; of a profile without a range TensorRT gives the number itself."""

    def __init__(self, model: Bundle, runtime: str) -> None:
        self.model, self.memory, self.stream = model, {}, []
        self.captured: list[Any] | None = None
        self.graphs: dict[int, list[Any]] = {}
        self.asked = {"executed": 0, "launched": 0, "captured": 0, "strategy": None}
        self.trt = types.ModuleType(runtime)
        logger = type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "__init__": lambda self: None})
        self.trt.__dict__.update(__version__="1.0", ILogger=logger, Runtime=lambda logger: self)
        self.trt.CudaGraphStrategy = types.SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")
        self.cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
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

    cudaStreamNonBlocking = 1

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        assert flags == self.cudaStreamNonBlocking
        return 0, 7

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        assert all(size <= len(self.memory[address]) for address in (target, source))
        time.sleep(0.001)  # another thread's turn
        self.stream.append(lambda: ctypes.memmove(target, source, size))
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.captured = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, int]:
        graph, self.captured = self.captured, None
        self.asked["captured"] += 1
        return self._keep(graph)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int, int]:
        return self._keep(self.graphs[graph])

    def cudaGraphDestroy(self, graph: int) -> tuple[int]:
        del self.graphs[graph]
        return (0,)

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[int]:
        self.asked["launched"] += 1
        self.stream += self.graphs[graph]
        return (0,)

    def _keep(self, graph: list[Any]) -> tuple[int, int]:
        name = 1 + max(self.graphs, default=0)
        self.graphs[name] = graph
        return 0, name

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        assert self.captured is None, "a stream that is captured cannot be waited for"
        waiting, self.stream = self.stream, []
        for step in waiting:
            step()
        return (0,)

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(self.model.model_path), providers=["CPUExecutionProvider"])
        size, labels = self.model.preprocess.size, len(self.model.labels)
        first = -1 if self.most > 1 else 1
        tensors = [("INPUT", "UINT8", (first, size, size, 3)), ("OUTPUT", "FLOAT", (first, labels))]
        addresses, shape = {}, [0]

        def execute(stream: int) -> bool:
            count, given, given_back = shape[0], self.memory[addresses["0"]], self.memory[addresses["1"]]

            def step() -> None:
                images = np.frombuffer(given, np.uint8)[: count * size * size * 3].reshape(count, size, size, 3)
                logits = session.run(None, {"images": images})[0]
                np.frombuffer(given_back, np.float32)[: logits.size] = logits.ravel()

            (self.stream if self.captured is None else self.captured).append(step)
            self.asked["executed"] += 1
            return True

        def new_context(runtime_config: Any = None) -> Any:
            self.asked["strategy"] = getattr(runtime_config, "cuda_graph_strategy", None)
            return context

        def set_shape(name: str, given: tuple[int, ...]) -> bool:
            shape[0] = given[0]
            return given[0] <= self.most

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
            create_execution_context=new_context,
            create_runtime_config=types.SimpleNamespace,
        )


class TestTensorRtOnAStandIn(EngineContract):
    """Not run on a GPU. 33 pictures are nine times its profile."""

    runs: ClassVar = {"runtime": "tensorrt_rtx", "provider": "cuda SM86", "precision": "f32"}
    closeness = 100
    flags: ClassVar[dict[str, Any]] = {}
    most = 4
    devices = "a TensorRT engine runs on the GPU it was built for, cuda"

    @pytest.fixture(scope="class")
    def bundle(self, onnx_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        out = tmp_path_factory.mktemp("stand-in") / "tensorrt-fp32-sm86"
        target = {"version": "1.0", "compute_capability": "SM86", "max_batch": self.most, **self.flags}
        of = {"onnx_sha256": onnx_bundle.model_sha256, "platform": "linux-x86_64"}
        built_for = BuiltForTensorRt(runtime=self.runs["runtime"], **of, **target)
        facts = Facts(products={"f32": CONVOLUTIONS}, types={"f32": CONVOLUTIONS + 1}, dla_layers=3)
        fields = {"kind": "tensorrt", "precision": "fp32", "model": "model.plan", "built_for": built_for}
        with derived_bundle(onnx_bundle, out, **fields, facts=facts) as folder:
            (folder / "model.plan").write_bytes(b"a plan")
        return Bundle.open(out)

    @pytest.fixture(scope="class")
    def gpu(self, onnx_bundle: Bundle) -> StandInGpu:
        return StandInGpu(onnx_bundle, self.runs["runtime"])

    @pytest.fixture(scope="class", autouse=True)
    def instead_of_a_gpu(self, gpu: StandInGpu) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(edgepress.deploy.engines, "require_fit", lambda bundle: None)
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
            monkeypatch.setattr(gpu, "cudaStreamSynchronize", lambda stream: gpu.stream.clear() or (700,))
            monkeypatch.setattr(gpu, "cudaGetErrorString", lambda code: (0, b"an illegal memory access"), raising=False)
            with pytest.raises(RuntimeError, match=r"cudaStreamSynchronize: an illegal memory access \(700\)"):
                engine(images[:1])


class TestTensorRtRtxWithItsOwnCudaGraph(TestTensorRtOnAStandIn):
    """Not run on a GPU. TensorRT-RTX is asked to capture by itself, and nothing is captured here."""

    flags: ClassVar = {"cuda_graph": True}

    def test_it_is_asked_to_capture(self, engine, gpu, images):
        engine(images[:2])
        assert gpu.asked["strategy"] == "whole graph"
        assert gpu.asked["captured"] == gpu.asked["launched"] == 0
        assert engine.proof().settings["cuda_graph"] == "by TensorRT-RTX"


class TestTensorRtReplayingACudaGraph(TestTensorRtOnAStandIn):
    """Not run on a GPU. What is captured is the batch size of then, so a graph of another size gives wrong logits."""

    runs: ClassVar = {"runtime": "tensorrt", "provider": "cuda SM86", "precision": "f32"}
    flags: ClassVar = {"cuda_graph": True}

    def test_it_is_captured_at_the_second_call_of_a_size_and_replayed_from_then_on(self, bundle, gpu, images):
        gpu.asked.update(executed=0, launched=0, captured=0)
        before = set(gpu.graphs)
        with open_engine(bundle) as engine:
            counts = []
            for batch in (2, 2, 2, 3, 2, 2):
                assert np.array_equal(engine(images[:batch]), engine(images[:batch]))
                counts.append(tuple(gpu.asked[name] for name in ("executed", "captured", "launched")))
            assert counts == [(2, 1, 1), (2, 1, 3), (2, 1, 5), (4, 2, 6), (6, 3, 7), (6, 3, 9)]
            assert engine.proof().settings["cuda_graph"] == "replayed"
            assert gpu.asked["strategy"] is None
            assert len(set(gpu.graphs) - before) == 1
        assert set(gpu.graphs) == before

    def test_other_pictures_are_answered_by_the_same_graph(self, bundle, images):
        with open_engine(bundle) as engine:
            alone = [engine(images[index : index + 1]) for index in (0, 1, 2)]
            assert not np.array_equal(alone[0], alone[2])
            assert np.array_equal(alone[2], engine(images[2:3]))

    @pytest.mark.parametrize("failing", ["cudaStreamEndCapture", "cudaGraphInstantiate", "execute"])
    def test_an_engine_that_cannot_be_captured_is_told_and_leaves_no_capture(
        self, bundle, gpu, images, monkeypatch, failing
    ):
        monkeypatch.setattr(gpu, "cudaGetErrorString", lambda code: (0, b"capture invalidated"), raising=False)
        before = set(gpu.graphs)
        with open_engine(bundle) as engine:
            engine(images[:1])
            if failing == "execute":
                monkeypatch.setattr(engine._context, "execute_async_v3", lambda stream: False)
                reason = "TensorRT did not run the engine: no reason given"
            else:

                def fails(*given: Any) -> tuple[int, None]:
                    gpu.captured = None
                    return 901, None

                monkeypatch.setattr(gpu, failing, fails)
                reason = rf"{failing}: capture invalidated \(901\)"
            with pytest.raises(
                EngineUnavailableError, match=f"no CUDA graph of this engine: {reason}; compile it without"
            ):
                engine(images[:1])
            assert gpu.captured is None
            assert set(gpu.graphs) <= before
            gpu.stream.clear()


class TestTensorRtOnADla(TestTensorRtOnAStandIn):
    """Not run on a device. The core is named to the runtime before the plan is opened."""

    runs: ClassVar = {"runtime": "tensorrt", "provider": "cuda SM86 + dla 1", "precision": "f32"}
    flags: ClassVar = {"dla": 1}
    most = 1

    @pytest.fixture(scope="class")
    def gpu(self, onnx_bundle: Bundle) -> StandInGpu:
        gpu = StandInGpu(onnx_bundle, "tensorrt")
        gpu.num_DLA_cores, gpu.DLA_core, gpu.most = 2, None, self.most
        return gpu

    def test_the_core_is_the_one_that_it_was_built_for(self, bundle, gpu, monkeypatch):
        with open_engine(bundle) as engine:
            assert gpu.DLA_core == 1
            assert engine.proof().settings["dla"].startswith("core 1; ")
        monkeypatch.setattr(gpu, "num_DLA_cores", 1)
        with pytest.raises(EngineUnavailableError, match="built for DLA core 1; found 1 here"):
            open_engine(bundle)
