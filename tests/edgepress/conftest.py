"""The command line in this process, and one whole run of it on the tiny pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepress.run.run_report import RunReport
from tests.durable import Disk, watched

pytest.importorskip("torch", reason="torch is not installed; a run trains with it")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; a run verifies with it")

MICRO: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "micro.yaml").read_text())


@pytest.fixture
def bad(edgepress: Callable[..., Any]) -> Callable[..., str]:
    """A command that must stop with one line and exit code 2: gives that line."""

    def call(*arguments: object) -> str:
        answer = edgepress("--quiet", *arguments)
        assert answer.code == 2, answer
        assert answer.out == ""
        lines = answer.err.splitlines()
        assert len(lines) == 1, answer.err
        assert lines[0].startswith("edgepress: ")
        assert "Traceback" not in answer.err
        return lines[0]

    return call


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


@pytest.fixture(scope="session")
def micro() -> dict[str, Any]:
    """The settings of the smallest run, without data and out."""
    return MICRO


@pytest.fixture(scope="session")
def recipe(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("micro")
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"data": str(tiny_data), "out": str(folder / "run"), **MICRO}))
    return file


@pytest.fixture(scope="session")
def _first(edgepress: Callable[..., Any], recipe: Path) -> tuple[Any, Disk]:
    with watched(recipe.parent) as disk:
        return edgepress("run", "--recipe", recipe), disk


@pytest.fixture(scope="session")
def first(_first: tuple[Any, Disk]) -> Any:
    """The first run, from pictures to report."""
    return _first[0]


@pytest.fixture(scope="session")
def disk(_first: tuple[Any, Disk]) -> Disk:
    """What the first run asked of the disk."""
    return _first[1]


@pytest.fixture(scope="session")
def run_folder(recipe: Path, first: Any) -> Path:
    assert first.code in (0, 1), first.err
    return recipe.parent / "run"


@pytest.fixture(scope="module")
def report(run_folder: Path) -> dict[str, Any]:
    """Its report.json; a test that changes it copies it first."""
    return json.loads((run_folder / "report.json").read_text())


def typed(report: dict[str, Any]) -> RunReport:
    """A report.json that a test changed, as `edgepress report` reads it."""
    return RunReport.model_validate_json(json.dumps(report))
