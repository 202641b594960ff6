"""The installed TensorRT: its module, its logger, and its messages on one line."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType
from typing import Any

from edgepress.deploy.engines.base import require
from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.versions import install_command

TENSORRT_MODULES = {"tensorrt": "gpu", "tensorrt_rtx": "tensorrt-rtx"}
"""Modules with the extra that installs each, the preferred one first."""


def runtime_module() -> ModuleType:
    """`tensorrt` if it is installed, otherwise `tensorrt_rtx`.

    Raises:
        EngineUnavailableError: neither is installed, or the installed one cannot be loaded.
    """
    for name in TENSORRT_MODULES:
        if importlib.util.find_spec(name) is not None:
            return load_runtime(name)
    raise EngineUnavailableError(
        "neither tensorrt nor tensorrt_rtx is installed here "
        f"({install_command('tensorrt-rtx')}, or {install_command('gpu')}; on a Jetson it comes with JetPack)"
    )


def load_runtime(name: str) -> ModuleType:
    """Import an installed `tensorrt` or `tensorrt_rtx`.

    Raises:
        EngineUnavailableError: it is not installed, or its libraries do not load; says why.
    """
    require(name, TENSORRT_MODULES[name])
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise EngineUnavailableError(f"{name} is installed but does not load: {one_line(error)}") from error


@functools.cache
def collecting_logger(trt: ModuleType) -> Any:
    """TensorRT's logger: keeps `warnings` and `errors` and prints nothing.

    There is one per process, because TensorRT keeps using the first logger that it was given.
    """
    severe = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Collector(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)

        def forget(self) -> None:
            self.errors.clear()
            self.warnings.clear()

    return Collector()


def one_line(reason: object) -> str:
    """A foreign message on one line, cut to a maximum length."""
    return " ".join(str(reason).split())[:300]


def first_line(messages: list[str]) -> str:
    """The first message: TensorRT's cause comes before its consequences."""
    return one_line(messages[0]) if messages else "no reason given"
