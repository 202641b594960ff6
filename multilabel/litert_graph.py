"""Exact rewrites of a float ONNX graph into operators that LiteRT has fast INT8 kernels for.

onnx2tf turns each operator into LiteRT's nearest one. Some of these are wrong, right and slow, or wrong once they are
quantised, and each has an equal form that is neither:

- A MatMul of tokens `[B, T, K]` with a constant becomes a BATCH_MATMUL, whose INT8 form answers the same value
  everywhere in ai-edge-quantizer 0.10. As a Gemm of rows `[B·T, K]` it becomes a FULLY_CONNECTED.
- A convolution with explicit padding becomes a PAD and a convolution, between which INT8 rounds once more. The padding
  that TensorFlow calls SAME is part of LiteRT's convolution.
- What depends on no picture, such as an ML-Decoder's queries, is computed once here, because LiteRT computes it in
  every call.
- An Unsqueeze or Squeeze of a tensor with a free batch becomes five operators that compute its shape as it runs, and
  XNNPACK takes no tensor with such a shape. As a Reshape to a constant shape it is one operator.
- The alpha of an Elu is dropped (`findings/onnx2tf-elu-alpha.sh`): the part below 0 becomes an Elu of its own, which
  is multiplied by it.
- A nearest Resize takes other pixels than ONNX's (`findings/onnx2tf-resize.sh`): it becomes one Gather of rows and one
  of columns.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.multilabel.onnx_session import cpu_session

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]
"""A dimension that is None may have any size."""


def for_litert(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float ONNX model that computes the same, in the operators described above.

    Names of nodes are kept where a node is kept or replaced by one that multiplies the same weights.

    Args:
        model: a graph whose only free dimension is the batch.
    """
    result = type(model)()
    result.CopyFrom(model)
    fold_constants(result)
    shapes = _shapes(result)
    graph = result.graph
    for node in graph.node:
        if node.op_type == "Conv":
            _pad_inside(node, shapes)
    _products_of_rows(graph, shapes)
    _other_forms(result, shapes)
    for node in graph.node:
        if node.op_type in ("Unsqueeze", "Squeeze"):
            _constant_reshape(graph, node, shapes)
    _drop_unread(graph)
    return result


def fold_constants(model: onnx.ModelProto) -> None:
    """Replace the nodes that read constants alone by their results, as ONNX Runtime computes them."""
    from onnx import ValueInfoProto, numpy_helper

    graph, constants = model.graph, {tensor.name for tensor in model.graph.initializer}
    folded: list[onnx.NodeProto] = []
    rest: list[onnx.NodeProto] = []
    for node in graph.node:
        fixed = constants.issuperset(filter(None, node.input))
        (folded if fixed else rest).append(node)
        constants.update(node.output if fixed else ())
    given = {output.name for output in graph.output}.union(*(node.input for node in rest))
    wanted = [name for node in folded for name in node.output if name in given]
    if not wanted:
        return
    part = type(model)()
    part.CopyFrom(model)
    for field in (part.graph.node, part.graph.input, part.graph.output):
        del field[:]
    part.graph.node.extend(folded)
    part.graph.output.extend(ValueInfoProto(name=name) for name in wanted)
    _drop_unread(part.graph)
    values = cpu_session(part.SerializeToString()).run(None, {})
    for name, value in zip(wanted, values, strict=True):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    del graph.node[:]
    graph.node.extend(rest)
    _drop_unread(graph)


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shapes of the tensors that onnx can infer."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    found: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            found[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return found


