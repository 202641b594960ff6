"""LiteRT's bundles: what they carry, what they are made from, and nothing left of one that failed."""

from __future__ import annotations

import logging
from importlib.metadata import version

import pytest

from edgepress.deploy.build import litert as building
from edgepress.deploy.build.litert import compile_litert
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle, file_sha256
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.golden_answers import FOLDER, GOLDEN
from edgepress.multilabel.litert_model import REDUCED_PRECISION
from edgepress.multilabel.manifest import BuiltForLiteRt


def test_a_bundle_says_what_it_is_and_carries_the_proof(build, onnx_bundle):
    manifest = build("litert-fp32").manifest
    assert (manifest.kind, manifest.precision, manifest.model) == ("litert", "fp32", "model.tflite")
    assert {name for name in manifest.files if not name.startswith(f"{FOLDER}/")} == {
        "model.tflite",
        "reference.npz",
        GOLDEN,
    }
    assert manifest.parent == onnx_bundle.as_parent
    assert manifest.built_for == BuiltForLiteRt(
        version=version("ai-edge-litert"), onnx_sha256=file_sha256(onnx_bundle.model_path)
    )
    assert manifest.tools == {name: version(name) for name in ("onnx2tf", "ai-edge-litert", "edgepress")}


def test_half_precision_is_that_of_the_weights_alone(build):
    whole, half = build("litert-fp32"), build("litert-fp16")
    assert half.model_path.stat().st_size < 0.6 * whole.model_path.stat().st_size
    assert half.manifest.tools.keys() == {"onnx2tf", "litert-quantizer", "ai-edge-litert", "edgepress"}
    with open_engine(whole) as one, open_engine(half) as other:
        assert one.proof().products == other.proof().products
    assert REDUCED_PRECISION not in half.read("model.tflite")


def test_it_is_kept_while_its_parent_is_unchanged(build, onnx_bundle, monkeypatch):
    made = build("litert-fp32")
    monkeypatch.setattr(building, "litert_model", lambda path: pytest.fail("converted again"))
    assert compile_litert(onnx_bundle, made.path, "fp32").digest == made.digest


def test_only_a_float_onnx_bundle_is_compiled(build, tmp_path):
    with pytest.raises(InputError, match="a bundle of kind litert, fp32; expected onnx, fp32"):
        compile_litert(build("litert-fp32"), tmp_path / "made", "fp32")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [InputError("cannot convert it"), EngineUnavailableError("onnx2tf is not installed")])
def test_nothing_is_left_of_one_that_failed(build, onnx_bundle, tmp_path, monkeypatch, error):
    build("litert-fp32")

    def fails(path):
        raise error

    monkeypatch.setattr(building, "litert_model", fails)
    with pytest.raises(type(error), match=str(error)):
        compile_litert(onnx_bundle, tmp_path / "made", "fp32")
    assert not list(tmp_path.iterdir())


def test_the_verb_names_the_missing_converter_and_makes_nothing(onnx_bundle, tmp_path, edgepress, monkeypatch):
    monkeypatch.setattr("edgepress.multilabel.litert_model.PACKAGES", ("no_such_package",))
    done = edgepress("compile", onnx_bundle.path, "--engine", "litert-fp32", "--out", tmp_path / "made")
    assert done.code == 2
    assert "no_such_package is not installed here (pip install 'edgepress[litert-build]', then pip" in done.err
    assert not (tmp_path / "made").exists()


def test_the_verb_compiles_and_verify_passes(onnx_bundle, tmp_path, edgepress, tiny_data, build):
    build("litert-fp32")
    done = edgepress("compile", onnx_bundle.path, "--engine", "litert-fp32", "--out", tmp_path / "made")
    assert (done.code, done.out.strip()) == (0, str(tmp_path / "made"))
    verified = edgepress("verify", Bundle.open(tmp_path / "made").path, "--data", tiny_data, "--split", "test")
    assert (verified.code, "litert, " in verified.out, "made: pass" in verified.out) == (0, True, True)


def test_half_weights_leave_the_root_logger_alone(build, monkeypatch):
    """The quantiser's first message gives a root logger without handlers one that writes to its own stderr."""
    whole, root = build("litert-fp32").read("model.tflite"), logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    building.with_half_weights(whole)
    assert root.handlers == []
