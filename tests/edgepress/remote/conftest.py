"""A real sshd on loopback, and a small run to take there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.edgepress.remote import sshd
from tests.warm import warm_python

torch = pytest.importorskip("torch", reason="torch is not installed; the bundles are made of a model of it")
pytest.importorskip("openvino", reason="openvino is not installed; one of the bundles is made with it")

from edgepress.compress.config import ModelConfig  # noqa: E402
from edgepress.compress.models import make_model  # noqa: E402
from edgepress.deploy.build.compile import compile_openvino  # noqa: E402
from edgepress.deploy.build.export import export_onnx  # noqa: E402


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[sshd.Server]:
    sshd.require_sshd()
    process, server = sshd.start(tmp_path_factory.mktemp("sshd"))
    yield server
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def python(tmp_path_factory) -> Iterator[str]:
    """A Python there that has imported edgepress already; see `tests.warm`."""
    with warm_python(tmp_path_factory.mktemp("warm")) as command:
        yield str(command)


@pytest.fixture
def there(server, python) -> list[str]:
    """The flags that name the server."""
    return ["--host", server.name, "--host-python", python, *server.flags()]


@pytest.fixture
def afresh(server) -> list[str]:
    """The flags that name the server and a Python that starts there afresh."""
    return ["--host", server.name, "--host-python", sys.executable, *server.flags()]


@pytest.fixture(autouse=True)
def nothing_is_left(request) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        assert request.getfixturevalue("server").left() == []


@pytest.fixture(scope="session")
def run_folder(tiny_data, tmp_path_factory) -> Path:
    """A finished ONNX bundle and OpenVINO's of it, of a model that learnt nothing."""
    data = load_dataset(tiny_data, "test")
    torch.manual_seed(0)
    model, _ = make_model(ModelConfig(backbone="test_efficientnet", width=32, size=64, weights="none"), data.labels)
    folder = tmp_path_factory.mktemp("run")
    onnx = export_onnx(model.eval(), data, folder / "onnx-fp32", identity="x")
    compile_openvino(onnx, folder / "openvino-fp32", "fp32")
    return folder
