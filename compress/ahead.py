"""ahead: what an iterator makes next is made while the last item is used."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

_T = TypeVar("_T")


def ahead(coming: Iterator[_T]) -> Iterator[_T]:
    """The items of an iterator, which a thread makes ahead while the last one is used."""
    ready: queue.Queue[_T | BaseException | None] = queue.Queue(maxsize=_AHEAD)
    stopped = threading.Event()

    def put(item: _T | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def make() -> None:
        try:
            for item in coming:
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # it is raised again where the item would be used
            put(error)

    thread = threading.Thread(target=make, name="pictures", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


_AHEAD = 2
"""Items that are made ahead."""
