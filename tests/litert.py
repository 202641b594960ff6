"""Whether what makes and runs LiteRT engines is installed."""

from __future__ import annotations

import os

import pytest

from edgepress.multilabel.errors import EngineUnavailableError
from edgepress.multilabel.litert_model import require_converter


def require_litert() -> None:
    """Skip, by name, where something is not installed; fail where EDGEPRESS_REQUIRE_LITERT says that it must be."""
    try:
        require_converter()
    except EngineUnavailableError as error:
        if os.environ.get("EDGEPRESS_REQUIRE_LITERT"):
            pytest.fail(f"{error}, and EDGEPRESS_REQUIRE_LITERT is set")
        pytest.skip(str(error))
