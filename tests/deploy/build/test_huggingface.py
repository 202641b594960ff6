"""What is uploaded to the hub: the bundle itself with a card, a config and the weights; our own class opens it."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgepress import Tagger
from edgepress.compress.checkpoint import load_model
from edgepress.deploy.build.huggingface import write_huggingface
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError


def test_the_folder_is_a_bundle_with_what_the_hub_looks_for(onnx_bundle, model, images, logits, splits, tmp_path):
    out = write_huggingface(onnx_bundle, tmp_path / "out", "# a card\n")
    assert Bundle.open(out).digest == onnx_bundle.digest
    extra = {path.name for path in out.iterdir()} - {name.split("/")[0] for name in onnx_bundle.manifest.files}
    assert extra == {"manifest.json", "README.md", "config.json", "model.safetensors"}
    told = json.loads((out / "config.json").read_text())
    assert list(told["id2label"].values()) == list(onnx_bundle.labels.names)
    assert told["thresholds"] == dict.fromkeys(onnx_bundle.labels.names, 0.5)
    assert (told["image_size"], told["problem_type"]) == (64, "multi_label_classification")
    with Tagger.from_pretrained(out) as tagger:
        (picture,) = splits.test.paths[:1]
        found = tagger.predict(picture)
    assert list(found) == list(onnx_bundle.labels.names)
    weights = load_model(out / "model.safetensors")
    assert np.abs(weights.answer(images) - logits).max() < 1e-5


def test_without_the_student_the_weights_are_left_out_with_a_line(onnx_bundle, tmp_path, caplog):
    alone = Bundle.open(Path(shutil.copytree(onnx_bundle.path, tmp_path / "alone")))
    with caplog.at_level(logging.WARNING):
        out = write_huggingface(alone, tmp_path / "out", "# a card\n")
    assert not (out / "model.safetensors").exists()
    assert "model.safetensors is left out" in caplog.text


def test_what_is_no_onnx_bundle_and_no_repository_is_refused(build, tmp_path):
    with pytest.raises(InputError, match="of kind openvino, fp32; the layout huggingface serves onnx"):
        write_huggingface(build("openvino-fp32"), tmp_path / "out", "")
    with pytest.raises(InputError, match=r"\.\./x/y: no such folder, and no name of a repository"):
        Tagger.from_pretrained("../x/y")
    with pytest.raises(InputError, match="nobody/nothing: no such folder here, and the hub does not give it"):
        Tagger.from_pretrained("nobody/nothing")
