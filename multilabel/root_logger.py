"""Libraries that change the root logger of the program around them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def own_root_logger() -> Iterator[None]:
    """Give the root logger its level, filters and handlers back after a block, however it ends."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers
