"""Golden pictures: stored as files of every kind, small, without the user's metadata, with what became of them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.deploy.build import export
from edgepress.deploy.build.golden_pictures import PICTURES, generate, golden_pictures, version_of
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.golden_answers import ANSWERS, FOLDER
from edgepress.multilabel.pictures import decode_picture
from edgepress.multilabel.preprocess import Preprocess


def no_model(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1)[:, :5].astype(np.float64)


def test_eight_jpegs_and_a_png_that_has_the_pixels_of_the_first(splits):
    preprocess = Preprocess(size=64)
    found = golden_pictures(splits.test, preprocess, no_model)
    assert sorted(found.files) == ["0.jpg", "0.png", *(f"{row}.jpg" for row in range(1, PICTURES))]
    for name, data in found.files.items():
        decoded = found.decoded[int(name[0])]
        assert np.array_equal(decode_picture(data, name), decoded)
        assert np.array_equal(found.golden.pictures[int(name[0])], preprocess(decoded))
    assert np.array_equal(found.golden.logits, no_model(found.golden.pictures).astype(np.float32))


def test_they_look_like_the_splits_pictures(splits):
    found = golden_pictures(splits.test, Preprocess(size=64), no_model)
    apart = np.abs(found.decoded[3].astype(int) - splits.test.picture(5)).mean()  # row 3 of 8 over 12 pictures
    assert apart < 8, "the turned one is upright again"


def test_one_is_turned_one_progressive_and_one_has_whole_colours(splits):
    files = golden_pictures(splits.test, Preprocess(size=64), no_model).files
    kept = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    flat = [np.frombuffer(files[f"{row}.jpg"], np.uint8) for row in range(5)]
    turned = [not np.array_equal(cv2.imdecode(one, kept), cv2.imdecode(one, cv2.IMREAD_COLOR)) for one in flat]
    assert turned == [False, False, False, True, False]
    progressive = [b"\xff\xc2" in files[f"{row}.jpg"] for row in range(5)]
    assert progressive == [False, False, True, False, False]
    frame = [files[f"{row}.jpg"].index(b"\xff\xc0") for row in (0, 1)]
    assert [files[f"{row}.jpg"][at + 11] for row, at in zip((0, 1), frame, strict=True)] == [0x22, 0x11]


@pytest.mark.parametrize(("size", "side"), [(64, 320), (224, 448), (512, 640)])
def test_a_large_picture_is_made_smaller_and_loses_its_metadata(tmp_path, size, side):
    (tmp_path / "test").mkdir()
    (tmp_path / "labels.txt").write_text("a\nb\n")
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", cv2.blur(noise, (9, 9)))[1].tobytes()
    secret = b"\xff\xfe\x00\x0cWHERE I WAS"[:14]  # a comment, as cameras and phones write them
    (tmp_path / "test" / "0.jpg").write_bytes(data[:20] + secret + data[20:])
    rows = [{"file_name": "0.jpg", "labels": ["a"]}]
    (tmp_path / "test" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = golden_pictures(load_dataset(tmp_path, "test"), Preprocess(size=size), no_model)
    assert [pixels.shape for pixels in found.decoded] == [(side * 3 // 4, side, 3)]
    assert b"WHERE" not in b"".join(found.files.values())


def test_generated_pictures_show_nothing_of_the_users(model, splits):
    found = golden_pictures(splits.test, model.preprocess, model.answer, generated=True)
    own = [model.preprocess(splits.test.picture(row)) for row in range(len(splits.test))]
    assert found.golden.pictures.shape == (PICTURES, 64, 64, 3)
    assert all(np.abs(mine.astype(int) - other).mean() > 20 for mine in found.golden.pictures for other in own)
    assert len({picture.shape for picture in generate()}) == PICTURES
    assert np.ptp(found.golden.logits, axis=0).min() > 0, "they tell one model from another"
    assert version_of(True) != version_of(False), "a bundle with other pictures is another bundle"


def test_the_verb_stores_generated_ones(onnx_bundle, monkeypatch, tmp_path, tiny_data, edgepress):
    """Through the command line as far as the exporter, which takes seconds."""
    asked = []
    monkeypatch.setattr(export, "export_onnx", lambda *_, **given: asked.append(given) or onnx_bundle)
    student = onnx_bundle.path.parent / "student"
    for flags in ((), ("--generated-pictures",)):
        told = edgepress("export", student, "--data", tiny_data, "--out", tmp_path / "o", *flags)
        assert told.code == 0, told.err
    assert [given["generated_pictures"] for given in asked] == [False, True]


def test_every_derived_bundle_has_them(build, onnx_bundle):
    for name in ("onnx-fp16", "onnx-int8-onnxruntime", "openvino-fp32"):
        made = build(name)
        stored = {file for file in onnx_bundle.manifest.files if file.startswith(FOLDER)}
        assert {file for file in made.manifest.files if file.startswith(FOLDER)} == stored
        assert made.manifest.files[f"{FOLDER}/3.jpg"] == onnx_bundle.manifest.files[f"{FOLDER}/3.jpg"]
    own = [json.loads(Path(one.path / ANSWERS).read_text())["pictures"][0]["logits"] for one in (made, onnx_bundle)]
    assert own[0] == own[1]
    assert build("onnx-int8-onnxruntime").manifest.files[ANSWERS] != onnx_bundle.manifest.files[ANSWERS]
