"""The engines of these tests are made from a model of torch."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed; the tests make their engines from a model of it")

pytest.register_assert_rewrite("tests.deploy.verify.corruptions", "tests.deploy.engines.engine_contract")
