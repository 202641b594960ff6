"""The ONNX file of a finished tagger of somebody's own: read with all of its tensors, and run as its owner runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.onnx_session import session_options

if TYPE_CHECKING:
    import onnx

_MOVES = frozenset(("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze"))
"""Operators that compute nothing."""
MOST_BYTES = 1 << 31
"""Protocol buffers hold no more."""


def load(file: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with all of its tensors, and the names of the files beside it that some of them come from.

    Raises:
        InputError: it is no sound ONNX model, is too large, or its external data is missing or outside its folder.
    """
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
    for value in (*model.graph.input, *model.graph.output):
        for side in value.type.tensor_type.shape.dim:
            if (
                side.HasField("dim_value") and side.dim_value <= 0
            ):  # as Paddle and old Keras converters write a free one
                side.ClearField("dim_value")
    _sort(model.graph)
    return model, tuple(sorted(places))


def _sort(graph: onnx.GraphProto) -> None:
    """Put nodes behind those whose values they take, as ONNX demands.

    ONNX Runtime's own converter to float16 appends its casts of the inputs at the end (onnxruntime 1.32.0), and ONNX
    Runtime opens such a file, but not a graph that another one follows.
    """
    known = {"", *(value.name for value in (*graph.input, *graph.initializer))}
    known |= {constant.values.name for constant in graph.sparse_initializer}
    ordered: list[onnx.NodeProto] = []
    left, passes = list(graph.node), 0
    while left:
        waiting = []
        for node in left:
            if known.issuperset(node.input):
                known.update(node.output)
                ordered.append(node)
            else:
                waiting.append(node)
        if len(waiting) == len(left):
            return  # a circle, or a value from nowhere, of which the check of the model will tell
        left, passes = waiting, passes + 1
    if passes > 1:
        copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
        del graph.node[:]
        graph.node.extend(copies)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph: its initializers, and those in attributes of its nodes and of their inner graphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
        for inner in inner_graphs(node):
            yield from _tensors(inner)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes: the branches of an If, the body of a Loop. They may read outer tensors."""
    for attribute in node.attribute:
        yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for inner in inner_graphs(node):
            yield from every_node(inner)


def widened(model: onnx.ModelProto) -> bool:
    """Let a graph that computes in float16 compute in float32, with the same weights; returns whether it did.

    Quantisers and runtimes take float32 graphs, and a CPU computes in float32 anyway. Weights that are stored in
    float16 and cast before they are used become float32 as well, which changes no answer.
    """
    from onnx import TensorProto, numpy_helper

    computes = _computes_in_half(model.graph)
    half = [tensor for tensor in _tensors(model.graph) if tensor.data_type == TensorProto.FLOAT16]
    for tensor in half:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in every_node(model.graph):
        for attribute in _to_half(node):
            attribute.i = TensorProto.FLOAT
    for graph in _graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if _is_half(value):
                value.type.tensor_type.elem_type = TensorProto.FLOAT
    return computes


def _computes_in_half(graph: onnx.GraphProto) -> bool:
    """Whether something else than a stored tensor is in float16: an input, an output, or what an operator gives."""
    from onnx import TensorProto

    stored = {name for name, tensor in constants(graph).items() if tensor.data_type == TensorProto.FLOAT16}
    for node in every_node(graph):
        if node.op_type in _MOVES and stored.intersection(node.input):
            stored.update(node.output)
        elif node.op_type != "Constant" and (
            _to_half(node)
            or any(one.t.data_type == TensorProto.FLOAT16 for one in node.attribute)
            or (node.op_type != "Cast" and stored.intersection(node.input))
        ):
            return True
    declared = [value for one in _graphs(graph) for value in (*one.input, *one.output, *one.value_info)]
    return any(_is_half(value) and value.name not in stored for value in declared)


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The stored tensors of a graph and of the graphs inside it, by name: initializers, and those of Constant nodes."""
    named = {tensor.name: tensor for one in _graphs(graph) for tensor in one.initializer}
    for node in every_node(graph):
        if node.op_type == "Constant":
            named.update((node.output[0], one.t) for one in node.attribute if one.HasField("t"))
    return named


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    return [graph, *(inner for node in every_node(graph) for inner in inner_graphs(node))]


def _to_half(node: onnx.NodeProto) -> list[onnx.AttributeProto]:
    """The attributes by which an operator gives float16 whatever it takes."""
    from onnx import TensorProto

    return [one for one in node.attribute if one.name in ("to", "dtype") and one.i == TensorProto.FLOAT16]


def _is_half(value: onnx.ValueInfoProto) -> bool:
    from onnx import TensorProto

    return value.type.tensor_type.elem_type == TensorProto.FLOAT16


def session_of(model: onnx.ModelProto, source: str, *, optimised: bool = True):
    """An ONNX Runtime session of a graph; the error of a refused graph names the file it came from."""
    import onnxruntime as ort

    options = session_options()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        # As its owner runs it: nothing else is switched off.
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own types, without a common base
        # Its own place in its sources comes first, where it has one.
        said = re.sub(
            r"^\[ONNXRuntimeError\] : \d+ : \w+ : (/\S+:\d+ .*?\) (?=[A-Z]))?", "", " ".join(str(error).split())
        )
        raise InputError(
            f"{source}: ONNX Runtime refuses it ({said[:300]}): export it with opset_version=20 and standard operators"
        ) from error


def run_on(session: Any, source: str, pictures: str, output: str, fed: np.ndarray) -> np.ndarray:
    """What an ONNX Runtime session answers for pictures as its graph takes them.

    Args:
        source: what the error calls the graph.
        pictures, output: the names of its input and of the chosen output.

    Raises:
        InputError: ONNX Runtime stops, as it does for pictures of a size that the graph cannot take.
    """
    try:
        return session.run([output], {pictures: fed})[0]
    except Exception as error:  # its own types, without a common base
        said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
        raise InputError(
            f"{source}: ONNX Runtime cannot run it on pictures {list(fed.shape)} ({said[:200].rstrip('. ')}): say "
            f"--size, the side that it learnt with, or export it with a free batch"
        ) from error
