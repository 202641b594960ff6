"""Pictures decoded while the model runs: OpenCV and the runtimes leave Python's lock alone while they work."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

_S = TypeVar("_S")
_T = TypeVar("_T")
AHEAD = 2
"""Batches that are being decoded or wait while one is taken: the next, and one for the threads to go on with."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_ahead(
    load: Callable[[_S], _T], sources: Iterable[_S], batch: int, threads: int | None = None
) -> Generator[list[_T], None, None]:
    """What `load` makes of the sources, in order and a batch at a time, by threads while whoever takes them is busy.

    Args:
        load: called by several threads.
        sources: may be endless; never more than two batches are ahead.
        threads: as many as there are cores by default.

    Raises:
        Whatever `load` raises, when that batch is due.
    """
    waiting: deque[list[Future[_T]]] = deque()
    chosen = iter(sources)
    pool = ThreadPoolExecutor(threads or cores(), thread_name_prefix="decode")

    def refill() -> None:
        futures = [pool.submit(load, source) for source in itertools.islice(chosen, batch)]
        if futures:
            waiting.append(futures)

    try:
        for _ in range(AHEAD):
            refill()
        while waiting:
            due = [future.result() for future in waiting.popleft()]
            refill()
            yield due
    finally:
        pool.shutdown(cancel_futures=True)


def decode_ahead(
    load: Callable[[_S], np.ndarray], sources: Iterable[_S], batch: int, threads: int | None = None
) -> Generator[np.ndarray, None, None]:
    """As `load_ahead`, of prepared pictures uint8 `[size, size, 3]`.

    Yields:
        uint8 `[batch, size, size, 3]`; the last may be smaller.
    """
    batches = load_ahead(load, sources, batch, threads)
    try:
        for pictures in batches:
            yield np.stack(pictures)
    finally:
        batches.close()
