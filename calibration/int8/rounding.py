"""Rounds weights to INT8 so that the outputs of each layer, rather than its weights, change least.

The objective is AdaRound's, layer by layer (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training
Quantization", ICML 2020, arXiv 2004.10568, section 3.2): of the two neighbours of every weight on the grid, choose
those that minimise E‖(Ŵ − W)x‖² = Σ_rows (ŵ − w) G (ŵ − w)ᵀ with G = E[x xᵀ], where x is the layer's float input. The
paper relaxes it and descends by gradient; here one weight changes at a time while that helps, which needs only G.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.calibration.int8.graphs import CHUNK, activations, attributes, copy_of, own_constants, set_constant

if TYPE_CHECKING:
    import onnx

POSITIONS = 64
"""Number of positions of a picture whose inputs enter G, drawn at random; all of them if it has fewer."""
DAMPING = 0.01
"""Added to G's diagonal, as a share of its mean: a few hundred pictures do not span every direction of a wide layer."""
SWEEPS = 20
"""Largest number of passes over the columns of a weight."""
LAYERS = 8
"""Number of layers whose inputs are held at once."""


def round_weights(
    model: onnx.ModelProto, images: np.ndarray, kept: Collection[str] = (), *, levels: int = 127
) -> onnx.ModelProto:
    """Move the weights of convolutions and products to the INT8 grid on which they will be quantised.

    The grid is symmetric, with one scale per output channel: max|w| / levels. The largest weight does not change, so a
    quantiser that looks for the largest weight finds this grid again, and with it exactly these integers.

    Conv with any number of groups, and MatMul and Gemm whose second factor is a constant matrix, are rounded; a weight
    that several nodes read is left as it is, because its grid does not belong to one layer.

    Args:
        model: a float model with one input of pictures and a free batch size.
        images: calibration pictures `[N, ...]`, as the model takes them.
        kept: names of nodes that will stay in float; their weights are left as they are.
        levels: the largest integer: 127, or 64 if ONNX Runtime's quantiser leaves out one bit (`reduce_range`).

    Raises:
        InputError: there are no pictures.
    """
    from onnx import numpy_helper

    result = copy_of(model)
    tensors = own_constants(result.graph)
    layers = [node for node in result.graph.node if node.name not in kept and _is_layer(node, tensors)]
    for start in range(0, len(layers), LAYERS):
        group = layers[start : start + LAYERS]
        weights = [numpy_helper.to_array(tensors[node.input[1]]) for node in group]
        # From `model`: what precedes a layer is still in float.
        for node, weight, gram in zip(group, weights, grams(model, group, weights, images), strict=True):
            diagonal = np.einsum("gdd->gd", gram)
            diagonal += DAMPING * diagonal.mean(axis=1, keepdims=True)
            rounded = round_rows(_rows(node, weight), gram, levels)
            set_constant(tensors[node.input[1]], _unrowed(node, rounded, weight.shape))
    return result


def round_rows(rows: np.ndarray, gram: np.ndarray, levels: int = 127) -> np.ndarray:
    """Round every weight to one of its two neighbours on its row's grid, by coordinate descent from the nearest.

    Args:
        rows: weights `[groups, rows, inputs]`; each row has a grid of its own.
        gram: E[x xᵀ] of each group's inputs `[groups, inputs, inputs]`.
        levels: the largest integer of the grids.

    Returns:
        float64 `[groups, rows, inputs]`, on the grids. No row's objective is above that of rounding to the nearest, and
        turning any single weight would not lower it, unless the descent was stopped after `SWEEPS` passes.
    """
    rows = rows.astype(np.float64)
    largest = np.abs(rows).max(axis=2, keepdims=True)
    # In grid steps; it is multiplied before it is divided, so that the largest weight is an integer and cannot turn.
    exact = np.divide(levels * rows, largest, out=np.zeros_like(rows), where=largest > 0)
    both = np.floor(exact) + np.ceil(exact)
    integers = np.rint(exact)
    pull = (integers - exact) @ gram  # half of the objective's gradient
    for _ in range(SWEEPS):
        turned = 0
        for column in range(rows.shape[2]):
            step = both[:, :, column] - 2 * integers[:, :, column]
            own = gram[:, column, column, None]
            change = step * (2 * pull[:, :, column] + step * own)
            group, row = np.nonzero(change < -1e-9 * own)  # less than this is rounding error, and would never end
            integers[group, row, column] += step[group, row]
            pull[group, row] += step[group, row, None] * gram[group, column]
            turned += len(row)
        if not turned:
            break
    return integers * largest / levels


