"""Distil a multi-label tagger, compile it for an edge device, and prove it there.

Everything that a program needs is named here and loaded when it is first used, so that a device without torch pays for
what it asks for alone.

Example:
    >>> from edgepress import open_tagger
    >>> with open_tagger("runs/quickstart/onnx-int8-onnxruntime") as tagger:
    ...     tagger.predict("beach.jpg")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from edgepress.telemetry import turn_off

if TYPE_CHECKING:
    from edgepress.compress import losses
    from edgepress.deploy.bench.latency import bench
    from edgepress.deploy.engines import open_engine
    from edgepress.deploy.tag.tagger import Tagger, open_tagger
    from edgepress.deploy.verify.verification import verify
    from edgepress.multilabel.bundle import Bundle
    from edgepress.multilabel.datasets import load_dataset

turn_off()
__version__ = version("edgepress")
__all__ = ["Bundle", "Tagger", "__version__", "bench", "load_dataset", "losses", "open_engine", "open_tagger", "verify"]
_HOMES = {
    "Bundle": "edgepress.multilabel.bundle",
    "Tagger": "edgepress.deploy.tag.tagger",
    "bench": "edgepress.deploy.bench.latency",
    "load_dataset": "edgepress.multilabel.datasets",
    "losses": "edgepress.compress",
    "open_engine": "edgepress.deploy.engines",
    "open_tagger": "edgepress.deploy.tag.tagger",
    "verify": "edgepress.deploy.verify.verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgepress' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name == "losses":
        return import_module("edgepress.compress.losses")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
