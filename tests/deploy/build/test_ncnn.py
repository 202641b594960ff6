"""ncnn's bundles: what they carry, what they are made from, and nothing left of one that failed."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version

import pytest

from edgepress.deploy.build import ncnn as building
from edgepress.deploy.build.ncnn import compile_ncnn
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle, file_sha256
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.golden_answers import FOLDER, GOLDEN
from edgepress.multilabel.manifest import BuiltForNcnn
from tests.ncnn import require_ncnn


def test_a_bundle_says_what_it_is_and_carries_the_proof(build, onnx_bundle):
    manifest = build("ncnn-fp32").manifest
    assert (manifest.kind, manifest.precision, manifest.model) == ("ncnn", "fp32", "model.param")
    assert {name for name in manifest.files if not name.startswith(f"{FOLDER}/")} == {
        "model.param",
        "model.bin",
        "reference.npz",
        GOLDEN,
    }
    assert manifest.parent == onnx_bundle.as_parent
    assert manifest.built_for == BuiltForNcnn(version=version("ncnn"), onnx_sha256=file_sha256(onnx_bundle.model_path))
    assert manifest.tools == {name: version(name) for name in ("pnnx", "ncnn", "edgepress")}


def test_half_precision_is_that_of_the_weights_alone(build):
    whole, half = build("ncnn-fp32"), build("ncnn-fp16")
    assert half.read("model.param") == whole.read("model.param")
    assert len(half.read("model.bin")) < 0.6 * len(whole.read("model.bin"))
    with open_engine(whole) as one, open_engine(half) as other:
        assert one.proof().products == other.proof().products


def test_it_is_kept_while_its_parent_is_unchanged(build, onnx_bundle, monkeypatch):
    made = build("ncnn-fp32")
    monkeypatch.setattr(building, "ncnn_model", lambda path, half: pytest.fail("converted again"))
    assert compile_ncnn(onnx_bundle, made.path, "fp32").digest == made.digest


@pytest.mark.parametrize(
    "error", [InputError("cannot convert it"), EngineUnavailableError("pnnx is not installed"), OSError(28, "No space")]
)
def test_nothing_is_left_of_one_that_failed(build, onnx_bundle, tmp_path, monkeypatch, error):
    build("ncnn-fp32")

    def fails(path, half):
        raise error

    monkeypatch.setattr(building, "ncnn_model", fails)
    with pytest.raises(type(error), match=re.escape(str(error))):
        compile_ncnn(onnx_bundle, tmp_path / "made", "fp32")
    assert not list(tmp_path.iterdir())


def test_only_a_float_onnx_bundle_is_compiled(build, tmp_path):
    with pytest.raises(InputError, match="a bundle of kind ncnn, fp32; expected onnx, fp32"):
        compile_ncnn(build("ncnn-fp32"), tmp_path / "made", "fp32")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["compile", "quantize"])
def test_the_verbs_name_the_missing_converter_and_make_nothing(
    verb, onnx_bundle, tmp_path, edgepress, monkeypatch, tiny_data
):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pnnx" else found(name))
    what = {"compile": ("--engine", "ncnn-fp32"), "quantize": ("--target", "ncnn", "--data", tiny_data)}[verb]
    done = edgepress(verb, onnx_bundle.path, *what, "--out", tmp_path / "made")
    assert done.code == 2
    assert "pnnx is not installed here (pip install 'edgepress[ncnn-build]')" in done.err
    assert not list(tmp_path.iterdir())


def test_the_verb_compiles_and_verify_passes(onnx_bundle, tmp_path, edgepress, tiny_data):
    require_ncnn()
    for engine in ("ncnn-fp32", "ncnn-fp16"):
        done = edgepress("compile", onnx_bundle.path, "--engine", engine, "--out", tmp_path / engine)
        assert (done.code, done.out.strip()) == (0, str(tmp_path / engine))
        made = Bundle.open(tmp_path / engine)
        verified = edgepress("verify", made.path, "--data", tiny_data, "--split", "test")
        assert (verified.code, "ncnn, " in verified.out, f"{engine}: pass" in verified.out) == (0, True, True)
