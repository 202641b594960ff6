"""Passport: an engine opened where it does not fit says what differs, and stops or is made again; nothing is guessed.

Manifests are altered and signed again by `write_bundle`, as if the bundle had been made elsewhere.
"""

from __future__ import annotations

import dataclasses
import importlib.machinery
import logging
import re
import shutil
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgepress.deploy.build import rebuild as rebuilding
from edgepress.deploy.build.compile import compile_fp16, compile_openvino
from edgepress.deploy.build.litert import compile_litert
from edgepress.deploy.build.ncnn import compile_ncnn
from edgepress.deploy.build.rebuild import fitted
from edgepress.deploy.build.tensorrt import build_tensorrt
from edgepress.deploy.engines import open_engine, passport, tensorrt_runtime
from edgepress.deploy.engines.passport import misfits, require_fit
from edgepress.deploy.engines.table import GpuTarget
from edgepress.multilabel.bundle import Bundle, file_sha256, write_bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.manifest import BuiltFor, BuiltForLiteRt, BuiltForNcnn, BuiltForOpenVino
from tests.disk import full_disk
from tests.litert import require_litert
from tests.ncnn import require_ncnn

HERE = passport.platform_here()
ONLY_RTX = {"tensorrt_rtx": "tensorrt-rtx"}


def altered(bundle: Bundle, path: Path, **changes: Any) -> Bundle:
    """The same files with other words in the manifest, signed again."""
    fields = {name: value for name, value in bundle.manifest if name not in ("files", "created")} | changes
    with write_bundle(path, **fields) as folder:
        for name in bundle.manifest.files:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle.path / name, folder / name)
    return Bundle.open(path)


def passport_of(bundle: Bundle, **changes: str) -> BuiltFor:
    assert bundle.manifest.built_for is not None
    return bundle.manifest.built_for.model_copy(update=changes)


@pytest.fixture
def openvino(build: Callable[[str], Bundle]) -> Bundle:
    return build("openvino-fp32")


@pytest.fixture
def newer(openvino: Bundle, onnx_bundle: Bundle, tmp_path: Path) -> Bundle:
    """As a newer OpenVINO made it, with operators that this one has not, and with its ONNX bundle beside it."""
    shutil.copytree(onnx_bundle.path, tmp_path / "run" / onnx_bundle.name)
    source = shutil.copytree(openvino.path, tmp_path / "source")
    graph = source / openvino.manifest.model
    graph.write_text(graph.read_text().replace('version="opset1"', 'version="opset99"', 1))
    changed = dataclasses.replace(openvino, path=source)
    bundle = altered(changed, tmp_path / "run" / "engine", built_for=passport_of(openvino, version="2099.1.0"))
    shutil.rmtree(source)
    return bundle


def stopped(bundle: Bundle, rebuild: bool = False) -> str:
    """The one line that opening stops with."""
    with pytest.raises(EngineUnavailableError) as error:
        open_engine(fitted(bundle, rebuild=True) if rebuild else bundle.path)
    message = str(error.value)
    assert "\n" not in message
    assert str(bundle.path) in message
    return message


def test_a_compiled_engine_names_the_onnx_it_was_made_from(openvino, onnx_bundle, student):
    import openvino as ov

    assert openvino.manifest.built_for == BuiltForOpenVino(
        version=ov.__version__.split("-")[0], onnx_sha256=file_sha256(onnx_bundle.model_path), platform=HERE
    )
    for bundle in (openvino, onnx_bundle, student):
        assert misfits(bundle) == []
        assert fitted(bundle, rebuild=True) is bundle


def test_openvino_of_a_newer_release_says_what_differs(newer):
    import openvino as ov

    found = ov.__version__.split("-")[0]
    said = stopped(newer)
    assert re.search(rf"openvino opset: recorded opset99, found opset\d+ of {found};", said)
    assert "; install openvino 2099.1.0 or newer, or build it again here (--rebuild)" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "2020.3.0"},
        {"version": "2020.3.0", "platform": "linux-aarch64"},
        {"version": "2099.1.0"},  # with operators that are here, whatever release wrote them
    ],
)
def test_openvino_reads_what_another_release_wrote_anywhere(openvino, tmp_path, images, caplog, changes):
    older = altered(openvino, tmp_path / "older", built_for=passport_of(openvino, **changes))
    with caplog.at_level(logging.INFO, logger="edgepress"), open_engine(older) as engine, open_engine(openvino) as now:
        assert np.array_equal(engine(images[:2]), now(images[:2]))
    assert f"openvino version: recorded {changes['version']}, found" in caplog.text


