"""The contract of every engine: uint8 pictures in, float32 logits out, and a proof of what executed."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgepress.deploy.engines.lifetime import Lifetime
from edgepress.deploy.engines.table import RUNTIMES
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError, NoNumberError, require_whole
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.versions import install_command

Hint = Literal["latency", "throughput"]
_NAMES = {
    "float": "f32",
    "float32": "f32",
    "float16": "f16",
    "half": "f16",
    "bfloat16": "bf16",
    "i8": "int8",
    "u8": "int8",
    "uint8": "int8",
}
_THREADS_A_CORE = 8
"""More only wait for each other: runtimes let threads spin, and thousands of them stop the whole machine."""
_ORDER = ("int8", "f16", "bf16", "f32")


class Ran(BaseModel):
    """What executes a picture, in short."""

    model_config = ConfigDict(frozen=True)

    runtime: str
    version: str
    provider: str
    precision: str
    """Precisions of the convolutions and matrix products, e.g. `int8 + f32`."""
    products: dict[str, int] = {}
    """Number of convolutions and matrix products by the precision they compute in; empty where the runtime does not
    report it, and in records of earlier versions."""


class Proof(Ran):
    """What executes a picture, as the runtime itself reports it."""

    layers: dict[str, int]
    """As `products`, for all executed layers without constants; empty where the runtime does not report it."""
    source: str
    """The source of these facts in the runtime."""
    settings: dict[str, str] = {}
    """Hint, threads and requests, where the runtime has them."""


@dataclass(frozen=True, kw_only=True)
class CopyTimes:
    """Milliseconds of one call, by the device's own clock."""

    copy_in_ms: float
    compute_ms: float
    copy_out_ms: float


class Engine(ABC):
    """A model that is loaded and ready: `engine(images) -> logits`.

    Several threads may call one engine; each gets the answer to its own pictures, and where the runtime cannot compute
    two at once they wait for each other. Use it in a `with` block, or call `close`.

    An engine belongs to the process that opened it. After a fork the child opens its own.
    """

    def __init__(self, bundle: Bundle, device: str, max_batch: int | None = None) -> None:
        self.bundle = bundle
        self.labels: LabelSpace = bundle.labels
        self.preprocess: Preprocess = bundle.preprocess
        self.max_batch = max_batch
        """Most pictures that the runtime takes at once; larger batches are split into several."""
        self.device = device
        """The device that was asked for."""
        self._lifetime = Lifetime(bundle.path, RUNTIMES[bundle.manifest.kind].name, self, self._release)

    def proof(self) -> Proof:
        """What really executes, layer by layer where the runtime reports it; may take as long as opening the engine.

        Raises:
            EngineUnavailableError: something else executes than what was asked for, such as a CPU instead of a GPU.
            RuntimeError: see `__call__`.
        """
        with self._lifetime.call():
            return self._proof()

    @property
    def ran(self) -> Ran:
        """The proof in short."""
        return Ran(**self.proof().model_dump(include=set(Ran.model_fields)))

    @property
    @abstractmethod
    def runtime_version(self) -> str:
        """The runtime and its version, `onnxruntime 1.32.0`."""

    @abstractmethod
    def _proof(self) -> Proof:
        """See `proof`."""

    @abstractmethod
    def _run(self, images: np.ndarray) -> np.ndarray:
        """At most `max_batch` checked pictures to logits in any float type; called by several threads at once."""

    @abstractmethod
    def _release(self) -> None:
        """Free what the runtime holds."""

    def close(self) -> None:
        """Wait for the calls that are running and free what the runtime holds; a second time does nothing.

        From the start of this call nobody can call the engine any more. A forked child does not own the engine, so
        there nothing is freed.
        """
        self._lifetime.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB `[B, size, size, 3]` to float32 logits `[B, num_classes]`, B ≥ 1.

        Raises:
            InputError: another type or shape; says what was received and what is expected.
            RuntimeError: the engine is closed, this process is a fork of the one that opened it, or its runtime failed.
        """
        self._lifetime.require_own_process()
        size = self.preprocess.size
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[1:] != (size, size, 3)
            or images.shape[0] < 1
        ):
            received = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images)
            raise InputError(f"received {received}; expected uint8 RGB pictures [B, {size}, {size}, 3] with B >= 1")
        images = np.ascontiguousarray(images)
        step = self.max_batch or len(images)
        with self._lifetime.call():
            parts = [self._run(images[start : start + step]) for start in range(0, len(images), step)]
        logits = (parts[0] if len(parts) == 1 else np.concatenate(parts)).astype(np.float32, copy=False)
        if logits.shape != (len(images), len(self.labels)):
            raise InputError(
                f"{self.bundle.path}: the model gives {list(logits.shape)} for {len(images)} pictures and "
                f"{len(self.labels)} labels; it does not belong to this manifest"
            )
        return logits


def no_number(bundle: Bundle, logits: np.ndarray, name: str) -> NoNumberError:
    """The error for a picture called `name` whose logits `[C]` are not all finite."""
    return NoNumberError(
        f"{name}: {int((~np.isfinite(logits)).sum())} of the {logits.size} logits that {bundle.name} gives are NaN or "
        "infinite; take another engine, and make this one again, in a higher precision where it is int8 or fp16"
    )


def require_shape(bundle: Bundle, shape: Sequence[int | None], dtype: str) -> None:
    """Stop if a model's input is not what its manifest says; the runtime would report it only at the first picture.

    Args:
        shape: shape of the input; a dimension that is None or not positive may have any size.
        dtype: type of its elements, as the runtime calls it.

    Raises:
        InputError: they differ; names both.
    """
    size = bundle.preprocess.size
    found = [dim if isinstance(dim, int) and dim > 0 else None for dim in shape]
    fits = len(found) == 4 and all(
        dim in (None, wanted) for dim, wanted in zip(found[1:], (size, size, 3), strict=True)
    )
    if not fits or by_precision([dtype]) != {"int8": 1}:
        shown = ", ".join("any" if dim is None else str(dim) for dim in found)
        raise InputError(
            f"{bundle.model_path}: takes {dtype} [{shown}]; by its manifest uint8 pictures [any, {size}, {size}, 3]"
        )


def by_precision(types: Iterable[str]) -> dict[str, int]:
    """Count layers by precision, each under one name whatever the runtime calls it: int8, f16, bf16, f32, ..."""
    return dict(sorted(Counter(_NAMES.get(name.lower(), name.lower()) for name in types).items()))


def summary(products: Mapping[str, int]) -> str:
    """The precisions of a model's products, smallest first: `int8 + f32`."""
    return " + ".join(_ordered(products)) or "unknown"


