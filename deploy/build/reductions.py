"""Reductions of an adopted graph in operators whose axes every runtime reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepress.deploy.build.own_file import inner_graphs

if TYPE_CHECKING:
    import onnx

_IGNORED = ("ReduceL1", "ReduceLogSum", "ReduceLogSumExp")
"""OpenVINO reduces every axis, the batch's too, where these have their axes as an attribute, as in the opsets 13 to 17
(openvino 2026.4.1: findings/openvino-axes-of-a-reduction.sh)."""


def with_read_axes(graph: onnx.GraphProto) -> int:
    """Compute the reductions whose axes OpenVINO ignores by others whose axes it heeds; returns how many there were.

    Σ|x| is a ReduceSum of an Abs, and log Σ x the Log of a ReduceSum. log Σ eˣ is m + log Σ eˣ⁻ᵐ with the largest value
    m, so no exponent overflows. The graph is of an opset from 13 to 17: ReduceSum's axes are an input there already.
    """
    changed, nodes = 0, []
    for node in graph.node:
        changed += sum(with_read_axes(inner) for inner in inner_graphs(node))
        about = {one.name: one for one in node.attribute}
        if node.op_type in _IGNORED and "axes" in about:
            nodes += _plain(graph, node, list(about["axes"].ints), about["keepdims"].i if "keepdims" in about else 1)
            changed += 1
        else:
            nodes.append(type(node).FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _plain(graph: onnx.GraphProto, node: onnx.NodeProto, axes: list[int], keepdims: int) -> list[onnx.NodeProto]:
    from onnx import helper, numpy_helper

    stem = f"{node.output[0]}_reduced"
    graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), f"{stem}_axes"))
    made: list[onnx.NodeProto] = []

    def then(operator: str, *inputs: str, **attributes: object) -> str:
        made.append(helper.make_node(operator, inputs, [f"{stem}_{len(made)}"], f"{stem}_{len(made)}", **attributes))
        return made[-1].output[0]

    x, by = node.input[0], f"{stem}_axes"
    if node.op_type == "ReduceL1":
        then("ReduceSum", then("Abs", x), by, keepdims=keepdims)
    elif node.op_type == "ReduceLogSum":
        then("Log", then("ReduceSum", x, by, keepdims=keepdims))
    else:
        most = then("ReduceMax", x, axes=axes, keepdims=1)
        rest = then("Log", then("ReduceSum", then("Exp", then("Sub", x, most)), by, keepdims=1))
        last = then("Add", rest, most)
        if not keepdims:
            then("Squeeze", last, by)
    made[-1].output[0] = node.output[0]
    return made
