"""Exact rewrites of a float ONNX graph into what pnnx converts to ncnn rightly.

- ncnn has no bytes: the graph begins behind the cast of its pictures to float32.
- ncnn has no batches: the graph takes one picture, so that every shape is known. What is computed of shapes, and what
  depends on no picture, such as an ML-Decoder's queries, is computed once here.
- pnnx leaves out the axes of a reduction where they are an input, as they are from opset 18 on
  (`findings/pnnx-axes-of-a-reduction.sh`): it becomes a global pooling of a map whose rows are what is reduced.
- pnnx makes a table of the product of a vector with a matrix that has neither a bias nor transB
  (`findings/pnnx-gemm-without-bias.sh`): as a 1x1 convolution of one position every such product is right.
- ncnn's power of a negative number is 2.4e38 (`findings/ncnn-powers-of-negative-numbers.sh`): the third and
  the fourth, which GELU and norms have, are made of squares.
- ncnn has an InstanceNorm of maps only, and exporters write a GroupNorm as one of rows: rows become maps one wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.litert_graph import fold_constants

if TYPE_CHECKING:
    import onnx

_MOVES = ("Transpose", "Reshape", "Identity")
"""What may be done with bytes before they are cast: ncnn does it with the floats that they become."""
_REDUCTIONS = {
    "ReduceMean": "GlobalAveragePool",
    "ReduceSum": "GlobalAveragePool",
    "ReduceL2": "GlobalAveragePool",
    "ReduceMax": "GlobalMaxPool",
}
"""Reductions, and the poolings that they become: a sum is a mean times a count, a length the root of a sum."""


def for_ncnn(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float ONNX model that computes the same of one float32 picture, in the operators described above.

    Names of nodes are kept where a node is kept or replaced by one that multiplies the same weights.

    Args:
        model: a graph with one input of pictures, uint8 `[batch, size, size, 3]`.

    Raises:
        InputError: its pictures are read by something else than a cast to float32.
    """
    result = type(model)()
    result.CopyFrom(model)
    graph = result.graph
    _take_floats(graph)
    _take_one_picture(graph)
    fold_constants(result)
    while _know_shapes(result):  # what is computed of them may be the sizes of other tensors
        fold_constants(result)
    shapes = _shapes(result)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type in _REDUCTIONS:
            nodes += _as_pooling(graph, node, shapes)
        elif node.op_type == "Pow":
            nodes += _of_squares(graph, node)
        elif node.op_type == "InstanceNormalization":
            nodes += _of_maps(graph, node, shapes)
        elif node.op_type in ("Gemm", "MatMul"):
            nodes += _as_convolution(graph, node, shapes)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return result


def _take_floats(graph: onnx.GraphProto) -> None:
    """Let the graph take what its casts of pictures to float32 give.

    Raises:
        InputError: see `for_ncnn`.
    """
    from onnx import TensorProto

    pictures = graph.input[0]
    pending = [pictures.name]
    casts = []
    while pending:
        tensor = pending.pop()
        readers = [node for node in graph.node if tensor in node.input]
        casts += [node for node in readers if node.op_type == "Cast"]
        pending += [node.output[0] for node in readers if node.op_type in _MOVES]
        if wrong := [node.op_type for node in readers if node.op_type not in ("Cast", "Shape", *_MOVES)]:
            raise InputError(f"its pictures are read by {', '.join(wrong)}; expected one Cast to float32")
    if not casts or any(cast.attribute[0].i != TensorProto.FLOAT for cast in casts):
        raise InputError("its pictures are not cast to float32 before anything is computed of them")
    for cast in casts:
        for node in graph.node:
            node.input[:] = [cast.input[0] if name == cast.output[0] else name for name in node.input]
        graph.node.remove(cast)
    pictures.type.tensor_type.elem_type = TensorProto.FLOAT


def _take_one_picture(graph: onnx.GraphProto) -> None:
    """Set the batch to one picture."""
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    del graph.value_info[:]


def _know_shapes(model: onnx.ModelProto) -> bool:
    """Make every Shape of a tensor whose shape can be inferred a constant; whether there was one."""
    from onnx import numpy_helper

    graph, shapes = model.graph, _shapes(model)
    known = [node for node in graph.node if node.op_type == "Shape" and node.input[0] in shapes]
    for node in known:
        given = {attribute.name: attribute.i for attribute in node.attribute}
        value = np.array(shapes[node.input[0]][given.get("start", 0) : given.get("end")], np.int64)
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        graph.node.remove(node)
    return bool(known)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors whose every dimension onnx can infer."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            found[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return found


