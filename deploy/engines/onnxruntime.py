"""ONNX Runtime on the CPU or a CUDA device."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgepress.deploy.engines.base import (
    Engine,
    Proof,
    by_precision,
    require,
    require_memory,
    require_shape,
    require_threads,
    summary,
)
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.golden_answers import is_proof
from edgepress.multilabel.onnx_session import FLOAT_STAYS, session_options
from edgepress.multilabel.versions import install_command

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# ONNX Runtime's default on a GPU multiplies float32 with mantissas of 10 bits (TF32), which is no fp32.
_OPTIONS = {"CPUExecutionProvider": {}, "CUDAExecutionProvider": {"use_tf32": "0"}}
_PRODUCTS = re.compile(r"Conv|MatMul|Gemm")
# Its messages for a model that is newer than ONNX Runtime, or has operators without a kernel.
_TOO_NEW = re.compile(
    r"Unsupported model IR version|only \*guarantees\* support|is not a registered function/op|No Op registered for"
)


_NO_FOLDER = "no folder can be written for ONNX Runtime's profile (TMPDIR=FOLDER names one)"
log = logging.getLogger("edgepress")


class OnnxRuntimeEngine(Engine):
    """An ONNX bundle in an ONNX Runtime session, which several threads may run at once."""

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int | None = None) -> None:
        super().__init__(bundle, device)
        if device not in _PROVIDERS:
            raise InputError(f"device {device!r}: ONNX Runtime takes {', '.join(_PROVIDERS)}")
        threads = require_threads(threads)
        require("onnxruntime", "onnxruntime" if device == "cpu" else "gpu")
        import onnxruntime as ort

        self._ort, self._provider, self._threads = ort, _PROVIDERS[device], threads
        if self._provider not in ort.get_available_providers():
            raise EngineUnavailableError(
                f"this onnxruntime has no {self._provider} ({install_command('gpu')}); "
                f"it has {', '.join(ort.get_available_providers())}"
            )
        failed = "" if device == "cpu" else preload_cuda(ort)
        self._session = self._open(session_options(threads))
        # A listed provider may still hand everything to the CPU.
        if self._session.get_providers()[0] != self._provider:
            raise EngineUnavailableError(
                f"asked for {self._provider}; ONNX Runtime fell back to {self._session.get_providers()[0]}, most often "
                "because CUDA's libraries or cuDNN are missing or of another version (pip install "
                f"'onnxruntime-gpu[cuda,cudnn]'){failed}"
            )
        first = self._session.get_inputs()[0]
        dims = [dim if isinstance(dim, int) else None for dim in first.shape]
        require_shape(bundle, dims, first.type.removeprefix("tensor(").removesuffix(")"))
        self._input = first.name

    def _open(self, options: Any) -> Any:
        file = self.bundle.model_path
        try:
            with _graph(self.bundle) as graph:
                return self._ort.InferenceSession(
                    graph,
                    options,
                    providers=[(self._provider, _OPTIONS[self._provider])],
                    disabled_optimizers=list(FLOAT_STAYS),
                    # With fallback, the CPU replaces a provider that fails, with only one printed line.
                    enable_fallback=0,
                )
        except InputError:
            raise
        except Exception as error:  # its exception types share no base class
            reason = " ".join(str(error).split())
            require_memory(file, "ONNX Runtime", reason)
            if _TOO_NEW.search(reason):
                recorded = f"recorded: ONNX opset {self.bundle.manifest.opset or 'unknown'}"
                raise EngineUnavailableError(
                    f"{file}: {recorded}; found: onnxruntime {self._ort.__version__}, which has no support for it "
                    f"({_cause(reason)}); install a newer onnxruntime, or export the model again"
                ) from error
            raise InputError(f"{file}: ONNX Runtime cannot load it: {reason[:300]}") from error

    @property
    def runtime_version(self) -> str:
        return f"onnxruntime {self._ort.__version__}"

    def _proof(self) -> Proof:
        kernels = self._kernels
        if kernels is None:
            return self._unprofiled()
        products = [kernel for kernel in kernels if _PRODUCTS.search(kernel["op_name"])]
        require_placed(products, self._provider)
        precisions = by_precision(_computed(kernel) for kernel in products)
        return Proof(
            runtime="onnxruntime",
            version=self._ort.__version__,
            provider=self._session.get_providers()[0],
            precision=summary(precisions),
            products=precisions,
            layers=by_precision(_computed(kernel) for kernel in kernels),
            source="ONNX Runtime's profile of one picture",
            settings=self._settings(),
        )

    def _unprofiled(self) -> Proof:
        """Proof without a profile. A session on the CPU runs everything there; for a GPU only a profile shows what
        ran."""
        if self._provider != _PROVIDERS["cpu"]:
            raise EngineUnavailableError(f"{_NO_FOLDER}: nothing else tells what ran on {self._provider}")
        log.warning("%s: the runtime does not report what it executes for each layer", _NO_FOLDER)
        return Proof(
            runtime="onnxruntime",
            version=self._ort.__version__,
            provider=self._session.get_providers()[0],
            precision=summary({}),
            products={},
            layers={},
            source="ONNX Runtime's session",
            settings=self._settings(),
        )

    def _settings(self) -> dict[str, str]:
        threads = str(self._session.get_session_options().intra_op_num_threads or "all cores")
        return {"threads": threads} if self._provider == _PROVIDERS["cpu"] else {"threads": threads, "tf32": "off"}

    @functools.cached_property
    def _kernels(self) -> list[dict[str, Any]] | None:
        """ONNX Runtime's own profile of every kernel that ran for one picture, in a session made the same way.

        None where no folder can be written, as in a container whose file system is read-only: ONNX Runtime writes its
        profile to a file alone.
        """
        size = self.preprocess.size
        try:
            scratch = tempfile.TemporaryDirectory(prefix="edgepress-profile-")
        except OSError:
            return None
        with scratch as folder:
            options = session_options(self._threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._open(options)
            session.run(None, {self._input: np.zeros((1, size, size, 3), np.uint8)})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return [
            event["args"] for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        ]

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._compute(None, images)

    def output(self, name: str, images: np.ndarray) -> np.ndarray:
        """Compute another output of the graph for prepared pixels, uint8 RGB `[B, size, size, 3]`."""
        with self._lifetime.call():
            return self._compute([name], images)

    def _compute(self, names: list[str] | None, images: np.ndarray) -> np.ndarray:
        try:
            return self._session.run(names, {self._input: images})[0]
        except Exception as error:  # its exception types share no base class
            reason = " ".join(str(error).split())[:300]
            raise RuntimeError(f"ONNX Runtime fails: {reason}") from error

    def _release(self) -> None:
        del self._session


@contextlib.contextmanager
def _graph(bundle: Bundle) -> Iterator[bytes | str]:
    """What a session is made from: the checked bytes, or the path of a copy of them if weights are in other files,
    because ONNX Runtime finds those by name and maps them."""
    others = [name for name in bundle.manifest.files if name != bundle.manifest.model and not is_proof(name)]
    if not others:
        yield bundle.read(bundle.manifest.model)
        return
    with tempfile.TemporaryDirectory(prefix="edgepress-model-") as folder:
        for name in (*others, bundle.manifest.model):
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(bundle.read(name))
        yield str(Path(folder) / bundle.manifest.model)


def preload_cuda(ort: ModuleType) -> str:
    """Load CUDA's libraries and cuDNN where pip installed them, because the system's loader does not look there.

    PyTorch has loaded its own, which serve, if it was imported before. Not run on a GPU.

    Returns:
        What ONNX Runtime (from 1.21 on) says of libraries that it did not find, to be shown if it then finds no GPU.
    """
    if not hasattr(ort, "preload_dlls"):
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what fails, and raises nothing
        ort.preload_dlls()
    first = " ".join(said.getvalue().split())[:300]
    return f": {first}" if first else ""


def require_placed(products: list[dict[str, Any]], provider: str) -> None:
    """Stop if a convolution or matrix product ran elsewhere: ONNX Runtime places on the CPU what a GPU lacks.

    Args:
        products: kernels of a profile, each with `op_name` and `provider`.

    Raises:
        EngineUnavailableError: one did; says how many ran where.
    """
    elsewhere = Counter(kernel["provider"] for kernel in products if kernel["provider"] != provider)
    if elsewhere:
        ran = ", ".join(f"{count} on {name}" for name, count in sorted(elsewhere.items()))
        raise EngineUnavailableError(
            f"asked for {provider}; of {len(products)} convolutions and matrix products ONNX Runtime ran {ran}"
        )


def _computed(kernel: dict[str, Any]) -> str:
    """The type that a kernel computes in: the type of its first input, because some INT8 kernels write floats."""
    return next(name for shape in (*kernel["input_type_shape"], *kernel["output_type_shape"]) for name in shape)


def _cause(reason: str) -> str:
    """The part of ONNX Runtime's message that names what is too new; lines of its own source come before it."""
    found = _TOO_NEW.search(reason)
    assert found is not None
    till = re.search(r"is till opset \d+", reason)
    return till.group() if till else reason[max(found.start() - 40, 0) : found.end() + 60].strip(" .")
