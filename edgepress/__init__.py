"""Distil a multi-label tagger, compile it for an edge device, and prove it there.

Everything that a program needs is named here and loaded when it is first used, so that a device without torch pays for
what it asks for alone.

Example:
    >>> from edgepress import open_tagger
    >>> with open_tagger("runs/mine/onnx-fp32") as tagger:
    ...     probabilities = tagger.predict("beach.jpg")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgepress.telemetry import turn_off

if TYPE_CHECKING:
    from edgepress.compress import losses
    from edgepress.deploy.bench.latency import bench
    from edgepress.deploy.build.module import export
    from edgepress.deploy.engines import open_engine
    from edgepress.deploy.tag.tagger import Tagger, open_tagger
    from edgepress.deploy.verify.verification import verify
    from edgepress.multilabel.bundle import Bundle
    from edgepress.multilabel.datasets import load_dataset
    from edgepress.multilabel.errors import DataChangedError, EngineUnavailableError, InputError
    from edgepress.multilabel.judgement import Judgement
    from edgepress.multilabel.labels import LabelSpace
    from edgepress.multilabel.preprocess import Preprocess
    from edgepress.multilabel.ratio import Ratio

    __version__: str

turn_off()
__all__ = [
    "Bundle",
    "DataChangedError",
    "EngineUnavailableError",
    "InputError",
    "Judgement",
    "LabelSpace",
    "Preprocess",
    "Ratio",
    "Tagger",
    "__version__",
    "bench",
    "export",
    "load_dataset",
    "losses",
    "open_engine",
    "open_tagger",
    "verify",
]
_HOMES = {
    "deploy.bench.latency": ("bench",),
    "deploy.build.module": ("export",),
    "deploy.engines": ("open_engine",),
    "deploy.tag.tagger": ("Tagger", "open_tagger"),
    "deploy.verify.verification": ("verify",),
    "multilabel.bundle": ("Bundle",),
    "multilabel.datasets": ("load_dataset",),
    "multilabel.errors": ("DataChangedError", "EngineUnavailableError", "InputError"),
    "multilabel.judgement": ("Judgement",),
    "multilabel.labels": ("LabelSpace",),
    "multilabel.preprocess": ("Preprocess",),
    "multilabel.ratio": ("Ratio",),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("edgepress")
    if name == "losses":
        return import_module("edgepress.compress.losses")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"edgepress.{module}"), name)
    raise AttributeError(f"module 'edgepress' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
