"""A TensorRT engine on the CUDA device that it was built for."""

from __future__ import annotations

import functools
import importlib
import logging
from types import ModuleType
from typing import Any

import numpy as np

from deploy.cuda import cuda_compute_capability, sm_name
from deploy.engines.base import Engine, require
from multilabel.bundle import Bundle
from multilabel.errors import EngineUnavailableError, InputError

log = logging.getLogger("edgepress")
_EXTRAS = {"tensorrt": "gpu", "tensorrt_rtx": "tensorrt-rtx"}


class TensorRtEngine(Engine):
    """A TensorRT bundle, with its device buffers and stream.

    Buffers hold `max_batch` pictures, are made once and are reused by every call.
    """

    def __init__(self, bundle: Bundle) -> None:
        built_for = bundle.manifest.built_for or {}
        missing = {"runtime", "version", "compute_capability", "max_batch"} - built_for.keys()
        if missing or built_for["runtime"] not in _EXTRAS or not built_for["max_batch"].isdecimal():
            raise EngineUnavailableError(
                f"{bundle.path}: its manifest does not say what it was built for; build it again"
            )
        super().__init__(bundle, int(built_for["max_batch"]))
        self._buffers: list[int] = []
        self._stream: Any = None
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._trt = _installed_runtime(built_for["runtime"], built_for["version"])
        _require_device(built_for["compute_capability"])
        self._device = built_for["compute_capability"]
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
    def ran(self) -> dict[str, str]:
        return {
            "runtime": self._trt.__name__,
            "version": self._trt.__version__,
            "provider": f"cuda {self._device}",
            "precision": self.bundle.manifest.precision,
        }

    def _load(self) -> None:
        """Deserialise the plan and check its inputs and outputs against the manifest."""
        trt = self._trt
        logger = collecting_logger(trt)
        logger.forget()
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(self.bundle.model_path.read_bytes())
        if self._engine is not None:
            self._context = self._engine.create_execution_context()
        if self._context is None:
            reason = first_line(logger.errors)
            raise EngineUnavailableError(f"{self.bundle.model_path}: TensorRT cannot open it: {reason}")
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
        images, logits = ("INPUT", "UINT8", (-1, size, size, 3)), ("OUTPUT", "FLOAT", (-1, len(self.labels)))
        if found.keys() != {images, logits} or len(names) != 2:
            raise InputError(f"{self.bundle.model_path}: the engine has {list(found)}; expected {images} and {logits}")
        self._images, self._logits = found[images], found[logits]

    def _allocate(self) -> None:
        """A stream, and device memory for the largest batch, which the engine reads and writes from now on."""
        assert self.max_batch is not None
        (self._stream,) = self._cuda("cudaStreamCreate")
        size = self.preprocess.size
        for name, count in (
            (self._images, self.max_batch * size * size * 3),
            (self._logits, self.max_batch * len(self.labels) * np.dtype(np.float32).itemsize),
        ):
            (address,) = self._cuda("cudaMalloc", count)
            self._buffers.append(address)
            if not self._context.set_tensor_address(name, int(address)):
                raise RuntimeError(f"TensorRT refuses the memory of {name}")

    def _run(self, images: np.ndarray) -> np.ndarray:
        kinds = self._cudart.cudaMemcpyKind
        logits = np.empty((len(images), len(self.labels)), dtype=np.float32)
        device_images, device_logits = self._buffers
        if not self._context.set_input_shape(self._images, images.shape):
            raise RuntimeError(f"TensorRT refuses a batch of {len(images)}; it was built for 1 to {self.max_batch}")
        # Everything is in the order of one stream; the host waits once, at the end.
        stream, logger = self._stream, collecting_logger(self._trt)
        logger.forget()
        size = images.nbytes
        self._cuda("cudaMemcpyAsync", device_images, images.ctypes.data, size, kinds.cudaMemcpyHostToDevice, stream)
        if not self._context.execute_async_v3(int(stream)):
            raise RuntimeError(f"TensorRT did not run the engine: {first_line(logger.errors)}")
        size = logits.nbytes
        self._cuda("cudaMemcpyAsync", logits.ctypes.data, device_logits, size, kinds.cudaMemcpyDeviceToHost, stream)
        self._cuda("cudaStreamSynchronize", stream)
        return logits

    def close(self) -> None:
        # The context first: it holds the addresses, and the engine and the runtime hold what it runs.
        self._context = self._engine = self._runtime = None
        buffers, self._buffers = self._buffers, []
        stream, self._stream = self._stream, None
        owned = [("cudaFree", address) for address in buffers]
        if stream is not None:
            owned.append(("cudaStreamDestroy", stream))
        for function, handle in owned:
            try:
                self._cuda(function, handle)
            except RuntimeError as error:  # after a failed run all calls fail, and that run's error is the one to show
                log.warning("%s: %s", self.bundle.path, error)

    def _cuda(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Call the CUDA runtime: what it returns after its code.

        Raises:
            RuntimeError: the code is not success; names the function and CUDA's reason.
        """
        code, *results = getattr(self._cudart, function)(*arguments)
        if code != self._cudart.cudaError_t.cudaSuccess:
            text = self._cudart.cudaGetErrorString(code)[1]
            raise RuntimeError(f"{function}: {text.decode() if isinstance(text, bytes) else text} ({int(code)})")
        return tuple(results)


def load_runtime(name: str) -> ModuleType:
    """Import an installed `tensorrt` or `tensorrt_rtx`.

    Raises:
        EngineUnavailableError: it is not installed, or its libraries do not load; says why.
    """
    require(name, _EXTRAS[name])
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise EngineUnavailableError(f"{name} is installed but does not load: {one_line(error)}") from error


@functools.cache
def collecting_logger(trt: ModuleType) -> Any:
    """TensorRT's logger: keeps `warnings` and `errors` and prints nothing.

    One a process, because TensorRT goes on using the first logger it was ever given.
    """
    severe = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Collector(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)

        def forget(self) -> None:
            self.errors.clear()
            self.warnings.clear()

    return Collector()


def one_line(reason: object) -> str:
    """A reason from elsewhere, on one line and bounded."""
    return " ".join(str(reason).split())[:300]


def first_line(messages: list[str]) -> str:
    """The first message: TensorRT's cause comes before its consequences."""
    return one_line(messages[0]) if messages else "no reason given"


def _installed_runtime(name: str, built_by: str) -> ModuleType:
    """The runtime an engine was built with, in the version that built it."""
    trt = load_runtime(name)
    if trt.__version__ != built_by:
        raise EngineUnavailableError(
            f"built by {name} {built_by}; {trt.__version__} is installed here, and an engine opens only on the version "
            "that built it: install that one or build it again"
        )
    return trt


def _require_device(built_for: str) -> None:
    present = cuda_compute_capability()
    if present is None:
        raise EngineUnavailableError(f"built for {built_for}; no GPU here")
    if sm_name(present) != built_for:
        raise EngineUnavailableError(f"built for {built_for}; this GPU is {sm_name(present)}")


def _cuda_runtime() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineUnavailableError(
            "cuda-python is not installed here (pip install 'edgepress[gpu]', on a Jetson 'edgepress[jetson]')"
        ) from error
    return runtime
