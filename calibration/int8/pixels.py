"""A first convolution that reads the picture's bytes directly, without arithmetic before it."""

from __future__ import annotations

from typing import Any

import numpy as np

CENTRED = "pixels_centred"
"""The tensor that the first convolution reads: bytes minus the zero point."""
_ZERO = "pixels_zero"


def fold_normalisation(model: Any) -> int | None:
    """Move mean and deviation into the first convolution, in place: it then reads pixels minus a whole number.

    A picture's bytes are already 8-bit: with that number as zero point, the graph's input needs no arithmetic and
    loses nothing. With weights w·s, scale s and mean m of a channel, Σ w·s·(x − z) + [b + Σ w·s·(z − m)] is the same
    convolution. Only the padding differs: it is z instead of m (for equal means by half a level of 255).

    Returns:
        z, between 0 and 255, even if it was folded before; None, without any change, if the graph does not begin
        with Cast → Sub → Mul → Transpose → Conv as the exporter writes it.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if any(node.name == CENTRED for node in graph.node):
        return int(numpy_helper.to_array(constants[_ZERO]))  # folded already
    chain: list[Any] = []
    tensor = graph.input[0].name
    for operator in ("Cast", "Sub", "Mul", "Transpose", "Conv"):
        node = _only_reader(graph, tensor)
        if node is None or node.op_type != operator:
            return None
        chain.append(node)
        tensor = node.output[0]
    cast, subtract, multiply, transpose, convolution = chain
    if any(name not in constants for name in (subtract.input[1], multiply.input[1], *convolution.input[1:])):
        return None
    mean, scale, weight = (
        numpy_helper.to_array(constants[name]).astype(np.float64)
        for name in (subtract.input[1], multiply.input[1], convolution.input[1])
    )
    if weight.shape[1] != 3 or mean.size not in (1, 3) or scale.size not in (1, 3):
        return None
    zero = int(np.clip(np.round(mean.mean()), 0, 255))
    bias = np.zeros(len(weight))
    if len(convolution.input) > 2:
        bias = numpy_helper.to_array(constants[convolution.input[2]]).astype(np.float64)
    weight = weight * np.broadcast_to(scale.ravel(), 3)[:, None, None]
    bias = bias + (weight * (zero - np.broadcast_to(mean.ravel(), 3))[:, None, None]).sum(axis=(1, 2, 3))
    new = {"weight": weight, "bias": bias, "zero": np.array(zero)}
    for name, value in new.items():
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), f"pixels_{name}"))
    del convolution.input[1:]
    convolution.input.extend(["pixels_weight", "pixels_bias"])
    convolution.input[0] = CENTRED
    first = [
        helper.make_node("Transpose", [graph.input[0].name], ["pixels_planes"], "pixels_planes", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["pixels_planes"], ["pixels_float"], "pixels_float", to=1),
        helper.make_node("Sub", ["pixels_float", _ZERO], [CENTRED], CENTRED),
    ]
    gone = {node.name for node in (cast, subtract, multiply, transpose)}
    rest = [node for node in graph.node if node.name not in gone]
    del graph.node[:]
    graph.node.extend([*first, *rest])
    read = {name for node in graph.node for name in node.input}
    unread = [tensor for tensor in graph.initializer if tensor.name not in read]
    for tensor in unread:
        graph.initializer.remove(tensor)
    return zero


def read_pixels(graph: Any) -> None:
    """After quantising, make the first convolution's DequantizeLinear read the pixels instead of a QuantizeLinear."""
    nodes = {node.name: node for node in graph.node}
    subtract = nodes.get(CENTRED)
    if subtract is None:
        return
    quantise = _only_reader(graph, subtract.output[0])
    if quantise is None or quantise.op_type != "QuantizeLinear":
        return  # the first convolution remained in float
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == quantise.output[0]:
            node.input[0] = "pixels_planes"
    for node in (nodes["pixels_float"], subtract, quantise):
        graph.node.remove(node)


def _only_reader(graph: Any, tensor: str) -> Any | None:
    readers = [node for node in graph.node if tensor in node.input]
    return readers[0] if len(readers) == 1 else None
