"""Small ONNX taggers written by hand: the forms that exporters of all kinds give a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, LABELS = 32, 5


def weights(outputs: int = LABELS) -> np.ndarray:
    """float32 `[3, outputs]`: what the means of the three channels say of each label."""
    return np.random.default_rng(0).normal(size=(3, outputs)).astype(np.float32)


def tagger(
    *,
    layout: str = "nchw",
    shape: list[int | str] | None = None,
    dtype: int = TensorProto.FLOAT,
    outputs: int = LABELS,
    after: list[onnx.NodeProto] | None = None,
    output: onnx.ValueInfoProto | None = None,
    opset: int = 17,
    constants: dict[str, np.ndarray] | None = None,
    more: list[onnx.ValueInfoProto] | None = None,
) -> onnx.ModelProto:
    """A graph from pictures `x` by way of `scores` `[N, outputs]` to `y`, which `after` makes of `scores`.

    Args:
        output: the declaration of `y`, if it is no float table.
        more: declarations of further inputs.
    """
    shape = shape or (["n", 3, SIZE, SIZE] if layout == "nchw" else ["n", SIZE, SIZE, 3])
    axes = [2, 3] if layout == "nchw" else [1, 2]
    nodes = []
    last = "x"
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    given = {"weights": weights(outputs), **(constants or {})}
    if opset >= 18:
        given["axes"] = np.array(axes)
        nodes.append(helper.make_node("ReduceMean", [last, "axes"], ["means"], keepdims=0))
    else:
        nodes.append(helper.make_node("ReduceMean", [last], ["means"], axes=axes, keepdims=0))
    nodes.append(helper.make_node("MatMul", ["means", "weights"], ["scores"]))
    nodes += after or [helper.make_node("Identity", ["scores"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("x", dtype, shape), *(more or [])],
        [output or helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(value, name) for name, value in given.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def saved(model: onnx.ModelProto, file: Path) -> Path:
    onnx.save(model, file)
    return file
