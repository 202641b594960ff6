"""Empirical bias correction: the bias cancels the mean error that INT8 adds to each channel.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, arXiv 1906.04721,
section 4.2 and appendix D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgepress.calibration.int8.graphs import activations, copy_of, own_constants, part_of, run_in_chunks, set_constant
from edgepress.calibration.int8.subset import spread
from edgepress.multilabel.errors import InputError

if TYPE_CHECKING:
    import onnx

PICTURES = 64
"""Most pictures that means are taken over: the outputs of several convolutions are held for all of them at once."""


def correct_biases(
    model: onnx.ModelProto,
    quantize: Callable[[onnx.ModelProto], onnx.ModelProto],
    images: np.ndarray,
    *,
    reference: onnx.ModelProto | None = None,
) -> onnx.ModelProto | None:
    """Shift each convolution's bias per channel by the mean over pictures and positions of float's output minus INT8's.

    The convolutions are corrected one by one in topological order, each after all that precede it: correcting several
    at once would count twice the error that a later one inherits, and was measured to do more harm than good.

    Args:
        model: a float model with one input of pictures and a free batch size.
        quantize: returns the Q/DQ model of a float model; convolutions must keep their names.
        images: calibration pictures `[N, ...]`, as the model takes them; only `PICTURES` of them are used.
        reference: the model whose means are the target, with convolutions of the same names, if that is not `model`:
            the model from before its weights were rounded.

    Returns:
        The float model with its biases corrected (every convolution then has one), to be quantised again; None if
        there is no convolution whose bias could be corrected.

    Raises:
        InputError: there are no pictures, or one of the models lacks a convolution.
    """
    result = copy_of(model)
    biases = _biases(result.graph)
    if not biases:
        return None
    quantized = quantize(model)
    names = list(biases)
    sample = spread(images, PICTURES)
    expected = _means(model if reference is None else reference, names, sample)
    outputs = _outputs(quantized, names)
    parts = {name: part_of(quantized, [outputs[name]], outputs.values()) for name in names}
    reads = {name: [value.name for value in part.graph.input] for name, part in parts.items()}
    values = {quantized.graph.input[0].name: sample}
    nodes = {node.name: node for node in result.graph.node}
    for place, name in enumerate(names):
        value = np.concatenate([chunk for (chunk,) in run_in_chunks(parts[name], {n: values[n] for n in reads[name]})])
        shift = expected[name] - value.mean(axis=(0, *range(2, value.ndim)), dtype=np.float64)
        _set_bias(result.graph, nodes[name], biases[name] + shift)
        value += shift.astype(np.float32).reshape(-1, *[1] * (value.ndim - 2))
        values[outputs[name]] = value
        needed = {read for later in names[place + 1 :] for read in reads[later]}
        values = {read: value for read, value in values.items() if read in needed}
    return result


def _biases(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The bias of each convolution by its name, 0 if it has none; a bias that the graph computes is left alone."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "Conv":
            name = node.input[2] if len(node.input) > 2 else ""
            if not name:
                found[node.name] = np.zeros(1)
            elif name in constants:
                found[node.name] = numpy_helper.to_array(constants[name]).astype(np.float64)
    return found


def _outputs(model: onnx.ModelProto, names: list[str]) -> dict[str, str]:
    """Names of the convolutions' outputs in a model: a quantiser renames outputs, but not nodes."""
    outputs = {node.name: node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    missing = [name for name in names if name not in outputs]
    if missing:
        raise InputError(f"one of the models has no convolution {missing[0]!r}; expected the same names in all of them")
    return {name: outputs[name] for name in names}


def _means(model: onnx.ModelProto, names: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
    """Mean of each convolution's output channels over pictures and positions, float64 `[C]`."""
    outputs = _outputs(model, names)
    sums: dict[str, np.ndarray | float] = dict.fromkeys(names, 0.0)
    for values in activations(model, list(outputs.values()), images, pooled=True):
        for name, output in outputs.items():
            sums[name] = sums[name] + values[output].reshape(values[output].shape[:2]).sum(axis=0, dtype=np.float64)
    return {name: np.asarray(total) / len(images) for name, total in sums.items()}


def _set_bias(graph: onnx.GraphProto, node: onnx.NodeProto, bias: np.ndarray) -> None:
    """Change a convolution's own bias; add one if it has none or if other nodes read it too."""
    from onnx import numpy_helper

    own = own_constants(graph)
    if len(node.input) > 2 and node.input[2] in own:
        set_constant(own[node.input[2]], bias)
        return
    name = f"{node.name}/corrected_bias"
    graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), name))
    del node.input[2:]
    node.input.append(name)