def test_a_patch_release_fits(openvino, tmp_path):
    import openvino as ov

    patched = ".".join(ov.__version__.split(".")[:2]) + ".999"
    assert misfits(altered(openvino, tmp_path / "a", built_for=passport_of(openvino, version=patched))) == []


def test_rebuilt_from_the_onnx_beside_it(newer, onnx_bundle, openvino, images):
    with open_engine(fitted(newer, rebuild=True)) as engine, open_engine(openvino) as original:
        assert np.array_equal(engine(images[:3]), original(images[:3]))
    now = Bundle.open(newer.path)
    assert now.manifest.built_for == openvino.manifest.built_for
    assert now.manifest.parent == onnx_bundle.as_parent
    require_fit(now)
    assert sorted(path.name for path in newer.path.parent.iterdir()) == ["engine", onnx_bundle.name]


def test_the_onnx_is_found_by_its_digest(newer, onnx_bundle):
    """In whatever folder, among neighbours that are none of ours."""
    run = newer.path.parent
    (run / onnx_bundle.name).rename(run / "zzz renamed")
    altered(onnx_bundle, run / onnx_bundle.name, facts=Facts(pictures=1))
    for name, text in (("list", "[]"), ("broken", "{"), ("empty", "")):
        (run / name).mkdir()
        (run / name / "manifest.json").write_text(text)
    assert fitted(newer, rebuild=True).manifest.parent == Bundle.open(run / "zzz renamed").as_parent


def test_without_the_onnx_it_is_named_and_nothing_changes(newer, onnx_bundle):
    shutil.rmtree(newer.path.parent / onnx_bundle.name)
    before = newer.digest
    message = stopped(newer, rebuild=True)
    assert f"its ONNX bundle onnx-fp32 (digest {onnx_bundle.digest[:12]}...) must be beside it" in message
    assert Bundle.open(newer.path).digest == before
    assert [path.name for path in newer.path.parent.iterdir()] == ["engine"]


def test_a_damaged_onnx_is_not_built_from(newer, onnx_bundle):
    model = newer.path.parent / onnx_bundle.name / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.onnx: changed since the bundle was made"):
        fitted(newer, rebuild=True)
    assert Bundle.open(newer.path).digest == newer.digest


def test_its_own_decisions_are_kept(newer, openvino, tmp_path):
    decisions = Decisions.plain(newer.manifest.labels, (0.3,) * len(newer.manifest.labels))
    own = altered(newer, newer.path.parent / "own", decisions=decisions)
    assert fitted(own, rebuild=True).decisions == decisions
    assert fitted(newer, rebuild=True).manifest.decisions == openvino.manifest.decisions


