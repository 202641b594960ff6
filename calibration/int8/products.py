"""The multiplications in a float ONNX graph, which INT8 is meant to speed up."""

from __future__ import annotations

from typing import Any

import numpy as np

PRODUCTS = ("Conv", "MatMul", "Gemm")
"""Operators that contain a network's multiplications."""


def label_products(graph: Any) -> list[str]:
    """The products of each label with its own vector, in the last step of an ML-Decoder: they stay in float.

    They are a few thousand multiplications right before the logits; INT8 would save no time and cost precision, and
    OpenVINO's CPU plugin refuses to compile them.
    """
    batched = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 3}
    return [node.name for node in graph.node if node.op_type == "MatMul" and batched & set(node.input)]


def float_anyway(graph: Any) -> list[str]:
    """What is in float in every INT8 graph: `label_products`, and everything but products after the last convolution.

    INT8 sums, norms and softmax there save no time and cost precision.
    """
    last = max((place for place, node in enumerate(graph.node) if node.op_type == "Conv"), default=-1)
    cheap = [node.name for node in graph.node[last + 1 :] if node.op_type not in ("MatMul", "Gemm", "Clip")]
    return [*label_products(graph), *cheap]


def multiplications(graph: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Multiply-accumulates of every product in a graph.

    Args:
        shapes: shapes of every tensor that a product reads or writes, for the number of pictures in question.
    """
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer} | shapes
    result = {}
    for node in graph.node:
        if node.op_type in PRODUCTS:
            out, weight = known[node.output[0]], known[node.input[1]]
            if node.op_type == "Conv":
                each = int(np.prod(weight[1:]))
            else:
                transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
                each = weight[-1] if transposed else weight[-2]
            result[node.name] = int(np.prod(out)) * each
    return result


def weight_elements(graph: Any) -> dict[str, int]:
    """Number of constant elements in every product of a graph."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    return {n.name: sum(sizes.get(name, 0) for name in n.input[1:]) for n in graph.node if n.op_type in PRODUCTS}


def softmax_positions(graph: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """The number of positions over which each softmax distributes its 1, by the name of its output.

    Args:
        shapes: shapes of every quantised tensor, for one picture; a softmax whose output is not among them is
            left out.
    """
    result = {}
    for node in graph.node:
        if node.op_type == "Softmax" and node.output[0] in shapes:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
            result[node.output[0]] = shapes[node.output[0]][axis]
    return result
