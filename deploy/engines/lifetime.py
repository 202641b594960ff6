"""Which process an engine belongs to, which calls are running in it, and when what it holds is freed.

A fork copies an engine's memory but none of its runtime's threads: in a child, OpenVINO's first call never returns, and
neither does freeing an ONNX Runtime session, not even at the end of the process. So a child is told at once, and frees
nothing that is not its own.
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
"""Runtimes that a parent of this process had an engine open in when it forked."""


class Lifetime:
    """Guards what a runtime holds: calls of this process pass until it is closed, and it is freed after the last one.

    Args:
        path: of the bundle, for messages.
        runtime: what runs it, as a person calls it.
        holder: the engine; a child of this process keeps it for ever, so that nothing of its runtime is freed there.
        release: frees what the runtime holds; called once, when no call is running.
    """

    def __init__(self, path: Path, runtime: str, holder: object, release: Callable[[], None]) -> None:
        self._path, self._runtime, self._process = path, runtime, os.getpid()
        self._holder = weakref.ref(holder)
        # Weak as well, so that an engine that nobody closed is freed as soon as nobody has it.
        self._release = weakref.WeakMethod(release)
        self._idle = threading.Condition()
        self._callers: list[int] = []
        """Threads with a call that is running."""
        self._closed = self._released = False
        _known.add(self)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """What goes on inside needs what the runtime holds.

        Raises:
            RuntimeError: this is another process, or the engine is closed.
        """
        # Before the lock: a fork may have copied it while it was held.
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
        """Let no further call in, wait for those that are running and free what the runtime holds, once.

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
        """One reference more than anybody counts: nothing that a child does lets the runtime's destructors run."""
        holder = self._holder()
        if holder is not None and not self._released:
            _inherited.add(self._runtime)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(holder))


def require_own_threads(path: Path, runtime: str) -> None:
    """Stop where this process was forked while an engine of a runtime was open that shares its threads among engines.

    Raises:
        RuntimeError: says how to start the process instead.
    """
    if runtime in _inherited:
        raise RuntimeError(
            f"{path}: this process was forked while an engine of {runtime} was open, whose threads it does not have: "
            "start it by spawn (multiprocessing.get_context('spawn')), or fork before the first engine is opened"
        )


def _keep_in_child() -> None:
    for lifetime in list(_known):
        lifetime.keep_in_child()


if hasattr(os, "register_at_fork"):  # where there is no fork there is nothing to keep
    os.register_at_fork(after_in_child=_keep_in_child)
