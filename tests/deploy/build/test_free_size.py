"""A model that scales by itself answers decoded pictures as the bundle answers prepared ones."""

from __future__ import annotations

import json
import runpy
import shutil

import numpy as np
import pytest

from edgepress.deploy.build.free_size import write_free_size
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.golden import ALLOWED_DIFF
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.onnx_session import cpu_session
from edgepress.multilabel.pictures import read_picture

SHAPES = ((1, 1), (1, 300), (97, 128))


def of_openvino(folder):
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(folder / "model.xml"), "CPU", settings)
    return lambda pictures: np.array(compiled(pictures)[0])


def of_onnx_runtime(folder):
    session = cpu_session(folder / "model.onnx")
    return lambda pictures: session.run(["logits"], {"images": pictures})[0]


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("onnx-fp32", of_onnx_runtime),
        ("onnx-fp16", of_onnx_runtime),
        ("onnx-int8-onnxruntime", of_onnx_runtime),
        ("openvino-int8", of_openvino),
    ],
)
def test_pictures_of_any_size_get_the_bundles_logits(onnx_bundle, build, tmp_path, name, opened):
    bundle = onnx_bundle if name == "onnx-fp32" else build(name)
    out = write_free_size(bundle, tmp_path / "out")
    answers, rng = opened(out), np.random.default_rng(0)
    told = json.loads((out / "golden" / "answers.json").read_text())
    files = [read_picture(out / one["file"]) for one in told["pictures"]]
    pictures = [*files, *(rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES)]
    with open_engine(bundle, unproven=True) as engine:
        prepared = engine(np.stack([bundle.preprocess(picture) for picture in pictures]))
    found = np.concatenate([answers(picture[None]) for picture in pictures])
    # By area-cubic about a thousandth of the values differ by one level, of which INT8 makes more than float.
    allowed = ALLOWED_DIFF.get(bundle.manifest.precision, 0.5)
    assert np.abs(found - prepared).max() <= allowed
    golden = np.array([one["logits"] for one in told["pictures"]])
    assert np.abs(found[: len(golden)] - golden).max() <= allowed
    assert np.ptp(golden, axis=0).min() > 0.5, "answers that are all alike show nothing"
    batch = rng.integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    alone = np.concatenate([answers(picture[None]) for picture in batch])
    assert np.abs(answers(batch) - alone).max() <= allowed


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-fp32"])
def test_the_readme_runs_as_it_stands(onnx_bundle, build, tmp_path, capsys, monkeypatch, name):
    bundle = onnx_bundle if name == "onnx-fp32" else build(name)
    out = write_free_size(bundle, tmp_path / "out")
    (tmp_path / "ask.py").write_text((out / "README.md").read_text().split("```")[1].removeprefix("python\n"))
    monkeypatch.chdir(out)
    runpy.run_path(str(tmp_path / "ask.py"))
    with open_engine(bundle, unproven=True) as engine:
        logits = engine(bundle.preprocess(read_picture(out / "golden" / "0.jpg"))[None])[0]
    assert capsys.readouterr().out.strip() == str([bundle.labels.names[at] for at in np.flatnonzero(logits >= 0)])


@pytest.mark.parametrize("kind", ["torch", "litert", "ncnn", "tensorrt"])
def test_a_runtime_that_does_not_take_it_is_refused_by_name(onnx_bundle, tmp_path, kind):
    other = Bundle(onnx_bundle.path, onnx_bundle.manifest.model_copy(update={"kind": kind}), "")
    with pytest.raises(InputError, match=rf"of kind {kind}: .*; the layout free-size serves onnx and openvino"):
        write_free_size(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_answers_otherwise_is_not_written(onnx_bundle, tmp_path):
    crop = onnx_bundle.preprocess.model_copy(update={"resize": "crop"})
    other = Bundle(onnx_bundle.path, onnx_bundle.manifest.model_copy(update={"preprocess": crop}), "")
    with pytest.raises(InputError, match="with its preprocessing inside the model answers otherwise: a logit differs"):
        write_free_size(other, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_if_that_reads_the_pixels_is_refused(onnx_bundle, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    folder = shutil.copytree(onnx_bundle.path, tmp_path / "bundle")
    model = onnx.load(folder / onnx_bundle.model_path.name)
    (pixels,) = model.graph.input
    given = helper.make_tensor_value_info("given", TensorProto.UINT8, None)
    inner = helper.make_graph([helper.make_node("Identity", [pixels.name], ["given"])], "inner", [], [given])
    for node in model.graph.node:
        node.input[:] = ["chosen" if name == pixels.name else name for name in node.input]
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=yes),
        helper.make_node("If", ["yes"], ["chosen"], "branch", then_branch=inner, else_branch=inner),
        *model.graph.node,
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, folder / onnx_bundle.model_path.name)
    changed = Bundle(folder, onnx_bundle.manifest, "")
    with pytest.raises(InputError, match=r"bundle: its If 'branch' reads the pixels in an inner graph.* without If"):
        write_free_size(changed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
