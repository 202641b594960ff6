"""The contract of every engine: uint8 pictures in, float32 logits out."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod

import numpy as np

from multilabel.bundle import Bundle
from multilabel.errors import EngineUnavailableError, InputError
from multilabel.labels import LabelSpace
from multilabel.preprocess import Preprocess


class Engine(ABC):
    """A model that is loaded and ready: `engine(images) -> logits`.

    One engine serves one thread at a time; open one a thread. Use it in a `with` block, or call `close`.
    """

    def __init__(self, bundle: Bundle, max_batch: int | None = None) -> None:
        self.bundle = bundle
        self.labels: LabelSpace = bundle.labels
        self.preprocess: Preprocess = bundle.preprocess
        self.max_batch = max_batch
        """Most pictures that the runtime takes at once; larger batches are split."""

    @property
    @abstractmethod
    def ran(self) -> dict[str, str]:
        """What really executes: runtime, its version, provider or device, precision of execution."""

    @abstractmethod
    def _run(self, images: np.ndarray) -> np.ndarray:
        """At most `max_batch` checked pictures to logits in any float type."""

    def close(self) -> None:  # noqa: B027 - a runtime that frees itself with the object has nothing to do here
        """Free what the runtime holds; the engine cannot be called any more."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB `[B, size, size, 3]` to float32 logits `[B, num_classes]`, B ≥ 1.

        Raises:
            ValueError: another type or shape; says what was received and what is expected.
        """
        size = self.preprocess.size
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[1:] != (size, size, 3)
            or images.shape[0] < 1
        ):
            received = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images)
            raise ValueError(f"received {received}; expected uint8 RGB pictures [B, {size}, {size}, 3] with B >= 1")
        images = np.ascontiguousarray(images)
        step = self.max_batch or len(images)
        parts = [self._run(images[start : start + step]) for start in range(0, len(images), step)]
        logits = (parts[0] if len(parts) == 1 else np.concatenate(parts)).astype(np.float32, copy=False)
        if logits.shape != (len(images), len(self.labels)):
            raise InputError(
                f"{self.bundle.path}: the model gives {list(logits.shape)} for {len(images)} pictures and "
                f"{len(self.labels)} labels; it does not belong to this manifest"
            )
        return logits


def require(module: str, extra: str) -> None:
    """Stop with the command that mends it where a runtime is not installed.

    Raises:
        EngineUnavailableError: names the module and the extra.
    """
    if importlib.util.find_spec(module) is None:
        raise EngineUnavailableError(f"{module} is not installed here (pip install 'edgepress[{extra}]')")
