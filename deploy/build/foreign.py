"""A finished ONNX tagger of somebody's own: what its graph states, and what only its owner knows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from edgepress.multilabel.config import Config
from edgepress.multilabel.conventions import Activation, Colors, Layout
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.preprocess import LARGEST, SMALLEST

if TYPE_CHECKING:
    import onnx

MOST_BYTES = 1 << 31
"""Protocol buffers hold no more."""
_FLOAT, _BYTES = "float32", "uint8"
_QUANTISED = frozenset((
    "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
    "DynamicQuantizeMatMul",
))  # fmt: skip
"""Operators of graphs that compute in INT8."""
_PROBABILITIES = {"Sigmoid": "sigmoid", "Softmax": "softmax"}


_Triple = tuple[float, float, float]


class AdoptConfig(Config):
    """What a graph does not say, or says wrongly."""

    mean: _Triple | None = None
    """What is subtracted from the channels of pixels that are scaled to 0..1, as three numbers: 0.485,0.456,0.406 for
    models of torchvision and most of timm, 0.5,0.5,0.5 for -1..1, 0,0,0 for 0..1."""
    std: _Triple | None = None
    """What they are divided by then: 0.229,0.224,0.225, or 0.5,0.5,0.5, or 1,1,1; 0.00392157 three times for 0..255."""
    size: int | None = Field(default=None, ge=SMALLEST, le=LARGEST)
    """Side of the square input in pixels, where the graph leaves it open."""
    resize: Literal["squash", "crop"] = "squash"
    """How a picture becomes square: stretched, or its middle cut out."""
    crop_fraction: float = Field(default=0.875, gt=0, le=1)
    """Side of the middle as a share of the picture's shorter side: 224 of 256 pixels are 0.875."""
    colors: Colors = "rgb"
    """The order of the channels that the model learnt with."""
    layout: Layout | None = None
    """Where the channels are, where the shape leaves it open."""
    output: str | None = None
    """The output to take, where several could be the labels."""
    activation: Activation | None = None
    """What the output has been through, where the graph's last node does not say it."""
    keep_labels: bool = False
    """Keep all of the model's own labels, for a teacher whose labels are matched with the data set's when it teaches
    (--teacher-labels), and not the data set's alone."""

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _are_three(cls, given: Any) -> Any:
        if isinstance(given, list | tuple) and len(given) != 3:
            raise ValueError("expected three numbers, for red, green and blue")
        return given

    @field_validator("mean", "std")
    @classmethod
    def _fit_pixels(cls, given: _Triple | None, info: ValidationInfo) -> _Triple | None:
        """Refuse what divides by zero, and values of pixels in 0..255, with which every picture would look the same."""
        least, most = (-1.0, 1.0) if info.field_name == "mean" else (0.0, 2.0)
        if given is None or all(least <= one <= most and (one or info.field_name == "mean") for one in given):
            return given
        if all(math.isfinite(one) and one > 0 for one in given):
            raise ValueError(
                "expected values of pixels in 0..1; those of pixels in 0..255 are divided by 255: "
                + ",".join(f"{one / 255:.4g}" for one in given)
            )
        raise ValueError(f"expected three numbers from {least:g} to {most:g}, those of std above 0")


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
            exactly one input, it is quantised, or the caller must state something about its input or output.
    """
    model, external = _load(file)
    if quantised := next((node.op_type for node in model.graph.node if node.op_type in _QUANTISED), None):
        raise InputError(
            f"{file}: is quantised already ({quantised}); adopt the float model that it was made from, and let "
            "`edgepress quantize` make INT8 of it"
        )
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
        source=str(file),
        model=model,
        input=value.name,
        dtype=_dtype(file, value),
        layout=layout,
        colors=config.colors,
        size=size,
        batch=shape[0] if isinstance(shape[0], int) else None,
        output=output,
        activation=_activation(file, model, output, config.activation),
        external=external,
        labels=_labels(model),
    )


def _load(file: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with all of its tensors, and the names of the files beside it that some of them come from."""
    import onnx
    from google.protobuf.message import DecodeError

    if not file.is_file():
        raise InputError(f"{file}: no such file; expected an ONNX model")
    try:
        model = onnx.load(str(file), load_external_data=False)
    except DecodeError as error:
        raise InputError(f"{file}: not an ONNX model ({error})") from None
    places = set()
    for tensor in _tensors(model.graph):
        place = {entry.key: entry.value for entry in tensor.external_data}.get("location")
        if place is None or place in places:
            continue
        path = PurePosixPath(place)
        beside = file.parent / place
        if path.is_absolute() or ".." in path.parts or not beside.resolve().is_relative_to(file.parent.resolve()):
            raise InputError(f"{file}: its external data {place!r} lies outside its folder; copy it beside the file")
        if not beside.is_file():
            raise InputError(f"{file}: its external data {place!r} is missing; copy it beside the file")
        places.add(place)
    if sum((file.parent / place).stat().st_size for place in places) >= MOST_BYTES:
        raise InputError(f"{file}: its tensors take more than 2 GB, which no ONNX file holds; take a smaller model")
    if not model.graph.node:
        raise InputError(f"{file}: not an ONNX model (it has no operator)")
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{file}: not a sound ONNX model: {' '.join(str(error).split())[:200]}") from None
    return model, tuple(sorted(places))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph: its initializers, and those in attributes of its nodes and of their inner graphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)


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
    if not SMALLEST <= size <= LARGEST:
        raise InputError(f"{file}: the input {name} has {size} pixels a side; expected {SMALLEST} to {LARGEST}")
    return size


def _output(file: Path, model: onnx.ModelProto, said: str | None) -> str:
    tensors = {value.name: value for value in model.graph.output if value.type.HasField("tensor_type")}
    others = [value.name for value in model.graph.output if value.name not in tensors]
    if said in others or not tensors:
        raise InputError(
            f"{file}: the output {said or ', '.join(others) or 'none'} is no tensor; expected a column of scores for "
            f"each label: say --output, or export without what makes lists or dictionaries of them (ZipMap)"
        )
    if said is not None:
        if said not in tensors:
            raise InputError(f"{file}: no output {said!r}; it has {', '.join(tensors)}")
        return said
    if len(tensors) == 1:
        return next(iter(tensors))
    tables = [name for name, value in tensors.items() if len(_shape(value)) == 2]
    if len(tables) == 1:
        return tables[0]
    listed = ", ".join(f"{name} {_shape(value)}" for name, value in tensors.items())
    raise InputError(f"{file}: several outputs ({listed}): say --output, the one with a column for each label")


def _activation(file: Path, model: onnx.ModelProto, output: str, said: Activation | None) -> Activation | None:
    """What comes last: as it was said, or else as the last node shows; None where neither says it."""
    last = next((node.op_type for node in model.graph.node if output in node.output), "")
    shown: Activation | None = _PROBABILITIES.get(last)  # type: ignore[assignment] # None, or one of the words
    if said == "none" and shown is not None:
        raise InputError(
            f"{file}: --activation none is for logits, and its last node is a {last}, which gives probabilities: leave "
            f"out --activation"
        )
    return said or shown


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
