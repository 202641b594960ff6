"""Pictures decoded while the model runs: OpenCV and the runtimes leave Python's lock alone while they work."""

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
"""Batches that are being decoded or wait while one is taken: the next, and one for the threads to go on with."""
LEAVE_SECONDS = 0.2
"""How long the end waits for a source that is being looked for: it may be a line that nobody types."""


def load_ahead(
    load: Callable[[_S], _T], sources: Iterable[_S], batch: int, threads: int | None = None
) -> Generator[list[_T], None, None]:
    """What `load` makes of the sources, in order and a batch at a time, by threads while whoever takes them is busy.

    A batch is given as soon as it is whole: nobody waits for the source after it.

    Args:
        load: called by several threads.
        sources: may be endless, and slow; asked by a thread of its own. Never more than two batches are ahead.
        threads: as many as there are cores by default.

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
    """Asks for sources, as many as there is room for, and has them loaded."""

    def __init__(self, load: Callable[[_S], _T], sources: Iterable[_S], pool: ThreadPoolExecutor, room: int) -> None:
        super().__init__(name="sources", daemon=True)  # a source that never comes must not keep the process
        self._load, self._sources, self._pool = load, sources, pool
        self.room = threading.Semaphore(room - 1)  # the first is taken without asking
        self.given: queue.SimpleQueue[Future[_T] | None] = queue.SimpleQueue()
        """In the order of the sources; None is the end."""
        self._stopped = False

    def run(self) -> None:
        try:
            for source in self._sources:
                if not self._submit(source):
                    break
        except BaseException as error:  # told to whoever takes the batch that it falls into, who waits for an end
            failed: Future[_T] = Future()
            failed.set_exception(error)
            self.given.put(failed)
        self.given.put(None)

    def _submit(self, source: _S) -> bool:
        """Have it loaded, and wait until there is room for the next; False where none is wanted."""
        if self._stopped:
            return False
        self.given.put(self._pool.submit(self._load, source))
        self.room.acquire()
        return not self._stopped

    def stop(self) -> None:
        """Ask for no more sources. Returns though one that was asked for has not come."""
        self._stopped = True
        self.room.release()
        self.join(LEAVE_SECONDS)


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
