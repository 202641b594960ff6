"""Of what kind a finished model from elsewhere is, by its files' names; and how to convert what is not read here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.folder_kinds import holds_pictures
from edgepress.multilabel.manifest import MANIFEST

ModelKind = Literal["onnx", "checkpoint", "timm", "transformers", "open_clip"]
CHECKPOINTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".th")
OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
_EXPECTED = "an ONNX file, a checkpoint with --backbone, or a folder that timm, transformers or open_clip wrote"
_TENSORFLOW = "adopt what python -m tf2onnx.convert {how} {source} --opset 17 --output model.onnx writes"
_OTHERS = {
    ".tflite": ("a TensorFlow Lite model", _TENSORFLOW.replace("{how}", "--tflite")),
    ".h5": ("a Keras model", _TENSORFLOW.replace("{how}", "--keras")),
    ".hdf5": ("a Keras model", _TENSORFLOW.replace("{how}", "--keras")),
    ".keras": ("a Keras model", _TENSORFLOW.replace("{how}", "--keras")),
    ".pb": ("a TensorFlow graph", "convert its SavedModel folder with tf2onnx and adopt that ONNX file"),
    ".ort": ("a model in ONNX Runtime's own format", "adopt the ONNX file that it was made from"),
    ".xml": ("an OpenVINO model", "adopt the ONNX file that it was made from"),
    ".engine": ("a TensorRT engine", "adopt the ONNX file that it was made from"),
    ".plan": ("a TensorRT engine", "adopt the ONNX file that it was made from"),
    ".mlmodel": ("a Core ML model", "export it to ONNX where it was trained and adopt that"),
    ".pt2": (
        "a program of torch.export",
        "adopt what torch.onnx.export writes of it",
    ),
    ".pkl": (
        "a pickle, which would have to be executed",
        "adopt a state dict or an ONNX file",
    ),
    ".joblib": ("a pickle, which would have to be executed", "export it to ONNX (skl2onnx) and adopt that"),
    ".gguf": ("a GGUF file", "adopt the model that it was made from"),
}


def kind_of(source: Path, expected: str = _EXPECTED) -> ModelKind:
    """
    Args:
        expected: what a message says was expected, in words.

    Raises:
        InputError: there is nothing, or something that is not read here; the message says what it is, and how it is
            converted.
    """
    if source.is_dir():
        return _kind_of_folder(source, expected)
    if not source.is_file():
        raise InputError(f"{source}: no such file or folder; expected {expected}")
    suffix = source.suffix.lower()
    if suffix == ".onnx":
        return "onnx"
    if suffix in CHECKPOINTS:
        return "checkpoint"
    if suffix in _OTHERS:
        what, how = _OTHERS[suffix]
        raise InputError(f"{source}: {what}: {how.format(source=source)}")
    raise InputError(f"{source}: a file of another kind; expected {expected}")


def _kind_of_folder(folder: Path, expected: str) -> ModelKind:
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        raise InputError(f"{folder}: an empty folder; expected {expected}")
    if MANIFEST in names:
        raise InputError(f"{folder}: is a bundle already; every verb and --teacher take it as it is")
    if OPEN_CLIP_CONFIG in names:
        return "open_clip"
    graphs = [name for name in names if name.endswith(".onnx")]
    weights = [name for name in names if name.endswith(CHECKPOINTS)]
    if TRANSFORMERS_CONFIG in names and (weights or not graphs):
        return "timm" if _is_of_timm(folder / TRANSFORMERS_CONFIG) else "transformers"
    if graphs:
        raise InputError(f"{folder}: a folder; give the ONNX file in it, {folder / graphs[0]}")
    if "saved_model.pb" in names:
        raise InputError(f"{folder}: a TensorFlow SavedModel: {_TENSORFLOW.format(how='--saved-model', source=folder)}")
    if weights:
        raise InputError(
            f"{folder}: has {weights[0]} and no {TRANSFORMERS_CONFIG}, so nothing says what model it is of: copy "
            f"{TRANSFORMERS_CONFIG} beside it, or give the file itself with --backbone NAME and --labels FILE"
        )
    held = "holds pictures and no model" if holds_pictures(folder) else "no model in it"
    raise InputError(f"{folder}: {held}; expected {expected}")


def _is_of_timm(config: Path) -> bool:
    """Whether timm wrote a config.json, which names an architecture where transformers' names a model_type."""
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # its reader says what is wrong with it
    return isinstance(fields, dict) and "architecture" in fields and "model_type" not in fields
