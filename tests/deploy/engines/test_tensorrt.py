"""TensorRT's engine without a GPU: what it makes of the device's clock."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import numpy as np

from edgepress.deploy.engines.base import CopyTimes
from edgepress.deploy.engines.tensorrt import TensorRtEngine


class Clocked(TensorRtEngine):
    """Events are numbered, and event n + 1 of a batch is 10^n ms after event n."""

    def __init__(self) -> None:
        self.max_batch, self._lock = 2, threading.Lock()
        self._lifetime = SimpleNamespace(call=contextlib.nullcontext)
        self.batches: list[int] = []
        self.alive: list[int] = []

    def _infer(self, images, events=()):
        self.batches.append(len(images))

    def _cuda(self, name, *arguments):
        if name == "cudaEventCreate":
            self.alive.append(len(self.alive))
            return (self.alive[-1],)
        if name == "cudaEventElapsedTime":
            before, after = arguments
            assert after == before + 1
            return (10.0**before,)
        assert name == "cudaEventDestroy"
        self.alive.remove(*arguments)
        return ()


def test_the_times_of_a_split_batch_are_sums():
    engine = Clocked()
    assert engine.timed(np.zeros((2, 1, 1, 3))) == CopyTimes(copy_in_ms=1.0, compute_ms=10.0, copy_out_ms=100.0)
    assert engine.timed(np.zeros((5, 1, 1, 3))) == CopyTimes(copy_in_ms=3.0, compute_ms=30.0, copy_out_ms=300.0)
    assert engine.batches == [2, 2, 2, 1]
    assert engine.alive == []
