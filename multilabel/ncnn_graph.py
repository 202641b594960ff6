"""Exact rewrites of a float ONNX graph into what pnnx converts to ncnn rightly.

- ncnn has no bytes: the graph begins behind the cast of its pictures to float32.
- What depends on no picture, such as an ML-Decoder's queries, is computed once here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.litert_graph import fold_constants

if TYPE_CHECKING:
    import onnx

_MOVES = ("Transpose", "Reshape", "Identity")
"""What may be done with bytes before they are cast: ncnn does it with the floats that they become."""


def for_ncnn(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float ONNX model that computes the same from float32 pictures, in the operators described above.

    Names of nodes are kept where a node is kept or replaced by one that multiplies the same weights.

    Args:
        model: a graph with one input of pictures, uint8 `[batch, size, size, 3]`.

    Raises:
        InputError: its pictures are read by something else than a cast to float32.
    """
    result = type(model)()
    result.CopyFrom(model)
    _take_floats(result.graph)
    fold_constants(result)
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
        if wrong := [node.op_type for node in readers if node.op_type not in ("Cast", *_MOVES)]:
            raise InputError(f"its pictures are read by {', '.join(wrong)}; expected one Cast to float32")
    if not casts or any(cast.attribute[0].i != TensorProto.FLOAT for cast in casts):
        raise InputError("its pictures are not cast to float32 before anything is computed of them")
    for cast in casts:
        for node in graph.node:
            node.input[:] = [cast.input[0] if name == cast.output[0] else name for name in node.input]
        graph.node.remove(cast)
    del graph.value_info[:]
    pictures.type.tensor_type.elem_type = TensorProto.FLOAT