def test_int8_for_openvino_needs_pictures(newer):
    int8 = altered(newer, newer.path.parent / "int8", precision="int8")
    message = stopped(int8, rebuild=True)
    assert "edgepress quantize onnx-fp32 --target openvino --data DIR" in message


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-fp32", "litert-fp32", "ncnn-fp32"])
def test_a_truncated_model_is_refused_before_its_runtime_sees_it(build, tmp_path, name):
    bundle = Bundle.open(shutil.copytree(build(name).path, tmp_path / name))
    largest = max((bundle.path / file for file in bundle.manifest.files), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    with pytest.raises(InputError, match=rf"{largest.name}: changed since the bundle was made"):
        open_engine(bundle.path)


def test_ncnn_reads_what_another_release_wrote(build, onnx_bundle, tmp_path, images, caplog):
    ncnn, here = build("ncnn-fp32"), version("ncnn")
    assert ncnn.manifest.built_for == BuiltForNcnn(version=here, onnx_sha256=file_sha256(onnx_bundle.model_path))
    older = altered(ncnn, tmp_path / "older", built_for=passport_of(ncnn, version="1.0.20250503"))
    with caplog.at_level(logging.INFO, logger="edgepress"), open_engine(older) as engine, open_engine(ncnn) as now:
        assert np.array_equal(engine(images), now(images))
    assert f"ncnn version: recorded 1.0.20250503, found {here}" in caplog.text
    assert misfits(ncnn) == []


def test_litert_reads_what_another_release_wrote(build, onnx_bundle, tmp_path, images, caplog):
    litert, here = build("litert-fp32"), version("ai-edge-litert")
    assert litert.manifest.built_for == BuiltForLiteRt(version=here, onnx_sha256=file_sha256(onnx_bundle.model_path))
    older = altered(litert, tmp_path / "older", built_for=passport_of(litert, version="1.0.1"))
    with caplog.at_level(logging.INFO, logger="edgepress"), open_engine(older) as engine, open_engine(litert) as now:
        assert np.array_equal(engine(images[:2]), now(images[:2]))
    assert f"ai-edge-litert version: recorded 1.0.1, found {here}" in caplog.text
    assert misfits(litert) == []


def newer_opset(graph: onnx.ModelProto) -> None:
    graph.opset_import[0].version = 40


def newer_format(graph: onnx.ModelProto) -> None:
    graph.ir_version = 99


def anothers_operator(graph: onnx.ModelProto) -> None:
    entry = graph.opset_import.add()
    entry.domain, entry.version = "org.another", 1
    graph.graph.node[5].domain = "org.another"


def unknown_operator(graph: onnx.ModelProto) -> None:
    graph.graph.node[5].op_type = "NotYetInvented"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (newer_opset, r"is till opset \d+"),
        (newer_format, r"Unsupported model IR version: 99, max supported IR version: \d+"),
        (anothers_operator, r"org\.another:\w+\(-1\) is not a registered function/op"),
        (unknown_operator, r"No Op registered for NotYetInvented"),
    ],
)
def test_an_onnx_that_is_too_new_for_the_runtime(onnx_bundle, tmp_path, change, cause):
    graph = onnx.load(onnx_bundle.model_path)
    change(graph)
    fields = {name: value for name, value in onnx_bundle.manifest if name not in ("files", "created")}
    with write_bundle(tmp_path / "new", **fields) as folder:
        onnx.save(graph, str(folder / "model.onnx"))
    message = stopped(Bundle.open(tmp_path / "new"))
    assert re.search(rf"recorded: ONNX opset 20; found: onnxruntime [\d.]+, .*{cause}", message)
    assert message.endswith("install a newer onnxruntime, or export the model again")


@pytest.mark.parametrize("name", ["openvino", "fp16", "tensorrt", "litert", "ncnn"])
def test_a_disk_that_fills_up_leaves_nothing_behind(onnx_bundle, tmp_path, name, monkeypatch):
    if name == "tensorrt":
        pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    if name == "litert":
        require_litert()
    if name == "ncnn":
        require_ncnn()
    make = {
        "openvino": lambda out: compile_openvino(onnx_bundle, out, "fp32"),
        "fp16": lambda out: compile_fp16(onnx_bundle, out),
        "tensorrt": lambda out: build_tensorrt(onnx_bundle, out, GpuTarget(sm=86)),
        "litert": lambda out: compile_litert(onnx_bundle, out, "fp32"),
        "ncnn": lambda out: compile_ncnn(onnx_bundle, out, "fp32"),
    }[name]
    monkeypatch.setattr(tensorrt_runtime, "TENSORRT_MODULES", ONLY_RTX)
    with full_disk(50_000), pytest.raises(OSError) as error:
        make(tmp_path / "engine")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


