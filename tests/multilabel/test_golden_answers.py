"""The stored answers: each bundle's own decisions, and nothing that edgepress did not write is taken for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel.bundle import Bundle, rewrite_bundle, write_bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.golden_answers import ANSWERS, DECODED, FOLDER, GOLDEN, GoldenAnswers, is_proof, pixels_sha256
from edgepress.multilabel.preprocess import Preprocess

LABELS = ("cat", "dog")
LOGITS = np.array([[-1.0, 2.0], [0.5, 1.0]], np.float32)


def bundle_with(path: Path, own: np.ndarray | None = None) -> Bundle:
    """A bundle of two stored pictures, 10 x 9 pixels; `own` are logits of an INT8 engine."""
    pixels = np.arange(270, dtype=np.uint8).reshape(9, 10, 3)
    fields = {"kind": "onnx", "precision": "fp32", "model": "model.onnx", "labels": LABELS}
    with write_bundle(path, **fields, preprocess=Preprocess(size=8)) as folder:
        (folder / "model.onnx").write_bytes(b"a model")
        (folder / FOLDER).mkdir()
        for name in ("0.jpg", "0.png", "1.jpg"):
            (folder / FOLDER / name).write_bytes(b"a picture")
        np.savez(folder / DECODED, **{"0": pixels, "1": pixels + 1})
        extra = {} if own is None else {"answers": own}
        np.savez(folder / GOLDEN, pictures=np.zeros((2, 8, 8, 3), np.uint8), logits=LOGITS, **extra)
    return Bundle.open(path)


def told(bundle: Bundle) -> GoldenAnswers:
    return GoldenAnswers.parse(bundle.read(ANSWERS), ANSWERS)


def test_each_file_has_the_answers_of_its_row(tmp_path):
    found = told(bundle_with(tmp_path / "b"))
    assert found.labels == LABELS
    assert [one.file for one in found.pictures] == ["golden/0.jpg", "golden/0.png", "golden/1.jpg"]
    first, png, second = found.pictures
    assert (first.width, first.height) == (10, 9)
    assert first.decoded_sha256 == png.decoded_sha256 != second.decoded_sha256
    assert first.prepared_sha256 == pixels_sha256(np.zeros((8, 8, 3), np.uint8))
    assert first.logits == (-1.0, 2.0)
    assert first.probabilities == pytest.approx((0.2689414213699951, 0.8807970779778823), abs=1e-15)
    assert (first.tags, second.tags) == (("dog",), ("cat", "dog"))


def test_an_int8_engine_is_held_to_its_own_logits(tmp_path):
    assert told(bundle_with(tmp_path / "b", LOGITS + 1)).pictures[0].logits == (0.0, 3.0)


def test_other_decisions_have_other_answers(tmp_path):
    bundle = bundle_with(tmp_path / "b")
    decided = rewrite_bundle(bundle, tmp_path / "c", decisions=Decisions.plain(LABELS, [0.2, 0.9]))
    assert told(decided).pictures[0].tags == ("cat",)
    assert told(bundle).pictures[0].tags == ("dog",)


def test_a_bundle_without_pictures_gets_no_answers(tmp_path):
    with write_bundle(
        tmp_path / "b", kind="onnx", precision="fp32", model="m", labels=LABELS, preprocess=Preprocess(size=8)
    ) as folder:
        (folder / "m").write_bytes(b"a model")
    assert set(Bundle.open(tmp_path / "b").manifest.files) == {"m"}


def test_only_the_model_counts_for_its_size(tmp_path):
    assert bundle_with(tmp_path / "b").size_bytes == len(b"a model")
    assert [is_proof(name) for name in ("golden/0.jpg", "golden.npz", "model.bin", "goldens")] == [
        True,
        True,
        False,
        False,
    ]


def test_unknown_fields_are_passed_over_and_anything_else_is_refused(tmp_path):
    data = json.loads(bundle_with(tmp_path / "b").read(ANSWERS))
    data["pictures"][0]["later"] = 1
    assert GoldenAnswers.parse(json.dumps(data).encode(), "x").pictures[0].file == "golden/0.jpg"
    for change, said in (
        ({"labels": 3}, "x: not a file that edgepress made (labels: "),
        ({"labels": ["cat"]}, "expected a logit and a probability per label"),
    ):
        with pytest.raises(InputError) as error:
            GoldenAnswers.parse(json.dumps({**data, **change}).encode(), "x")
        assert said in str(error.value)
    with pytest.raises(InputError, match="x: not a file that edgepress made"):
        GoldenAnswers.parse(b"[", "x")