def _pad_inside(node: onnx.NodeProto, shapes: dict[str, Shape]) -> None:
    """Write a convolution's explicit padding as `auto_pad=SAME_UPPER` where that is the same padding."""
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    shape, kernel = shapes.get(node.input[0]), given.get("kernel_shape")
    dilated = any(gap != 1 for gap in given.get("dilations", ()))
    if not any(given.get("pads", ())) or dilated or shape is None or kernel is None:
        return
    before, after = [], []
    for size, width, step in zip(shape[2:], kernel, given.get("strides", [1] * len(kernel)), strict=True):
        if size is None:
            return
        total = max((-(-size // step) - 1) * step + width - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    if list(given["pads"]) != before + after:
        return
    kept = [attribute for attribute in node.attribute if attribute.name not in ("pads", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("auto_pad", "SAME_UPPER")])


def _products_of_rows(graph: onnx.GraphProto, shapes: dict[str, Shape]) -> None:
    """Turn each MatMul with a constant matrix, and the bias that is added to it, into a Gemm of rows."""
    constants = {tensor.name for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input)
    reads.update(output.name for output in graph.output)
    readers = {name: node for node in graph.node for name in node.input}
    nodes: list[onnx.NodeProto] = []
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type == "Add" and taken.intersection(node.input):
            continue
        rows, weight = shapes.get(node.input[0]) if node.op_type == "MatMul" else None, node.input[-1:]
        if rows is None or weight[0] not in constants or len(shapes[weight[0]]) != 2 or None in rows[1:]:
            nodes.append(node)
            continue
        product, bias = node.output[0], []
        add = readers.get(product) if reads[product] == 1 else None
        if add is not None and add.op_type == "Add":
            bias = [name for name in add.input if name in constants and shapes[name] == shapes[weight[0]][1:]]
        if bias:
            taken.add(product)
            product = add.output[0]  # type: ignore[union-attr] # there is an Add where there is a bias
        nodes += _gemm(graph, node, rows, [weight[0], *bias], shapes[weight[0]], product)
    del graph.node[:]
    graph.node.extend(nodes)


def _gemm(
    graph: onnx.GraphProto, node: onnx.NodeProto, rows: Shape, constants: list[str], weight: Shape, out: str
) -> list[onnx.NodeProto]:
    """A MatMul as a Gemm of the rows of its first input, between reshapes to rows and back."""
    from onnx import helper

    if len(rows) == 2:
        return [helper.make_node("Gemm", [node.input[0], *constants], [out], node.name)]
    flat, product = f"{node.name}/rows", f"{node.name}/product"
    return [
        _reshape(graph, node.input[0], flat, (-1, weight[0])),
        helper.make_node("Gemm", [flat, *constants], [product], node.name),
        _reshape(graph, product, out, (-1, *rows[1:-1], weight[1])),
    ]


def _other_forms(model: onnx.ModelProto, shapes: dict[str, Shape]) -> None:
    """Replace the operators that onnx2tf converts wrongly by equal ones."""
    graph, nodes = model.graph, []
    for node in list(graph.node):
        if node.op_type == "Elu":
            nodes += _elu(graph, node)
        elif node.op_type == "Resize":
            nodes += _nearest(model, node, shapes)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _elu(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """max(x, 0) + alpha * Elu(min(x, 0)), whose Elu has an alpha of 1; the node itself where alpha is 1."""
    from onnx import helper, numpy_helper

    alpha = next((attribute.f for attribute in node.attribute if attribute.name == "alpha"), 1.0)
    if alpha == 1.0:
        return [node]
    out, (given,) = node.output[0], node.input
    graph.initializer.append(numpy_helper.from_array(np.array(alpha, np.float32), f"{out}/alpha"))
    steps = [
        ("Relu", [given], f"{out}/above"),
        ("Neg", [given], f"{out}/turned"),
        ("Relu", [f"{out}/turned"], f"{out}/below"),
        ("Neg", [f"{out}/below"], f"{out}/negative"),
        ("Elu", [f"{out}/negative"], f"{out}/curve"),
        ("Mul", [f"{out}/curve", f"{out}/alpha"], f"{out}/scaled"),
        ("Add", [f"{out}/above", f"{out}/scaled"], out),
    ]
    return [helper.make_node(kind, reads, [gives], gives) for kind, reads, gives in steps]


def _nearest(model: onnx.ModelProto, node: onnx.NodeProto, shapes: dict[str, Shape]) -> list[onnx.NodeProto]:
    """A nearest Resize of maps as Gathers; the node itself where it is another Resize, or of unknown shapes.

    ONNX Runtime says which rows and columns it takes, by resizing their numbers.
    """
    from onnx import helper, numpy_helper

    graph, (given, *sizes), out = model.graph, node.input, node.output[0]
    before, after = shapes.get(given, ()), shapes.get(out, ())
    words = {attribute.name: attribute.s for attribute in node.attribute}
    crops = words.get("coordinate_transformation_mode") == b"tf_crop_and_resize"  # which also gives what is no pixel
    constants = {tensor.name: tensor for tensor in graph.initializer}
    known = len(before) == len(after) == 4 and None not in (*before[1:], *after[1:]) and before[1] == after[1]
    if (
        words.get("mode", b"nearest") != b"nearest"
        or crops
        or not known
        or any(name not in constants for name in sizes if name)
    ):
        return [node]
    channels, rows, columns = (int(size or 0) for size in before[1:])
    grid = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    numbers = [np.broadcast_to(number, (1, channels, rows, columns)).astype(np.float32) for number in grid]
    one = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info(given, 1, [1, channels, rows, columns])],
        [helper.make_tensor_value_info(out, 1, None)],
        [constants[name] for name in sizes if name],
    )
    alone = helper.make_model(one, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = cpu_session(alone.SerializeToString())
    taken = [session.run(None, {given: number})[0][0, 0] for number in numbers]
    nodes = []
    for axis, places in ((2, taken[0][:, 0]), (3, taken[1][0])):
        gives, name = (f"{out}/rows", f"{out}/row numbers") if axis == 2 else (out, f"{out}/column numbers")
        graph.initializer.append(numpy_helper.from_array(places.astype(np.int64), name))
        nodes.append(helper.make_node("Gather", [given, name], [gives], gives, axis=axis))
        given = gives
    return nodes


def _constant_reshape(graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, Shape]) -> None:
    """Write an Unsqueeze or Squeeze as a Reshape to a constant shape, where only the batch is free."""
    shape = shapes.get(node.output[0])
    if shape is None or None in shape[1:]:
        return
    free = tuple(-1 if size is None else size for size in shape)
    node.CopyFrom(_reshape(graph, node.input[0], node.output[0], free, node.name))


def _reshape(graph: onnx.GraphProto, tensor: str, out: str, shape: tuple[Any, ...], name: str = "") -> onnx.NodeProto:
    from onnx import helper, numpy_helper

    constant = f"{out}/shape"
    graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), constant))
    return helper.make_node("Reshape", [tensor, constant], [out], name or f"{out}/reshape")


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    unread = [tensor for tensor in graph.initializer if tensor.name not in read]
    for tensor in unread:
        graph.initializer.remove(tensor)
