"""TensorRT's timing cache is a file beside the engines, so that kernels that were timed once are not timed again."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepress.multilabel.bundle import write_atomically

log = logging.getLogger("edgepress")


def is_kept(trt: ModuleType) -> bool:
    """False for TensorRT-RTX: it measures nothing when it builds, and its deprecated timing cache has no effect."""
    return trt.__name__ == "tensorrt"


def read(config: Any, file: Path) -> None:
    """Give a builder the timing cache of earlier builds; a new one if there is none or it is of another device."""
    cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):  # None of bytes that are no cache
        log.info("%s: of another device or version, or damaged; the kernels are timed again", file)
        config.set_timing_cache(config.create_timing_cache(b""), False)


def write(config: Any, file: Path) -> None:
    """Keep what a builder measured for the next build."""
    write_atomically(file, bytes(config.get_timing_cache().serialize()))
