"""A TensorRT engine on the CUDA device that it was built for.

Not run on a GPU: see tests/deploy/engines/test_engines.py.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from edgepress.deploy.engines.base import CopyTimes, Engine, Proof, summary
from edgepress.deploy.engines.cuda_graph import GraphReplay
from edgepress.deploy.engines.tensorrt_runtime import collecting_logger, first_line, load_runtime, one_line
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.manifest import BuiltForTensorRt
from edgepress.multilabel.versions import install_command

log = logging.getLogger("edgepress")


class TensorRtEngine(Engine):
    """A TensorRT bundle that fits this machine (`deploy.engines.passport`), with its device buffers and stream.

    Buffers hold `max_batch` pictures; they are made once and every call uses them, so calls wait for each other. The
    buffers of the host are page-locked: the device reads and writes them without a copy by the driver.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        if device not in ("cpu", "cuda"):
            raise InputError(f"device {device!r}: a TensorRT engine runs on the GPU it was built for, cuda")
        built_for = bundle.manifest.built_for
        assert isinstance(built_for, BuiltForTensorRt), "the manifest was checked"
        super().__init__(bundle, device, built_for.max_batch)
        self._lock = threading.Lock()
        self._buffers: list[int] = []
        self._pinned: list[int] = []
        self._stream: Any = None
        self._replay: GraphReplay | None = None
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._trt = load_runtime(built_for.runtime)
        self._device, self._dla, self._graph = built_for.compute_capability, built_for.dla, built_for.cuda_graph
        self._cudart = _cuda_runtime()
        try:
            self._load()
            self._allocate()
        except BaseException as error:
            self.close()
            if isinstance(error, RuntimeError) and not isinstance(error, EngineUnavailableError):
                raise EngineUnavailableError(f"{bundle.model_path}: {one_line(error)}") from error
            raise

    @property
    def runtime_version(self) -> str:
        return f"{self._trt.__name__} {self._trt.__version__}"

    def _proof(self) -> Proof:
        facts = self.bundle.manifest.facts
        products, layers = facts.products, facts.types
        assert products is not None
        assert layers is not None
        settings = {"max_batch": str(self.max_batch)}
        if self._graph:
            settings["cuda_graph"] = "by TensorRT-RTX" if self._replay is None else "replayed"
        if self._dla is not None:
            able = facts.dla_layers
            settings["dla"] = f"core {self._dla}; {able} layers can run there, said the builder"
        return Proof(
            runtime=self._trt.__name__,
            version=self._trt.__version__,
            provider=f"cuda {self._device}" + ("" if self._dla is None else f" + dla {self._dla}"),
            precision=summary(products),
            products=products,
            layers=layers,
            source="the strongly typed network that was built; the plan itself was not asked",
            settings=settings,
        )

    def _load(self) -> None:
        """Deserialise the plan and check its inputs and outputs against the manifest."""
        trt = self._trt
        logger = collecting_logger(trt)
        logger.forget()
        self._runtime = trt.Runtime(logger)
        if self._dla is not None:
            cores = self._runtime.num_DLA_cores
            if self._dla >= cores:
                raise EngineUnavailableError(f"{self.bundle.path}: built for DLA core {self._dla}; found {cores} here")
            self._runtime.DLA_core = self._dla
        plan = self.bundle.read(self.bundle.manifest.model)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is not None:
            self._context = self._new_context()
        if self._context is None:
            faults = header_faults(trt, self._runtime, plan)
            reason = ", ".join([*faults, first_line(logger.errors)])
            kind = InputError if "MALFORMED_ENGINE" in faults else EngineUnavailableError
            raise kind(f"{self.bundle.model_path}: TensorRT cannot open it: {reason}")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        found = {
            (
                self._engine.get_tensor_mode(name).name,
                self._engine.get_tensor_dtype(name).name,
                tuple(self._engine.get_tensor_shape(name)),
            ): name
            for name in names
        }
        size = self.preprocess.size
        # TensorRT gives -1 for a size that the profile lets vary; an engine for one picture has none.
        first = -1 if any(shape[:1] == (-1,) for *_, shape in found) or self.max_batch != 1 else 1
        images, logits = ("INPUT", "UINT8", (first, size, size, 3)), ("OUTPUT", "FLOAT", (first, len(self.labels)))
        if found.keys() != {images, logits} or len(names) != 2:
            raise InputError(f"{self.bundle.model_path}: the engine has {list(found)}; expected {images} and {logits}")
        self._images, self._logits = found[images], found[logits]

    def _new_context(self) -> Any:
        if not self._graph or self._trt.__name__ != "tensorrt_rtx":
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self._engine.create_execution_context(runtime_config=config)

    def _allocate(self) -> None:
        """Create the stream and, on both sides, memory for the largest batch; every call uses them from now on."""
        assert self.max_batch is not None
        # Not the default stream, because work that another library puts there would break a capture.
        (self._stream,) = self._cuda("cudaStreamCreateWithFlags", self._cudart.cudaStreamNonBlocking)
        if self._graph and self._trt.__name__ != "tensorrt_rtx":
            self._replay = GraphReplay(self._cuda, self._cudart, self._stream, self._execute)
        size = self.preprocess.size
        self._host: list[np.ndarray] = []
        for name, shape, dtype in (
            (self._images, (self.max_batch, size, size, 3), np.dtype(np.uint8)),
            (self._logits, (self.max_batch, len(self.labels)), np.dtype(np.float32)),
        ):
            count = int(np.prod(shape)) * dtype.itemsize
            (address,) = self._cuda("cudaMalloc", count)
            self._buffers.append(address)
            if not self._context.set_tensor_address(name, int(address)):
                raise RuntimeError(f"TensorRT refuses the memory of {name}")
            (pinned,) = self._cuda("cudaMallocHost", count)
            self._pinned.append(pinned)
            memory = (ctypes.c_uint8 * count).from_address(int(pinned))
            self._host.append(np.frombuffer(memory, dtype).reshape(shape))

    def _run(self, images: np.ndarray) -> np.ndarray:
        with self._lock:
            return self._infer(images)

    def timed(self, images: np.ndarray) -> CopyTimes:
        """Time one call's copies to and from the device and the computation between them, by the device's clock.

        Returns:
            If the batch is split, the sums. The host's copy into page-locked memory is not included.
        """
        assert self.max_batch is not None
        total = np.zeros(3)
        with self._lifetime.call():
            events = [self._cuda("cudaEventCreate")[0] for _ in range(4)]
            try:
                for start in range(0, len(images), self.max_batch):
                    with self._lock:
                        self._infer(images[start : start + self.max_batch], events)
                    total += [self._cuda("cudaEventElapsedTime", *pair)[0] for pair in itertools.pairwise(events)]
            finally:
                for event in events:
                    self._cuda("cudaEventDestroy", event)
        copy_in, compute, copy_out = map(float, total)
        return CopyTimes(copy_in_ms=copy_in, compute_ms=compute, copy_out_ms=copy_out)

    def _infer(self, images: np.ndarray, events: Sequence[Any] = ()) -> np.ndarray:
        """Run a batch; the events, if any, are recorded before and after each of copy in, compute and copy out."""
        marks = iter(events)

        def mark() -> None:
            event = next(marks, None)
            if event is not None:
                self._cuda("cudaEventRecord", event, self._stream)

        kinds, count = self._cudart.cudaMemcpyKind, len(images)
        device_images, device_logits = self._buffers
        host_images, host_logits = (memory[:count] for memory in self._host)
        host_images[:] = images
        if not self._context.set_input_shape(self._images, images.shape):
            raise RuntimeError(f"TensorRT refuses a batch of {count}; it was built for 1 to {self.max_batch}")
        # All work is ordered in one stream; the host waits once, at the end.
        stream = self._stream
        source, size = host_images.ctypes.data, host_images.nbytes
        mark()
        self._cuda("cudaMemcpyAsync", device_images, source, size, kinds.cudaMemcpyHostToDevice, stream)
        mark()
        if self._replay is not None:
            self._replay.run(count)
        else:
            self._execute()
        mark()
        target, size = host_logits.ctypes.data, host_logits.nbytes
        self._cuda("cudaMemcpyAsync", target, device_logits, size, kinds.cudaMemcpyDeviceToHost, stream)
        mark()
        self._cuda("cudaStreamSynchronize", stream)
        return host_logits.copy()

    def _execute(self) -> None:
        """Enqueue the engine on the stream."""
        logger = collecting_logger(self._trt)
        logger.forget()
        if not self._context.execute_async_v3(int(self._stream)):
            raise RuntimeError(f"TensorRT did not run the engine: {first_line(logger.errors)}")

    def _release(self) -> None:
        # The context goes first: it holds the addresses, and the engine and the runtime hold what it runs.
        replay, self._replay = self._replay, None
        self._context = self._engine = self._runtime = None
        self._host = []
        buffers, self._buffers = self._buffers, []
        pinned, self._pinned = self._pinned, []
        stream, self._stream = self._stream, None
        owned = [("cudaFree", address) for address in buffers] + [("cudaFreeHost", address) for address in pinned]
        calls: list[Callable[[], object]] = [] if replay is None else [replay.close]
        calls += [functools.partial(self._cuda, function, handle) for function, handle in owned]
        if stream is not None:
            calls.append(functools.partial(self._cuda, "cudaStreamDestroy", stream))
        for free in calls:
            try:
                free()
            except RuntimeError as error:  # after a failed run all calls fail; show that run's error
                log.warning("%s: %s", self.bundle.path, error)

    def _cuda(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Call the CUDA runtime; gives what it returns after its code.

        Raises:
            RuntimeError: the code is not success; names the function and CUDA's reason for it.
        """
        code, *results = getattr(self._cudart, function)(*arguments)
        if code != self._cudart.cudaError_t.cudaSuccess:
            text = self._cudart.cudaGetErrorString(code)[1]
            raise RuntimeError(f"{function}: {text.decode() if isinstance(text, bytes) else text} ({int(code)})")
        return tuple(results)


def header_faults(trt: ModuleType, runtime: Any, plan: bytes) -> list[str]:
    """Why TensorRT-RTX finds a plan's header invalid here, in its words (`UNSUPPORTED_CC`); the full TensorRT has no
    such check."""
    if not hasattr(runtime, "get_engine_validity"):
        return []
    _, faults = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    return [name for name, flag in trt.EngineInvalidityDiagnostics.__members__.items() if faults & int(flag)]


def _cuda_runtime() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineUnavailableError(
            f"cuda-python is not installed here ({install_command('gpu')}; on a Jetson 'edgepress[jetson]')"
        ) from error
    return runtime
