"""open_tagger: a picture in, a probability a label out."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from edgepress import open_engine, open_tagger
from edgepress.deploy.build.compile import derived_bundle
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError


@pytest.mark.parametrize("name", ["onnx-fp32", "openvino-int8"])
def test_probabilities_are_the_sigmoid_of_the_engines_logits(build, splits, name):
    bundle = build(name)
    path = splits.test.paths[3]
    with open_engine(bundle) as engine, open_tagger(bundle.path) as tagger:
        (logits,) = engine(bundle.preprocess.load(path)[None])
        answer = tagger.predict(path)
        assert list(answer) == list(bundle.labels)
        assert list(answer.values()) == pytest.approx(1 / (1 + np.exp(-logits.astype(float))), abs=1e-6)
        assert all(type(value) is float for value in answer.values())


def test_it_knows_what_it_learnt(onnx_bundle, splits):
    with open_tagger(onnx_bundle) as tagger:
        for path, target in zip(splits.test.paths, splits.test.targets, strict=True):
            tags = tagger.tags(tagger.predict(path))
            assert set(tags) == {name for name, shown in zip(onnx_bundle.labels, target, strict=True) if shown}


def test_a_path_its_text_and_its_pixels_are_one_picture(onnx_bundle, splits):
    path = splits.test.paths[0]
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    with open_tagger(str(onnx_bundle.path)) as tagger:
        assert tagger.predict(path) == tagger.predict(str(path)) == tagger.predict(pixels)


def test_tags_obey_thresholds_and_come_most_probable_first(onnx_bundle, tmp_path):
    plain = Decisions.plain(onnx_bundle.labels.names)
    decisions = plain.model_copy(update={"thresholds": (0.9, 0.2, 0.5, 0.5, 0.5)})
    fields = {"kind": "onnx", "precision": "fp32", "model": "model.onnx", "decisions": decisions}
    with derived_bundle(onnx_bundle, tmp_path / "bundle", **fields) as (folder, _):
        (folder / "model.onnx").write_bytes(onnx_bundle.model_path.read_bytes())
    with open_tagger(tmp_path / "bundle") as tagger:
        names = tagger.engine.labels.names
        assert tagger.tags(dict(zip(names, (0.89, 0.2, 0.5, 0.499, 0.8), strict=True))) == [
            names[4],
            names[2],
            names[1],
        ]
    with open_tagger(onnx_bundle) as tagger:
        assert tagger.thresholds.tolist() == [0.5] * 5


def test_bad_pictures_are_named(onnx_bundle, splits, tmp_path):
    half = tmp_path / "half.jpg"
    half.write_bytes(splits.test.paths[0].read_bytes()[:400])
    with open_tagger(onnx_bundle) as tagger:
        with pytest.raises(InputError, match=r"half\.jpg: truncated"):
            tagger.predict(half)
        with pytest.raises(InputError, match=r"absent\.jpg: cannot be read"):
            tagger.predict(tmp_path / "absent.jpg")
        with pytest.raises(ValueError, match=r"received float64 \[8, 8, 3\]"):
            tagger.predict(np.zeros((8, 8, 3)))


def test_predict_on_the_command_line(onnx_bundle, edgepress, splits):
    pictures = splits.test.paths[:3]
    lines = edgepress("predict", onnx_bundle.path, *pictures).out.splitlines()
    assert [line.split()[0] for line in lines] == [str(path) for path in pictures]
    answer = edgepress("predict", onnx_bundle.path, *pictures, "--json")
    rows = [json.loads(line) for line in answer.out.splitlines()]
    with open_tagger(onnx_bundle) as tagger:
        for row, path in zip(rows, pictures, strict=True):
            assert row["probabilities"] == pytest.approx(tagger.predict(path), abs=1e-5)


def test_inspect_prints_the_manifest(build, edgepress):
    bundle: Bundle = build("onnx-int8-onnxruntime")
    answer = edgepress("inspect", bundle.path, "--json")
    assert answer.code == 0
    assert answer.json["digest"] == bundle.digest
    assert answer.json["calibration"]["pictures"] == 16
    assert answer.json["labels"] == list(bundle.labels)


def test_doctor_names_every_backend(edgepress):
    answer = edgepress("doctor", "--json")
    backends = {row["name"]: row for row in answer.json["backends"]}
    assert backends.keys() >= {"torch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"}
    assert backends["onnxruntime"]["works"]
    assert all(row["works"] or row["detail"] for row in backends.values())