def _ordered(products: Mapping[str, int]) -> list[str]:
    known = [name for name in _ORDER if name in products]
    return [*known, *(name for name in products if name not in _ORDER)]


def counted(products: Mapping[str, int]) -> str:
    """How many of a model's products compute in which precision, smallest first; empty where that is not known.

    Example:
        >>> counted({"f32": 7, "int8": 49})
        '49 of 56 products in int8, 7 in f32'
        >>> counted({"f32": 56})
        '56 of 56 products in f32'
    """
    if not products:
        return ""
    first, *others = _ordered(products)
    least = f"{products[first]} of {sum(products.values())} products in {first}"
    return ", ".join([least, *(f"{products[name]} in {name}" for name in others)])


def require(module: str, extra: str) -> None:
    """Stop if a runtime is not installed, with the command that installs it.

    Raises:
        EngineUnavailableError: it is not installed; names the module and the extra.
    """
    if importlib.util.find_spec(module) is None:
        raise EngineUnavailableError(f"{module} is not installed here ({install_command(extra)})")


_OUT_OF_MEMORY = ("bad_alloc", "Cannot allocate memory", "Failed to allocate memory")
"""What runtimes say where there is too little memory; the last is ONNX Runtime's, of a batch that is too large."""


def require_memory(what: object, runtime: str, reason: str) -> None:
    """Stop if a runtime failed because there was too little memory: the model is not at fault, nor the processor.

    Args:
        what: the file or bundle that it worked on.
        reason: the runtime's message.

    Raises:
        EngineUnavailableError: there was; says what to do.
    """
    if any(said in reason for said in _OUT_OF_MEMORY):
        raise EngineUnavailableError(
            f"{what}: there is too little memory here to run it with {runtime}; free some, give the container more, or "
            "take a smaller batch or engine"
        )


def require_threads(threads: int | None, name: str = "threads") -> int | None:
    """The number of threads that a program gives, as runtimes take it.

    Args:
        name: what the message calls it.

    Raises:
        InputError: this is not a number of threads.
    """
    if threads is None:
        return None
    threads = require_whole(name, threads)
    if threads > (most := _THREADS_A_CORE * (os.cpu_count() or 1)):
        raise InputError(f"{name} {threads}: expected at most {most}, which is {_THREADS_A_CORE} for each core here")
    return threads
