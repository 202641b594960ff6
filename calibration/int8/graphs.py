"""What the touches on float ONNX graphs share: readers of a tensor, constants, and inner values on pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.onnx_session import cpu_session

if TYPE_CHECKING:
    import onnx

CHUNK = 16
"""Number of pictures whose activations are held at once."""


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model that may be changed freely."""
    result = type(model)()
    result.CopyFrom(model)
    return result


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name; those that the node leaves to the standard's default are missing."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto | None]]:
    """The nodes that read each tensor, once per input; None is the caller, who reads the graph's outputs."""
    found: dict[str, list[onnx.NodeProto | None]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            found[name].append(node)
    for output in graph.output:
        found[output.name].append(None)
    return found


def own_constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The float32 initialisers that exactly one input reads, which may be changed for that reader alone."""
    from onnx import TensorProto

    found = readers(graph)
    return {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(found[tensor.name]) == 1
    }


def set_constant(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    """Store values in an initialiser, as float32 under its old name."""
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def activations(
    model: onnx.ModelProto, names: Sequence[str], images: np.ndarray, *, pooled: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """Values of inner tensors, `CHUNK` pictures at a time; only what they depend on is computed.

    Args:
        model: a graph with one input of pictures and a free batch size.
        names: float32 tensors of the graph.
        images: pictures `[N, ...]` as the graph takes them.
        pooled: whether to return means over all positions, `[B, C, 1, ...]`, of tensors `[B, C, ...]`.

    Raises:
        InputError: there are no pictures.
    """
    from onnx import helper

    outputs = list(names)
    if pooled:
        model = copy_of(model)
        outputs = [f"{name}/mean" for name in names]
        model.graph.node.extend(
            helper.make_node("GlobalAveragePool", [name], [output]) for name, output in zip(names, outputs, strict=True)
        )
    for values in run_in_chunks(part_of(model, outputs), {model.graph.input[0].name: images}):
        yield dict(zip(names, values, strict=True))


def part_of(model: onnx.ModelProto, names: Sequence[str], given: Collection[str] = ()) -> onnx.ModelProto:
    """The part of a graph that computes some of its tensors, which become its outputs in this order.

    It starts at the graph's inputs and at `given`: float32 tensors, of which those that it reads become inputs.
    """
    from onnx import TensorProto, helper

    wanted, given = set(names), set(given) - set(names)
    nodes = []
    for node in reversed(model.graph.node):
        if (wanted - given).intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    graph = helper.make_graph(
        nodes[::-1],
        model.graph.name,
        [value for value in model.graph.input if value.name in wanted]
        + [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(wanted & given)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [tensor for tensor in model.graph.initializer if tensor.name in wanted],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def run_in_chunks(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Iterator[list[np.ndarray]]:
    """A model's outputs on `CHUNK` pictures at a time.

    Args:
        model: a graph with a free batch size.
        feeds: a value for each of its inputs, `[N, ...]`.

    Raises:
        InputError: there are no pictures.
    """
    session = cpu_session(model.SerializeToString(), "basic")
    pictures = min(len(value) for value in feeds.values())
    if not pictures:
        raise InputError("received no pictures; expected at least 1 to measure activations on")
    for start in range(0, pictures, CHUNK):
        yield session.run(None, {name: value[start : start + CHUNK] for name, value in feeds.items()})
