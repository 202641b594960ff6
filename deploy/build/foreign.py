"""A finished ONNX tagger of somebody's own: what its graph states, and what only its owner knows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from edgepress.deploy.build.foreign_output import IN_UNIT, activation_of, joined, output_of, shape_of
from edgepress.deploy.build.own_file import constants, every_node, load, run_on, session_of, widened
from edgepress.multilabel.config import Config
from edgepress.multilabel.conventions import Activation, Colors, Layout
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.preprocess import LARGEST, SMALLEST, Resize, require_of_pixels
from edgepress.multilabel.resampling import Interpolation

if TYPE_CHECKING:
    import onnx

_FLOAT, _BYTES = "float32", "uint8"
_QUANTISED = frozenset((
    "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
    "DynamicQuantizeMatMul",
))  # fmt: skip
"""Operators of graphs that compute in INT8."""
_TRAINING_MODE = 14
"""The opset from which on BatchNormalization says by an attribute whether it trains; before, its outputs say it."""
_TRIED = 8
"""Random pictures that a graph is asked about, if its owner has to be asked about something else anyway."""


_Triple = tuple[float, float, float]


class AdoptConfig(Config):
    """What a graph does not say, or says wrongly."""

    mean: _Triple | None = None
    """What is subtracted from the channels of pixels that are scaled to 0..1, as three numbers in the order of
    --colors: 0.485,0.456,0.406 for models of torchvision and most of timm, 0.5,0.5,0.5 for -1..1, 0,0,0 for 0..1."""
    std: _Triple | None = None
    """What they are divided by then: 0.229,0.224,0.225, or 0.5,0.5,0.5, or 1,1,1; 0.00392157 three times for 0..255."""
    size: int | None = Field(default=None, ge=SMALLEST, le=LARGEST)
    """Side of the square input in pixels, where the graph leaves it open."""
    resize: Resize = "squash"
    """How a picture becomes square: squash stretches it, crop cuts out its middle, letterbox puts it between black
    bars."""
    crop_fraction: float = Field(default=0.875, gt=0, le=1)
    """Side of the middle as a share of the picture's shorter side: 224 of 256 pixels are 0.875."""
    interpolation: Interpolation = "area-cubic"
    """How scaled pixels are computed: area-cubic (OpenCV's), bilinear-aa and bicubic-aa (Pillow's), or bilinear (no
    antialiasing, as canvases and hardware scalers do it)."""
    colors: Colors = "rgb"
    """The order of the channels that the model learnt with."""
    layout: Layout | None = None
    """Where the channels are, where the shape leaves it open."""
    output: str | None = None
    """The output to take, where several could be the labels, or several to join, with commas between them."""
    activation: Activation | None = None
    """What the output has been through, where the graph's last node does not say it."""
    keep_labels: bool = False
    """Keep all of the model's own labels, for a teacher whose labels are matched with the data set's when it teaches
    (--teacher-labels), and not the data set's alone."""
    generated_pictures: bool = False
    """Store generated pictures in the bundle, and not eight of the split's, which whoever gets the bundle gets."""

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _are_three(cls, given: Any) -> Any:
        if given is not None and (not isinstance(given, list | tuple) or len(given) != 3):
            raise ValueError(
                "expected three numbers, for red, green and blue (with --colors bgr for blue, green and red)"
            )
        return given

    @field_validator("mean", "std")
    @classmethod
    def _fit_pixels(cls, given: _Triple | None, info: ValidationInfo) -> _Triple | None:
        if given is not None:
            require_of_pixels(str(info.field_name), given)
        return given


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A graph and how to call it."""

    source: str
    """What messages call it: its file."""
    model: onnx.ModelProto
    input: str
    dtype: str
    """float32 or uint8."""
    layout: Layout
    colors: Colors
    size: int
    batch: int | None
    """None where the graph leaves it free."""
    output: str
    activation: Activation | None
    """What the graph's last node says; None where it is neither Sigmoid nor Softmax."""
    external: tuple[str, ...] = ()
    """Names of the files beside it that hold its tensors."""
    labels: tuple[str, ...] | None = None
    """The names of the outputs, where the file's metadata has them."""
    half: bool = False
    """Whether the file computes in float16; the model computes in float32 with the same weights."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one picture as the graph takes it."""
        return (3, self.size, self.size) if self.layout == "nchw" else (self.size, self.size, 3)


