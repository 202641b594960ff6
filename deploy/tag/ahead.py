"""Decode pictures while the model runs: OpenCV and the runtimes release Python's lock while they work."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from edgepress.multilabel.cores import cores

_S = TypeVar("_S")
_T = TypeVar("_T")
AHEAD = 2
"""Batches that are decoded or wait while one is used: the next one, and one more to keep the threads busy."""
LEAVE_SECONDS = 0.2
"""Seconds that the end waits for a requested source: it may be a line that nobody types."""


def load_ahead(
    load: Callable[[_S], _T], sources: Iterable[_S], batch: int, threads: int | None = None
) -> Generator[list[_T], None, None]:
    """Load the sources in order, a batch at a time, by threads while the consumer is busy.

    A batch is yielded as soon as it is complete, without waiting for the source after it.

    Args:
        load: is called by several threads.
        sources: may be endless and slow; a thread of its own reads them. At most two batches are loaded ahead.
        threads: by default as many as there are cores.

    Raises:
        Whatever `load` or the sources raise, when that batch is due.
    """
    pool = ThreadPoolExecutor(threads or cores(), thread_name_prefix="decode")
    reader = _Reader(load, sources, pool, AHEAD * batch)
    reader.start()
    coming = iter(reader.given.get, None)
    try:
        while futures := list(itertools.islice(coming, batch)):
            due = [future.result() for future in futures]
            reader.room.release(len(futures))
            yield due
    finally:
        reader.stop()
        pool.shutdown(cancel_futures=True)


class _Reader(threading.Thread, Generic[_S, _T]):
    """Requests as many sources as there is room for, and has them loaded."""

    def __init__(self, load: Callable[[_S], _T], sources: Iterable[_S], pool: ThreadPoolExecutor, room: int) -> None:
        super().__init__(name="sources", daemon=True)  # a source that never comes must not keep the process alive
        self._load, self._sources, self._pool = load, sources, pool
        self.room = threading.Semaphore(room - 1)  # the first is requested without waiting for room
        self.given: queue.SimpleQueue[Future[_T] | None] = queue.SimpleQueue()
        """Results in the order of the sources; None marks the end."""
        self._stopped = False

    def run(self) -> None:
        try:
            for source in self._sources:
                if not self._submit(source):
                    break
        except BaseException as error:  # raised again for the consumer when its batch is due
            failed: Future[_T] = Future()
            failed.set_exception(error)
            self.given.put(failed)
        self.given.put(None)

    def _submit(self, source: _S) -> bool:
        """Have it loaded, and wait until there is room for the next; False if no more are wanted."""
        if self._stopped:
            return False
        self.given.put(self._pool.submit(self._load, source))
        self.room.acquire()
        return not self._stopped

    def stop(self) -> None:
        """Request no more sources. Returns even if a requested one has not come."""
        self._stopped = True
        self.room.release()
        self.join(LEAVE_SECONDS)


def decode_ahead(
    load: Callable[[_S], np.ndarray], sources: Iterable[_S], batch: int, threads: int | None = None
) -> Generator[np.ndarray, None, None]:
    """Like `load_ahead`, for prepared pictures uint8 `[size, size, 3]`.

    Yields:
        uint8 `[batch, size, size, 3]`; the last may be smaller.
    """
    batches = load_ahead(load, sources, batch, threads)
    try:
        for pictures in batches:
            yield np.stack(pictures)
    finally:
        batches.close()
