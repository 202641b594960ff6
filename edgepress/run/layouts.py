"""The layouts of `export --layout`: a bundle as another program takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgepress.deploy.build.deepstream import write_deepstream
from edgepress.deploy.build.free_size import write_free_size
from edgepress.deploy.build.huggingface import write_huggingface
from edgepress.deploy.build.model_api import write_model_api
from edgepress.deploy.build.ovms import write_ovms
from edgepress.deploy.build.triton import write_triton
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import require_choice
from edgepress.report.cards import card
from edgepress.run.run_report import REPORT, read_report


def _with_card(bundle: Bundle, out: Path) -> Path:
    """The card says what was measured where the bundle is in the folder of the run that made it."""
    run = bundle.path.resolve().parent
    return write_huggingface(bundle, out, card(bundle, read_report(run) if (run / REPORT).is_file() else None))


LAYOUTS: dict[str, Callable[[Bundle, Path], Path]] = {
    "triton": write_triton,
    "ovms": write_ovms,
    "model-api": write_model_api,
    "deepstream": write_deepstream,
    "huggingface": _with_card,
    "free-size": write_free_size,
}


def write_layout(layout: str, bundle: Bundle, out: Path) -> Path:
    """Write a bundle in a layout; returns `out`.

    Raises:
        InputError: there is no such layout, or its program does not serve the bundle.
        EngineUnavailableError: what writes it is not installed.
    """
    require_choice("--layout", layout, LAYOUTS)
    return LAYOUTS[layout](bundle, out)
