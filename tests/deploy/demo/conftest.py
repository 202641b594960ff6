"""A run's folder with engines that open here, one that does not and one that shows where it looks; and its page."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgepress.deploy.build.export import export_onnx
from edgepress.deploy.demo.answers import Engines, open_engines
from edgepress.deploy.demo.gate import Gate, Shelf
from tests.loading.client import Client

SMALL_SHELF = 4_000_000
"""Bytes; the tests' pictures are of a few kB."""


@dataclass(frozen=True)
class Demo(Client):
    """A demo's server while it runs, and whoever asks it."""

    engines: Engines
    gate: Gate
    shelf: Shelf


@pytest.fixture(scope="session")
def run(build: Callable[[str], Any], student: Any, model: Any, splits: Any, tmp_path_factory: pytest.TempPathFactory):
    """A run's folder: three engines, the student, one with attention, and one that has lost its model."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    for name in ("onnx-fp32", "onnx-int8-onnxruntime", "openvino-fp32"):
        shutil.copytree(build(name).path, folder / name)
    shutil.copytree(student.path, folder / "student")
    export_onnx(
        model,
        splits.test,
        folder / "onnx-fp32-attention",
        parent=student.as_parent,
        identity=student.digest,
        attention=True,
    )
    shutil.copytree(folder / "openvino-fp32", folder / "openvino-broken")
    (folder / "openvino-broken" / "model.bin").unlink()
    return folder


@pytest.fixture(scope="session")
def engines(run: Path) -> Iterator[Engines]:
    with open_engines(run) as opened:
        yield opened


@contextmanager
def running(engines: Engines, gate: Gate, local: bool = True) -> Iterator[Demo]:
    """The demo's server in a thread of this process."""
    pytest.importorskip("gradio", reason="gradio is not installed; the page is made with it")
    from edgepress.deploy.demo.server import bind, make_app, make_server

    shelf = Shelf(SMALL_SHELF, 600.0)
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        server = make_server(make_app(engines, gate=gate, shelf=shelf, local=local))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Demo(port, engines, gate, shelf)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def demo(engines: Engines) -> Iterator[Demo]:
    with running(engines, Gate(16, 30.0)) as server:
        yield server


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: EDGEPRESS_ARTIFACTS, or a folder of this test run."""
    named = os.environ.get("EDGEPRESS_ARTIFACTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
