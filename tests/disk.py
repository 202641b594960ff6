"""A bound on the size of files stands for a disk that is full."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def full_disk(left: int) -> Iterator[None]:
    """No file may grow beyond `left` bytes: writing on fails as it does on a full disk.

    Meanwhile no bytecode is written: Python 3.11's import system takes a short write for a whole one and leaves a cut
    .pyc file, with which every later process fails to import the module.
    """
    (soft, hard), written = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = written