class TestTensorRt:
    """Built for SM86 by TensorRT-RTX, without a GPU; what GPU is here is what the driver is said to answer."""

    @pytest.fixture(scope="class")
    def original(self, onnx_bundle, tmp_path_factory) -> Bundle:
        pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
        run = tmp_path_factory.mktemp("run")
        shutil.copytree(onnx_bundle.path, run / onnx_bundle.name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tensorrt_runtime, "TENSORRT_MODULES", ONLY_RTX)
            return build_tensorrt(onnx_bundle, run / "engine", GpuTarget(sm=86, max_batch=5))

    @pytest.fixture(autouse=True)
    def a_gpu(self, monkeypatch):
        monkeypatch.setattr(tensorrt_runtime, "TENSORRT_MODULES", ONLY_RTX)
        monkeypatch.setattr(passport, "cuda_compute_capability", lambda: (8, 6))

    def test_it_fits_where_it_was_built_for(self, original):
        assert misfits(original) == []
        assert fitted(original, rebuild=True) is original

    def test_no_gpu_is_no_reason_to_rebuild(self, original, monkeypatch):
        monkeypatch.setattr(passport, "cuda_compute_capability", lambda: None)
        assert stopped(original).endswith(
            "compute capability: recorded SM86, found no GPU here; open it on the GPU it was built for"
        )
        assert "without one it can be neither run nor rebuilt" in stopped(original, rebuild=True)

    @pytest.mark.parametrize("version", ["0.9", "99.0.0.1", "new", ""])
    def test_any_other_version_stops(self, original, tmp_path, version):
        import tensorrt_rtx

        other = altered(original, tmp_path / "other", built_for=passport_of(original, version=version))
        assert f"tensorrt_rtx version: recorded {version}, found {tensorrt_rtx.__version__}; install" in stopped(other)

    def test_all_that_differs_is_said_at_once(self, original, tmp_path, monkeypatch):
        monkeypatch.setattr(passport, "cuda_compute_capability", lambda: (9, 0))
        other = altered(original, tmp_path / "other", built_for=passport_of(original, version="0.9"))
        assert re.search(r"recorded 0\.9, found .*; compute capability: recorded SM86, found SM90; ", stopped(other))

    def test_another_driver_is_said_and_stops_nothing(self, original, monkeypatch):
        monkeypatch.setattr(passport, "driver_cuda", lambda: "99.0")
        (difference,) = misfits(original)
        assert (
            str(difference) == f"CUDA version of the driver: recorded {passport_of(original).driver_cuda}, found 99.0"
        )
        require_fit(original)

    def test_rebuilt_for_the_gpu_that_is_here(self, original, tmp_path, monkeypatch):
        run = Path(shutil.copytree(original.path.parent, tmp_path / "run"))
        for module in (passport, rebuilding):
            monkeypatch.setattr(module, "cuda_compute_capability", lambda: (8, 9))
        made = fitted(Bundle.open(run / "engine"), rebuild=True)
        assert made.path == run / "engine"
        assert passport_of(made) == passport_of(original, compute_capability="SM89")
        assert made.manifest.files["model.plan"] != original.manifest.files["model.plan"]
        assert misfits(made) == []

    def test_a_gpu_that_cannot_be_built_for_leaves_the_old_one(self, original, tmp_path, monkeypatch):
        run = Path(shutil.copytree(original.path.parent, tmp_path / "run"))
        for module in (passport, rebuilding):
            monkeypatch.setattr(module, "cuda_compute_capability", lambda: (9, 0))
        with pytest.raises(EngineUnavailableError, match=r"^SM90: tensorrt_rtx .* builds fp32 for SM80, SM86"):
            fitted(Bundle.open(run / "engine"), rebuild=True)
        assert Bundle.open(run / "engine").digest == original.digest

    def test_the_full_tensorrt_is_asked_for_its_platform_too(self, original, tmp_path, monkeypatch):
        full = types.ModuleType("tensorrt")
        full.__version__, full.__spec__ = "10.3.0", importlib.machinery.ModuleSpec("tensorrt", None)
        monkeypatch.setitem(sys.modules, "tensorrt", full)
        monkeypatch.setattr(tensorrt_runtime, "TENSORRT_MODULES", {"tensorrt": "gpu", **ONLY_RTX})
        facts = passport_of(original, runtime="tensorrt", version="10.3.0")
        assert misfits(altered(original, tmp_path / "same", built_for=facts)) == []
        other = altered(original, tmp_path / "other", built_for=facts.model_copy(update={"platform": "linux-another"}))
        assert f"platform: recorded linux-another, found {HERE}" in stopped(other)

    def test_the_other_tensorrt_is_named(self, original, tmp_path, monkeypatch):
        if importlib.util.find_spec("tensorrt") is not None:
            pytest.skip("the full tensorrt is installed here")
        other = altered(original, tmp_path / "other", built_for=passport_of(original, runtime="tensorrt"))
        assert "runtime: recorded tensorrt, found tensorrt_rtx; build it again here (--rebuild)" in stopped(other)
