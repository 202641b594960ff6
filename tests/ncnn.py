"""Whether what makes and runs ncnn engines is installed."""

from __future__ import annotations

import os

import pytest

from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.ncnn_model import require_pnnx


def require_ncnn() -> None:
    """Skip, by name, where something is not installed; fail where EDGEPRESS_REQUIRE_NCNN says that it must be."""
    try:
        require_pnnx()
    except EngineUnavailableError as error:
        if os.environ.get("EDGEPRESS_REQUIRE_NCNN"):
            pytest.fail(f"{error}, and EDGEPRESS_REQUIRE_NCNN is set")
        pytest.skip(str(error))