def _as_pooling(graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> list[Any]:
    """A reduction as a pooling; the node itself where pnnx takes it as one, or where it is over the batch."""
    from onnx import helper

    shape, axes = shapes.get(node.input[0]), _axes(graph, node)
    if shape is None or axes is None:
        return [node]
    reduced = sorted(axis % len(shape) for axis in axes) or list(range(len(shape)))
    if 0 in reduced or len(shape) == 1 or (node.op_type == "ReduceMean" and len(shape) == 4 and reduced == [2, 3]):
        return [node]
    kept = [axis for axis in range(1, len(shape)) if axis not in reduced]
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    ones = [1 if axis in reduced else size for axis, size in enumerate(shape)]
    out = ones if attributes.get("keepdims", 1) else [1, *(shape[axis] for axis in kept)]
    count = int(np.prod([shape[axis] for axis in reduced]))
    channels = int(np.prod([shape[axis] for axis in kept]))
    name = node.name or node.output[0]
    nodes: list[Any] = []

    def then(operator: str, *constants: str, **attributes: Any) -> None:
        reads = nodes[-1].output[0] if nodes else node.input[0]
        gives = f"{name}/{len(nodes)}"
        nodes.append(helper.make_node(operator, [reads, *constants], [gives], gives, **attributes))

    if node.op_type == "ReduceL2":
        nodes.append(helper.make_node("Mul", [node.input[0]] * 2, [f"{name}/squares"], f"{name}/squares"))
    if [*kept, *reduced] != list(range(1, len(shape))):
        then("Transpose", perm=[0, *kept, *reduced])
    then("Reshape", _constant(graph, f"{name}/map", np.array([1, channels, count, 1], np.int64)))
    then(_REDUCTIONS[node.op_type])
    if node.op_type in ("ReduceSum", "ReduceL2"):
        then("Mul", _constant(graph, f"{name}/count", np.array(count, np.float32)))
    if node.op_type == "ReduceL2":
        then("Sqrt")
    return [*nodes, _reshape(graph, nodes[-1].output[0], node.output[0], out)]


def _of_squares(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[Any]:
    """A third or fourth power made of squares, which pnnx makes another operation of; the node itself otherwise."""
    from onnx import helper, numpy_helper

    exponents = [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == node.input[1]]
    if not exponents or exponents[0].size != 1 or float(exponents[0].item()) not in (3, 4):
        return [node]
    name, (base, _), (out,) = node.name or node.output[0], node.input, node.output
    two, square = _constant(graph, f"{name}/two", np.array(2, np.float32)), f"{name}/square"
    nodes = [helper.make_node("Pow", [base, two], [square], square)]
    if float(exponents[0].item()) == 3:
        return [*nodes, helper.make_node("Mul", [square, base], [out], name)]
    return [*nodes, helper.make_node("Pow", [square, two], [out], name)]


def _of_maps(graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> list[Any]:
    """An InstanceNormalization of rows `[1, C, L]` as one of maps `[1, C, L, 1]`."""
    shape = shapes.get(node.input[0])
    if shape is None or len(shape) != 3:
        return [node]
    name = node.name or node.output[0]
    before = _reshape(graph, node.input[0], f"{name}/maps", (*shape, 1))
    after = _reshape(graph, f"{name}/normal", node.output[0], shape)
    node.input[0], node.output[0] = f"{name}/maps", f"{name}/normal"
    return [before, node, after]


def _axes(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[int] | None:
    """The axes of a reduction, none of them where it is over all; None where they are not known, or it does nothing."""
    from onnx import helper, numpy_helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axes = [int(axis) for axis in given.get("axes", ())]
    if len(node.input) > 1 and node.input[1]:
        constants = [tensor for tensor in graph.initializer if tensor.name == node.input[1]]
        if not constants:
            return None
        axes = [int(axis) for axis in numpy_helper.to_array(constants[0])]
    return None if not axes and given.get("noop_with_empty_axes") else axes


def _as_convolution(graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> list[Any]:
    """The product of a vector with a constant matrix as a 1x1 convolution; the node itself where it is none."""
    from onnx import helper, numpy_helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    vector = shapes.get(node.input[0])
    if not plain or vector is None or len(vector) != 2 or vector[0] != 1 or node.input[0] in constants:
        return [node]
    if any(name not in constants for name in node.input[1:]):
        return [node]
    weights, *biases = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
    weights = weights if given.get("transB", 0) else weights.T
    if weights.ndim != 2 or any(bias.size != len(weights) for bias in biases):
        return [node]
    name = node.name or node.output[0]
    wide = _constant(graph, f"{name}/weights", np.ascontiguousarray(weights)[:, :, None, None])
    reads = [f"{name}/position", wide, *(_constant(graph, f"{name}/bias", bias.reshape(-1)) for bias in biases)]
    return [
        _reshape(graph, node.input[0], reads[0], (1, vector[1], 1, 1)),
        helper.make_node("Conv", reads, [f"{name}/product"], name, kernel_shape=[1, 1]),
        _reshape(graph, f"{name}/product", node.output[0], (1, len(weights))),
    ]


def _reshape(graph: onnx.GraphProto, tensor: str, out: str, shape: Sequence[int]) -> onnx.NodeProto:
    from onnx import helper

    constant = _constant(graph, f"{out}/shape", np.array(shape, np.int64))
    return helper.make_node("Reshape", [tensor, constant], [out], f"{out}/reshape")


def _constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(value, name))
    return name
