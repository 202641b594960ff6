"""Cross-layer equalisation: the same float function with similar ranges per channel, so that INT8 costs less.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, arXiv 1906.04721,
section 4.1.

Two convolutions with f between them compute W2 f(W1 x + b1). If f(s·x) = s·f(x) for s > 0, each channel i between
them may be divided by s_i in front and multiplied by s_i behind. Clip(0, 6) is not such a function: its bound would
have to become 6/s_i, and a bound per channel is a Min that no runtime fuses into a convolution. Those pairs are left
as they are, and so are pairs around hard-swish and SiLU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepress.calibration.int8.graphs import attributes, copy_of, own_constants, readers, set_constant

if TYPE_CHECKING:
    import onnx

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool"})
"""Operators that work on each channel separately, with f(s·x) = s·f(x) for s > 0."""
TOLERANCE = 1e-3
"""Largest distance of s from 1 at which ranges count as balanced."""
SWEEPS = 100
"""Largest number of passes over all pairs; long chains of convolutions need a few dozen."""


def equalise(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Balance the ranges of the weights on both sides of every channel between two convolutions.

    If r1_i is the largest |weight| that makes channel i and r2_i the largest that reads it, s_i = sqrt(r1_i / r2_i), so
    that both become sqrt(r1_i · r2_i). A pair changes its neighbours' ranges, so the passes over the pairs repeat until
    nothing changes. A channel without weights on one side is left as it is.

    Args:
        model: a float model with batch norms folded.

    Returns:
        The same function up to float32's rounding, and the names of the rescaled convolutions, in the graph's order.
    """
    from onnx import numpy_helper

    result = copy_of(model)
    tensors = own_constants(result.graph)
    pairs = _pairs(result.graph, tensors)
    parameters = {name for pair in pairs for node in pair for name in node.input[1:] if name}
    values = {name: numpy_helper.to_array(tensors[name]).astype(np.float64) for name in parameters}
    changed: set[str] = set()
    for _ in range(SWEEPS):
        balanced = True
        for first, second in pairs:
            scale = _scale(values[first.input[1]], _by_input(values[second.input[1]], second))
            if np.abs(scale - 1).max() > TOLERANCE:
                balanced = False
                changed |= {first.name, second.name}
                _rescale(values, first, second, scale)
        if balanced:
            break
    for name in sorted(parameters):
        set_constant(tensors[name], values[name])
    return result, tuple(node.name for node in result.graph.node if node.name in changed)


def _pairs(graph: onnx.GraphProto, tensors: dict[str, onnx.TensorProto]) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Convolutions that follow each other with only homogeneous operators between them, and no other reader."""
    found = readers(graph)

    def changeable(node: onnx.NodeProto) -> bool:
        return node.op_type == "Conv" and all(name in tensors for name in node.input[1:] if name)

    pairs = []
    for first in filter(changeable, graph.node):
        following = found[first.output[0]]
        while len(following) == 1 and following[0] is not None and following[0].op_type in HOMOGENEOUS:
            following = found[following[0].output[0]]
        if len(following) == 1 and following[0] is not None and changeable(following[0]):
            pairs.append((first, following[0]))
    return pairs


def _by_input(weight: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
    """A view of a convolution's weight, `[groups, out / groups, in / groups, taps]`."""
    groups = attributes(node).get("group", 1)
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _scale(before: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """s of each channel between two weights, `[channels]`."""
    made = np.abs(before).reshape(len(before), -1).max(axis=1)
    read = np.abs(behind).max(axis=(1, 3)).reshape(-1)
    alive = (made > 0) & (read > 0)
    return np.sqrt(np.divide(made, read, out=np.ones_like(made), where=alive))


def _rescale(values: dict[str, np.ndarray], first: onnx.NodeProto, second: onnx.NodeProto, scale: np.ndarray) -> None:
    weight = values[first.input[1]]
    weight /= scale.reshape(-1, *[1] * (weight.ndim - 1))
    if len(first.input) > 2 and first.input[2]:
        values[first.input[2]] /= scale
    behind = _by_input(values[second.input[1]], second)
    behind *= scale.reshape(behind.shape[0], 1, behind.shape[2], 1)
