"""A finished ONNX tagger of somebody's own: what its graph states, and what only its owner knows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from edgepress.multilabel.config import Config
from edgepress.multilabel.errors import InputError

if TYPE_CHECKING:
    import onnx

Layout = Literal["nchw", "nhwc"]
Activation = Literal["none", "sigmoid", "softmax"]
_FLOAT, _BYTES = "float32", "uint8"
_PROBABILITIES = {"Sigmoid": "sigmoid", "Softmax": "softmax"}


class AdoptConfig(Config):
    """What a graph does not say, or says wrongly."""

    mean: tuple[float, float, float] | None = None
    """What is subtracted from the channels of pixels that are scaled to 0..1, as three numbers: 0.485,0.456,0.406 for
    models of torchvision and most of timm, 0.5,0.5,0.5 for -1..1, 0,0,0 for 0..1."""
    std: tuple[float, float, float] | None = None
    """What they are divided by then: 0.229,0.224,0.225, or 0.5,0.5,0.5, or 1,1,1; 0.00392157 three times for 0..255."""
    size: int | None = None
    """Side of the square input in pixels, where the graph leaves it open."""
    resize: Literal["squash", "crop"] = "squash"
    """Whether a picture is stretched to the square, or its middle is cut out."""
    colors: Literal["rgb", "bgr"] = "rgb"
    """The order of the channels that the model learnt with."""
    layout: Layout | None = None
    """Where the channels are, where the shape leaves it open."""
    output: str | None = None
    """The output to take, where several could be the labels."""
    activation: Activation | None = None
    """What the output has been through, where the graph's last node does not say it."""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A graph and how to call it."""

    file: Path
    model: onnx.ModelProto
    input: str
    dtype: str
    """float32 or uint8."""
    layout: Layout
    size: int
    batch: int | None
    """None where the graph leaves it free."""
    output: str
    activation: Activation | None
    """What the graph's last node says; None where it is neither Sigmoid nor Softmax."""
    labels: tuple[str, ...] | None
    """The names of the outputs, where the file's metadata has them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one picture as the graph takes it."""
        return (3, self.size, self.size) if self.layout == "nchw" else (self.size, self.size, 3)


def read_foreign(file: Path, config: AdoptConfig) -> Foreign:
    """Read an ONNX file and find out how to call it.

    Args:
        file: an .onnx file; files with its external data are read from its own folder.

    Raises:
        InputError: the file is not an ONNX model, its external data is missing or outside its folder, it does not have
            exactly one input, or the caller must state something about its input or output.
    """
    model = _load(file)
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in given]
    if len(inputs) != 1:
        names = ", ".join(f"{value.name} {_shape(value)}" for value in inputs) or "none"
        raise InputError(
            f"{file}: {len(inputs)} inputs ({names}); expected one, the pictures: export the model with the others as "
            f"constants, or cut the graph with onnx.utils.extract_model"
        )
    value = inputs[0]
    shape = _shape(value)
    layout = _layout(file, value.name, shape, config.layout)
    size = _size(file, value.name, shape, layout, config.size)
    output = _output(file, model, config.output)
    return Foreign(
        file=file,
        model=model,
        input=value.name,
        dtype=_dtype(file, value),
        layout=layout,
        size=size,
        batch=shape[0] if isinstance(shape[0], int) else None,
        output=output,
        activation=config.activation or _activation(model, output),
        labels=_labels(model),
    )


def _load(file: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    if not file.is_file():
        raise InputError(f"{file}: no such file; expected an ONNX model")
    try:
        model = onnx.load(str(file), load_external_data=False)
    except DecodeError as error:
        raise InputError(f"{file}: not an ONNX model ({error})") from None
    for tensor in model.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}.get("location")
        if place is None:
            continue
        path = PurePosixPath(place)
        beside = file.parent / place
        if path.is_absolute() or ".." in path.parts or not beside.resolve().is_relative_to(file.parent.resolve()):
            raise InputError(f"{file}: its external data {place!r} lies outside its folder; copy it beside the file")
        if not beside.is_file():
            raise InputError(f"{file}: its external data {place!r} is missing; copy it beside the file")
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{file}: not a sound ONNX model: {' '.join(str(error).split())[:200]}") from None
    return model


def _shape(value: onnx.ValueInfoProto) -> list[int | str | None]:
    kind = value.type.tensor_type
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim]


def _dtype(file: Path, value: onnx.ValueInfoProto) -> str:
    import onnx

    found = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    names = {"float": _FLOAT, "uint8": _BYTES}
    if found not in names:
        raise InputError(f"{file}: the input {value.name} is {found}; expected float32 or uint8: export it in float32")
    return names[found]


def _layout(file: Path, name: str, shape: list[int | str | None], said: Layout | None) -> Layout:
    if len(shape) != 4:
        raise InputError(f"{file}: the input {name} has the shape {shape}; expected pictures of four dimensions")
    channels = {"nchw": shape[1], "nhwc": shape[3]}
    possible = [layout for layout in ("nchw", "nhwc") if channels[layout] == 3]
    open_ = [layout for layout in ("nchw", "nhwc") if not isinstance(channels[layout], int)]
    if said is not None:
        if said not in possible + open_:
            raise InputError(f"{file}: --layout {said}, but the input {name} has the shape {shape}")
        return said
    if len(possible) != 1:
        raise InputError(f"{file}: the input {name} has the shape {shape}: say --layout nchw or --layout nhwc")
    return possible[0]  # type: ignore[return-value] # one of the two words above


def _size(file: Path, name: str, shape: list[int | str | None], layout: Layout, said: int | None) -> int:
    sides = shape[2:4] if layout == "nchw" else shape[1:3]
    fixed = {side for side in sides if isinstance(side, int)}
    if len(fixed) > 1:
        raise InputError(f"{file}: the input {name} is {sides[0]} x {sides[1]} pixels; expected a square: export it so")
    if fixed and said not in (None, *fixed):
        raise InputError(f"{file}: --size {said}, but the input {name} has {fixed.pop()} pixels a side")
    size = fixed.pop() if fixed else said
    if size is None:
        raise InputError(f"{file}: the input {name} has the shape {shape}: say --size, its side in pixels")
    return size


def _output(file: Path, model: onnx.ModelProto, said: str | None) -> str:
    names = [value.name for value in model.graph.output]
    if said is not None:
        if said not in names:
            raise InputError(f"{file}: no output {said!r}; it has {', '.join(names)}")
        return said
    if len(names) == 1:
        return names[0]
    tables = [value.name for value in model.graph.output if len(_shape(value)) == 2]
    if len(tables) == 1:
        return tables[0]
    listed = ", ".join(f"{value.name} {_shape(value)}" for value in model.graph.output)
    raise InputError(f"{file}: several outputs ({listed}): say --output, the one with a column for each label")


def _activation(model: onnx.ModelProto, output: str) -> Activation | None:
    last = next((node.op_type for node in model.graph.node if output in node.output), "")
    return _PROBABILITIES.get(last)  # type: ignore[return-value] # None, or one of the words


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