def grams(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], weights: list[np.ndarray], images: np.ndarray
) -> list[np.ndarray]:
    """E[x xᵀ] of the inputs of each layer, float64 `[groups, inputs, inputs]`, over pictures and sampled positions."""
    rng = np.random.default_rng(0)
    sums: list[np.ndarray | float] = [0.0] * len(nodes)
    counts = [0] * len(nodes)
    names = sorted({node.input[0] for node in nodes})
    for values in activations(model, names, images):
        for place, (node, weight) in enumerate(zip(nodes, weights, strict=True)):
            inputs = _inputs(node, weight, values[node.input[0]], rng)
            sums[place] = sums[place] + np.matmul(inputs.transpose(0, 2, 1), inputs).astype(np.float64)
            counts[place] += inputs.shape[1]
    return [np.asarray(total) / count for total, count in zip(sums, counts, strict=True)]


def _is_layer(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type not in ("Conv", "MatMul", "Gemm") or node.input[1] not in tensors:
        return False
    if node.op_type == "Conv":
        return True
    return len(tensors[node.input[1]].dims) == 2 and not attributes(node).get("transA", 0)


def _rows(node: onnx.NodeProto, weight: np.ndarray) -> np.ndarray:
    """A layer's weight as `[groups, rows, inputs]`, with one row per output channel."""
    if node.op_type == "Conv":
        groups = attributes(node).get("group", 1)
        return weight.reshape(groups, weight.shape[0] // groups, -1)
    return (weight if attributes(node).get("transB", 0) else weight.T)[None]


def _unrowed(node: onnx.NodeProto, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if node.op_type == "Conv":
        return rows.reshape(shape)
    return rows[0] if attributes(node).get("transB", 0) else rows[0].T


def _inputs(node: onnx.NodeProto, weight: np.ndarray, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The values that a layer multiplies its rows by, at some positions of each picture: `[groups, places, inputs]`."""
    if node.op_type != "Conv":
        flat = value.reshape(-1, value.shape[-1])
        most = CHUNK * POSITIONS
        return (flat if len(flat) <= most else flat[rng.choice(len(flat), most, replace=False)])[None]
    windows = _windows(value, weight.shape[2:], attributes(node))
    places = windows.shape[2 : weight.ndim]
    count = math.prod(places)
    chosen = rng.choice(count, min(count, POSITIONS), replace=False)
    where = (slice(None), slice(None), *np.unravel_index(chosen, places))
    taken = windows[where]  # [pictures, channels, places, taps]
    groups, channels = value.shape[1] // weight.shape[1], weight.shape[1]
    taken = taken.reshape(len(value), groups, channels, len(chosen), -1)
    return taken.transpose(1, 0, 3, 2, 4).reshape(groups, len(value) * len(chosen), -1)


def _windows(value: np.ndarray, kernel: tuple[int, ...], given: dict[str, Any]) -> np.ndarray:
    """A view of what a convolution reads at each position: `[pictures, channels, *places, *kernel]`."""
    ones = [1] * len(kernel)
    strides, dilations = given.get("strides", ones), given.get("dilations", ones)
    reach = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True))
    padding = [(0, 0), (0, 0), *_padding(value.shape[2:], reach, strides, given)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(value, padding), reach, axis=tuple(range(2, value.ndim)))
    taps = (slice(None), slice(None), *(slice(None, None, step) for step in (*strides, *dilations)))
    return windows[taps]


def _padding(
    shape: tuple[int, ...], reach: tuple[int, ...], strides: list[int], given: dict[str, Any]
) -> list[tuple[int, int]]:
    """Number of zeros before and after each spatial axis."""
    how = given.get("auto_pad", b"NOTSET").decode()
    if how in ("NOTSET", "VALID"):
        pads = given.get("pads", [0] * 2 * len(shape)) if how == "NOTSET" else [0] * 2 * len(shape)
        return list(zip(pads[: len(shape)], pads[len(shape) :], strict=True))
    padding = []
    for size, window, stride in zip(shape, reach, strides, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
        less, more = total // 2, total - total // 2
        padding.append((less, more) if how == "SAME_UPPER" else (more, less))
    return padding
