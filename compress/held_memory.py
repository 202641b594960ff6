"""Memory that a step of training frees and the next step needs again, kept within the process."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Numbers of glibc's settings (malloc.h)."""
_NEVER, _MMAPS = -1, 1 << 16
"""Do not trim; and the C library's own number of blocks that may be mapped."""
_LARGE = 32 << 20
"""The C library's own limit, in bytes, up to which a freed block raises the size from which blocks are mapped."""
_blocks = 0
"""How many blocks of `held_memory` have not ended; the setting lasts as long as any."""


@contextlib.contextmanager
def held_memory() -> Iterator[None]:
    """Until the block ends, give no freed memory back to the system, if the C library is glibc; elsewhere do nothing.

    glibc maps every block above 32 MB on its own and returns it as soon as it is freed, and it returns the end of its
    heap as well. The maps of a batch are such blocks, so every step of a training on a CPU would ask for gigabytes of
    new pages, which the kernel clears first. The setting is the process's own, because malloc has
    no narrower one; afterwards it is as glibc sets it by itself in a process that has used large blocks. One block may
    stand within another.
    """
    global _blocks
    library = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    if library is None:
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1
        if not _blocks:
            library.mallopt(_MMAP_MAX, _MMAPS)
            library.mallopt(_MMAP_THRESHOLD, _LARGE)
            library.mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
            library.malloc_trim(0)
