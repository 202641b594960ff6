"""Track which process an engine belongs to, which calls are running in it, and when its resources are freed.

A fork copies an engine's memory but none of its runtime's threads: in a child, OpenVINO's first call never returns, and
neither does freeing an ONNX Runtime session, not even at the end of the process. So a child gets an error at once, and
frees nothing that is not its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

_known: weakref.WeakSet[Lifetime] = weakref.WeakSet()
_inherited: set[str] = set()
"""Runtimes whose threads a parent of this process had when it forked, and this process has not."""
_staying: set[str] = set()
"""Runtimes whose threads stay in this process when their engines are closed."""


class Lifetime:
    """Guards a runtime's resources: calls of this process pass until it is closed; after the last one it is freed.

    Args:
        path: path of the bundle, for messages.
        runtime: name of the runtime, for messages.
        holder: the engine; a child of this process keeps it for ever, so that nothing of its runtime is freed there.
        release: frees what the runtime holds; called once, when no call is running.
    """

    def __init__(self, path: Path, runtime: str, holder: object, release: Callable[[], None]) -> None:
        self._path, self._runtime, self._process = path, runtime, os.getpid()
        self._holder = weakref.ref(holder)
        # This reference is weak too, so that an engine that nobody closed is freed as soon as nobody refers to it.
        self._release = weakref.WeakMethod(release)
        self._idle = threading.Condition()
        self._callers: list[int] = []
        """Threads that are in a call now."""
        self._closed = self._released = False
        _known.add(self)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Keep the runtime's resources while the block runs.

        Raises:
            RuntimeError: this is another process, or the engine is closed.
        """
        # This comes before the lock, because a fork may have copied the lock while it was held.
        self.require_own_process()
        me = threading.get_ident()
        with self._idle:
            if self._closed:
                raise RuntimeError(f"{self._path}: this engine is closed; open it again")
            self._callers.append(me)
        try:
            yield
        finally:
            with self._idle:
                self._callers.remove(me)
                if self._closed:
                    self._free()
                    self._idle.notify_all()

    def require_own_process(self) -> None:
        """
        Raises:
            RuntimeError: the engine was opened before this process was forked.
        """
        if os.getpid() != self._process:
            raise RuntimeError(
                f"{self._path}: this engine was opened by process {self._process} and this is {os.getpid()}, a fork of "
                "it, which has none of its threads; open the engine here, after the fork"
            )

    def close(self) -> None:
        """Admit no further call, wait for the running ones, and free the runtime's resources once.

        In a forked child nothing is freed. Called by a signal handler in the middle of its own thread's call, it does
        not wait for that call, which frees everything when it ends.
        """
        if os.getpid() != self._process:
            return
        me = threading.get_ident()
        with self._idle:
            self._closed = True
            while any(caller != me for caller in self._callers):
                self._idle.wait()
            self._free()

    def _free(self) -> None:
        if not self._callers and not self._released:
            self._released = True
            release = self._release()
            assert release is not None, "an engine that is closed or called is there"
            release()

    def keep_in_child(self) -> None:
        """Add a reference that is never dropped, so that nothing in a child lets the runtime's destructors run."""
        holder = self._holder()
        if holder is not None and not self._released:
            _inherited.add(self._runtime)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(holder))


def require_own_threads(path: Path, runtime: str) -> None:
    """Stop if this process was forked from one that had the threads of this runtime, which its engines share.

    Raises:
        RuntimeError: it was; says how to start the process instead.
    """
    if runtime in _inherited:
        raise RuntimeError(
            f"{path}: this process was forked from one that had opened an engine of {runtime}, whose threads it does "
            "not have: start it by spawn (multiprocessing.get_context('spawn')), or fork before the first engine is "
            "opened"
        )


def tell_threads_stay(runtime: str) -> None:
    """Remember that the threads of a runtime outlive its engines: a later fork lacks them even if all are closed."""
    _staying.add(runtime)


def _keep_in_child() -> None:
    _inherited.update(_staying)
    for lifetime in list(_known):
        lifetime.keep_in_child()


if hasattr(os, "register_at_fork"):  # without fork there is nothing to keep
    os.register_at_fork(after_in_child=_keep_in_child)
