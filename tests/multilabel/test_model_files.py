"""A finished model's kind is told by its files, and what is not read here is named with how it is converted."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.model_files import kind_of


def folder(root: Path, *names: str) -> Path:
    root.mkdir()
    for name in names:
        (root / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.onnx", "onnx"), ("a.ONNX", "onnx"), *((f"a{one}", "checkpoint") for one in (".pth", ".pt", ".ckpt", ".bin"))],
)
def test_files(name, kind, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("config.json", "model.safetensors", "preprocessor_config.json"), "transformers"),
        (("config.json", "pytorch_model.bin"), "transformers"),
        (("config.json", "model.safetensors", "model.onnx"), "transformers"),
        (("config.json",), "transformers"),
        (("open_clip_config.json", "open_clip_model.safetensors"), "open_clip"),
        (("open_clip_config.json", "config.json", "model.safetensors"), "open_clip"),
    ],
)
def test_folders(names, kind, tmp_path):
    assert kind_of(folder(tmp_path / "own", *names)) == kind


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.tflite", r"a TensorFlow Lite model: adopt what python -m tf2onnx\.convert --tflite .*a\.tflite --opset 17"),
        ("a.h5", r"a Keras model: adopt what python -m tf2onnx\.convert --keras .*a\.h5"),
        ("a.keras", "a Keras model"),
        ("a.pb", "a TensorFlow graph: convert its SavedModel folder"),
        ("a.xml", "an OpenVINO model: adopt the ONNX file that it was made from"),
        ("a.engine", "a TensorRT engine"),
        ("a.ort", "ONNX Runtime's own format"),
        ("a.pt2", r"a program of torch\.export: adopt what torch\.onnx\.export writes of it"),
        ("a.pkl", "a pickle, which would have to be executed"),
        ("a.mlmodel", "a Core ML model"),
        ("a.txt", "a file of another kind; expected an ONNX file, a checkpoint with --backbone, or a folder"),
    ],
)
def test_other_files_are_named(name, said, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=said):
        kind_of(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "an empty folder; expected"),
        (("saved_model.pb", "variables"), r"a TensorFlow SavedModel: adopt what .* --saved-model .*own --opset 17"),
        (
            ("pytorch_model.bin",),
            r"has pytorch_model\.bin and no config\.json.* with --backbone NAME and --labels",
        ),
        (("config.json", "model.onnx"), r"a folder; give the ONNX file in it, .*own/model\.onnx"),
        (("manifest.json",), "is a bundle already"),
        (("notes.txt",), "no model in it"),
    ],
)
def test_other_folders_are_named(names, said, tmp_path):
    with pytest.raises(InputError, match=said):
        kind_of(folder(tmp_path / "own", *names))


def test_timm_and_transformers_name_their_models_differently(tmp_path):
    own = folder(tmp_path / "own", "model.safetensors")
    (own / "config.json").write_text('{"architecture": "resnet18", "pretrained_cfg": {}}')
    assert kind_of(own) == "timm"
    (own / "config.json").write_text('{"architecture": "resnet18", "model_type": "timm_wrapper"}')
    assert kind_of(own) == "transformers"


def test_nothing_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        kind_of(tmp_path / "nowhere")
