"""Only one process at a time writes to a folder: if a process dies, the system releases its lock."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgepress.multilabel.durable import make_folder
from edgepress.multilabel.errors import InputError

log = logging.getLogger("edgepress")


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Become the only process that makes or continues a folder, or stop; meanwhile `.NAME.lock` is beside it, or
    `.lock` inside it where nothing may be written beside it (a mounted folder).

    Under a launcher (torchrun, accelerate), the first process holds the lock for all.

    Raises:
        InputError: another process writes there; the message says which.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    make_folder(out.parent)
    whole = out.resolve()
    beside = os.access(whole.parent, os.W_OK) or not whole.is_dir()
    with _locked(whole.parent / f".{whole.name}.lock" if beside else whole / ".lock") as holder:
        if holder is not None:
            raise InputError(
                f"{out}: another edgepress writes there (process {holder}); wait for it, stop it, or give another --out"
            )
        yield


@contextmanager
def in_turn(path: Path, what: str) -> Iterator[None]:
    """Run the block after any process that runs it now; `path` is the lock's, and `what` is its name in a log."""
    with _locked(path) as holder:
        if holder is None:
            yield
            return
    log.info("process %s does the same, %s: waiting for it", holder, what)
    with _locked(path, wait=True):
        yield


@contextmanager
def _locked(path: Path, *, wait: bool = False) -> Iterator[str | None]:
    """Yield None if the lock is held, or else the process that holds it."""
    import fcntl  # Linux and macOS, where things are made; reading a bundle needs no lock

    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                yield file.read(20).strip() or "unknown"
                return
            if not _is_there(path, file):
                continue  # its owner removed it after we opened it and before we locked it
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield None
            finally:
                path.unlink(missing_ok=True)  # a person may have removed it
            return


def _is_there(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
