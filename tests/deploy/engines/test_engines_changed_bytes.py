"""1,000 bytes of a bundle of each kind, changed one at a time: every one is refused, and nothing is run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.litert import LiteRtEngine
from edgepress.deploy.engines.ncnn import NcnnEngine
from edgepress.deploy.engines.onnxruntime import OnnxRuntimeEngine
from edgepress.deploy.engines.openvino import OpenVinoEngine
from edgepress.deploy.engines.torch import TorchEngine
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import InputError

CHANGES = 1000


@pytest.fixture
def bundle(request, student, build, tmp_path) -> Bundle:
    """A copy whose bytes may be changed."""
    whole = student if request.param == "torch" else build(request.param)
    return Bundle.open(shutil.copytree(whole.path, tmp_path / whole.name))


def places(files: list[Path], rng: np.random.Generator) -> list[tuple[Path, int]]:
    """Places spread over every file, whatever its size: the first byte, the last, and others between."""
    share = -(-CHANGES // len(files))
    sizes = {file: file.stat().st_size for file in files}
    found = [
        (file, place)
        for file, size in sizes.items()
        for place in (0, size - 1, *rng.integers(0, size, share - 2).tolist())
    ]
    return found[:CHANGES]


@pytest.mark.parametrize("bundle", ["torch", "onnx-fp32", "openvino-fp32", "litert-fp32", "ncnn-fp32"], indirect=True)
def test_every_changed_byte_is_refused_and_nothing_is_run(bundle, monkeypatch):
    ran = []
    for engine in (
        TorchEngine,
        OnnxRuntimeEngine,
        OpenVinoEngine,
        LiteRtEngine,
        NcnnEngine,
    ):  # each loads its model as it is made
        monkeypatch.setattr(engine, "__init__", lambda self, *rest, **settings: ran.append(self))
    files, rng = sorted(path for path in bundle.path.rglob("*") if path.is_file()), np.random.default_rng(0)
    assert {file.relative_to(bundle.path).as_posix() for file in files} == {MANIFEST, *bundle.manifest.files}
    wrong = []
    for path, place in places(files, rng):
        with path.open("r+b") as file:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ int(rng.integers(1, 256))]))
            file.flush()
            try:
                open_engine(bundle.path)
                wrong.append((path.name, place))
            except InputError as error:
                if not str(error).startswith(str(path)):
                    wrong.append((path.name, place, str(error)))
            file.seek(place)
            file.write(bytes([byte]))
    assert wrong == []
    assert ran == []
    open_engine(bundle.path, unproven=True)  # every byte is as it was
    assert len(ran) == 1