def read_foreign(file: Path, config: AdoptConfig, *, named: bool = True) -> Foreign:
    """Read an ONNX file and find out how to call it.

    Args:
        file: an .onnx file; files with its external data are read from its own folder.
        named: whether its owner names its outputs.

    Raises:
        InputError: the file is not an ONNX model, its external data is missing or outside its folder, it does not have
            exactly one input, it is quantised, or the caller must state something about its input or output: one
            message asks for all that is not stated.
    """
    model, external = load(file)
    if quantised := next((node.op_type for node in model.graph.node if node.op_type in _QUANTISED), None):
        raise InputError(
            f"{file}: is quantised already ({quantised}); adopt the float model that it was made from, and let "
            "`edgepress quantize` make INT8 of it"
        )
    _require_evaluation(file, model)
    half = widened(model)
    value = _input_of(file, model)
    shape, dtype, labels = shape_of(value), _dtype(file, value), _labels(model)
    questions: list[str] = []
    layout = _layout(file, value.name, shape, config.layout, questions)
    size = _size(file, value.name, shape, layout, config.size, questions)
    if dtype == _FLOAT and (unsaid := [f"--{word}" for word in ("mean", "std") if getattr(config, word) is None]):
        questions.append(
            f"takes float32 and does not say how pixels are normalised: say {' and '.join(unsaid)}, such as --mean "
            f"0.485,0.456,0.406 --std 0.229,0.224,0.225 (torchvision, most of timm), --mean 0,0,0 --std 1,1,1 for 0..1"
        )
    output, activation = _output(file, model, config, questions)
    if labels is None and not named:
        questions.append(
            "does not name its outputs: say --labels FILE, one name per line in the order of the outputs (the data "
            "set's own labels.txt, if the model was trained with it)"
        )
    batch = shape[0] if isinstance(shape[0], int) else None
    if layout is not None and size is not None and output is not None:
        found = Foreign(
            source=str(file),
            model=model,
            input=value.name,
            dtype=dtype,
            layout=layout,
            colors=config.colors,
            size=size,
            batch=batch,
            output=output,
            activation=activation,
            external=external,
            labels=labels,
            half=half,
        )
        if not questions:
            return found
        if activation is None and _seems_probable(found):
            questions.append(IN_UNIT)
    raise InputError(f"{file}: {_in_one(questions)}")


def _output(
    file: Path, model: onnx.ModelProto, config: AdoptConfig, questions: list[str]
) -> tuple[str | None, Activation | None]:
    said = config.output
    if said is not None and "," in said and all(said != value.name for value in model.graph.output):
        return joined(file, model, said, config.activation)
    output = output_of(file, model, said, questions)
    return output, None if output is None else activation_of(file, model, output, config.activation, questions)


def _require_evaluation(file: Path, model: onnx.ModelProto) -> None:
    """Raise an error where a graph computes as in training: its answers depend on its batch or on chance."""
    from onnx import numpy_helper

    on = {
        name
        for name, tensor in constants(model.graph).items()
        if tensor.data_type == tensor.BOOL and numpy_helper.to_array(tensor).any()
    }
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    for node in every_node(model.graph):
        trains = any(one.name == "training_mode" and one.i for one in node.attribute)
        if node.op_type == "Dropout":
            trains = trains or (len(node.input) > 2 and node.input[2] in on)
        elif node.op_type == "BatchNormalization" and opset < _TRAINING_MODE:
            trains = trains or sum(map(bool, node.output)) > 1  # the statistics of the batch, used or not
        if trains:
            raise InputError(
                f"{file}: the {node.op_type} {node.name or node.output[0]!r} computes as in training: export the model "
                f"in evaluation mode (model.eval(), and no training=TrainingMode.TRAINING)"
            )


