"""ncnn's bundles: what they carry, what they are made from, and nothing left of one that failed."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.deploy.build import ncnn as building
from edgepress.deploy.build.ncnn import compile_ncnn, ncnn_model
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.golden import GOLDEN
from edgepress.deploy.engines.ncnn import answer, network
from edgepress.multilabel.bundle import Bundle, file_sha256
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.manifest import BuiltForNcnn
from edgepress.multilabel.onnx_session import cpu_session
from tests.ncnn import require_ncnn

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)


def tagger(path: Path, *more: Any, last: str = "means", size: int = 9, **constants: np.ndarray) -> Path:
    """A convolution of pictures whose rows of pixels ncnn would pad, the means of its channels, and what is given."""
    weights = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["maps"], "conv", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("ReduceMean", ["maps", "axes"], ["means"], "mean", keepdims=0),
        *more,
    ]
    constants = {"weights": weights, "axes": np.array([2, 3], np.int64), **constants}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    return path


def test_a_bundle_says_what_it_is_and_carries_the_proof(build, onnx_bundle):
    manifest = build("ncnn-fp32").manifest
    assert (manifest.kind, manifest.precision, manifest.model) == ("ncnn", "fp32", "model.param")
    assert set(manifest.files) == {"model.param", "model.bin", "reference.npz", GOLDEN}
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


@pytest.mark.parametrize("size", [8, 9, 13])
def test_it_answers_as_the_onnx_whatever_the_size(tmp_path, size):
    require_ncnn()
    source = tagger(tmp_path / "tagger.onnx", size=size)
    before = source.read_bytes()
    net = network(*ncnn_model(source, half=False), threads=1)
    images = RNG.integers(0, 256, (3, size, size, 3), np.uint8)
    (expected,) = cpu_session(source).run(None, {"images": images})
    assert np.abs(np.stack([answer(net, image) for image in images]) - expected).max() < 1e-3
    assert source.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["tagger.onnx"]


def test_an_operator_that_ncnn_lacks_is_one_line(tmp_path):
    require_ncnn()
    source = tagger(tmp_path / "a.onnx", helper.make_node("Det", ["means"], ["logits"]), last="logits")
    onnx.save(onnx.load(str(source)), str(source))
    with pytest.raises(InputError, match=r"a\.onnx: ") as error:
        ncnn_model(source, half=False)
    assert "\n" not in str(error.value)


def test_pictures_that_are_not_cast_are_refused(tmp_path):
    require_ncnn()
    source = tagger(tmp_path / "a.onnx")
    model = onnx.load(str(source))
    model.graph.node[0].op_type = "Identity"
    onnx.save(model, str(source))
    with pytest.raises(InputError, match="its pictures are read by Identity; expected one Cast to float32"):
        ncnn_model(source, half=False)


def test_a_conversion_that_fails_is_one_line(tmp_path, monkeypatch):
    require_ncnn()

    def fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 255, "reading\nno such thing\n", "")

    monkeypatch.setattr(building.subprocess, "run", fails)
    with pytest.raises(InputError, match=r"cannot convert it: it ends with 255; its last line: no such thing$"):
        ncnn_model(tagger(tmp_path / "a.onnx"), half=False)


def test_another_answer_than_onnx_runtimes_is_refused(tmp_path, monkeypatch):
    """As if pnnx had read a weight wrongly."""
    require_ncnn()
    run = subprocess.run

    def errs(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        graph = onnx.load(command[1])
        weights = next(tensor for tensor in graph.graph.initializer if tensor.name == "weights")
        weights.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(weights), "weights"))
        onnx.save(graph, command[1])
        return run(command, **settings)

    monkeypatch.setattr(building.subprocess, "run", errs)
    with pytest.raises(InputError, match=r"answers otherwise: a logit differs by [\d.]+ from ONNX Runtime's"):
        ncnn_model(tagger(tmp_path / "a.onnx"), half=False)


def test_the_verb_names_the_missing_converter_and_makes_nothing(onnx_bundle, tmp_path, edgepress, monkeypatch):
    def lacks(module: str, extra: str) -> None:
        raise EngineUnavailableError(f"{module} is not installed here (pip install 'edgepress[{extra}]')")

    monkeypatch.setattr(building, "require", lacks)
    done = edgepress("compile", onnx_bundle.path, "--engine", "ncnn-fp32", "--out", tmp_path / "made")
    assert done.code == 2
    assert "pnnx is not installed here (pip install 'edgepress[ncnn-build]')" in done.err
    assert not (tmp_path / "made").exists()


def test_the_verb_compiles_and_verify_passes(onnx_bundle, tmp_path, edgepress, tiny_data):
    require_ncnn()
    for engine in ("ncnn-fp32", "ncnn-fp16"):
        done = edgepress("compile", onnx_bundle.path, "--engine", engine, "--out", tmp_path / engine)
        assert (done.code, done.out.strip()) == (0, str(tmp_path / engine))
        made = Bundle.open(tmp_path / engine)
        verified = edgepress("verify", made.path, "--data", tiny_data, "--split", "test")
        assert (verified.code, "ncnn, " in verified.out, f"{engine}: pass" in verified.out) == (0, True, True)