def _input_of(file: Path, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The one input of a graph: the pictures."""
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in given]
    if len(inputs) != 1:
        names = ", ".join(f"{value.name} {shape_of(value)}" for value in inputs) or "none"
        raise InputError(
            f"{file}: {len(inputs)} inputs ({names}); expected one, the pictures: export the model with the others as "
            f"constants, or cut the graph with onnx.utils.extract_model"
        )
    return inputs[0]


def _in_one(questions: list[str]) -> str:
    if len(questions) == 1:
        return questions[0]
    numbered = "; ".join(f"({number}) {question}" for number, question in enumerate(questions, start=1))
    return f"{len(questions)} things must be stated: {numbered}"


def _seems_probable(foreign: Foreign) -> bool:
    """Whether a graph that does not say so answers in 0..1 for random pixels, around 0 if it takes float32."""
    random, shape = np.random.default_rng(0), (foreign.batch or _TRIED, *foreign.shape)
    pixels = random.standard_normal(shape, np.float32) if foreign.dtype == _FLOAT else random.integers(0, 256, shape)
    session = session_of(foreign.model, foreign.source)
    answers = run_on(session, foreign.source, foreign.input, foreign.output, pixels.astype(foreign.dtype))
    return answers.dtype.kind == "f" and bool(answers.min() >= -1e-4 and answers.max() <= 1 + 1e-4)  # rounded


def _dtype(file: Path, value: onnx.ValueInfoProto) -> str:
    import onnx

    found = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    names = {"float": _FLOAT, "uint8": _BYTES}
    if found not in names:
        raise InputError(f"{file}: the input {value.name} is {found}; expected float32 or uint8: export it in float32")
    return names[found]


def _layout(
    file: Path, name: str, shape: list[int | str | None], said: Layout | None, questions: list[str]
) -> Layout | None:
    """Where the channels are; None if its owner must be asked."""
    if len(shape) != 4:
        raise InputError(
            f"{file}: the input {name} has the shape {shape}; expected pictures, [batch, 3, height, width] or "
            f"[batch, height, width, 3]"
        )
    channels = {"nchw": shape[1], "nhwc": shape[3]}
    possible = [layout for layout in ("nchw", "nhwc") if channels[layout] == 3]
    open_ = [layout for layout in ("nchw", "nhwc") if not isinstance(channels[layout], int)]
    if said is not None:
        if said not in possible + open_:
            raise InputError(f"{file}: --layout {said}, but the input {name} has the shape {shape}")
        return said
    if not possible + open_:
        raise InputError(f"{file}: the input {name} has the shape {shape}; expected three channels")
    if len(possible) != 1:
        questions.append(f"the input {name} has the shape {shape}: say --layout nchw or --layout nhwc")
        return None
    return possible[0]  # type: ignore[return-value] # one of the two words above


def _size(
    file: Path,
    name: str,
    shape: list[int | str | None],
    layout: Layout | None,
    said: int | None,
    questions: list[str],
) -> int | None:
    """The side of the square input; None if its owner must be asked."""
    either = shape[2:3]  # a side in both layouts
    sides = either if layout is None else shape[2:4] if layout == "nchw" else shape[1:3]
    fixed = {side for side in sides if isinstance(side, int)}
    if len(fixed) > 1:
        raise InputError(f"{file}: the input {name} is {sides[0]} x {sides[1]} pixels; expected a square: export it so")
    if fixed and said not in (None, *fixed):
        raise InputError(f"{file}: --size {said}, but the input {name} has {fixed.pop()} pixels a side")
    size = fixed.pop() if fixed else said
    if size is None:
        questions.append(f"the input {name} has the shape {shape}: say --size, its side in pixels")
        return None
    if not SMALLEST <= size <= LARGEST:
        raise InputError(f"{file}: the input {name} has {size} pixels a side; expected {SMALLEST} to {LARGEST}")
    return size


def _labels(model: onnx.ModelProto) -> tuple[str, ...] | None:
    """The labels in the metadata: a JSON list of names, which `export` and other tools write under the same key."""
    for entry in model.metadata_props:
        if entry.key == "labels":
            try:
                names = json.loads(entry.value)
            except ValueError:
                return None
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                return tuple(names)
    return None
