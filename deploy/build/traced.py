"""A torch module as an ONNX graph that takes a batch of any size."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from edgepress.multilabel.errors import InputError

OPSET = 20
INPUT = "images"
TAKEN_FOR_ZERO = 1e-8  # onnxscript's optimizer drops the addition of a constant that is no larger


def traced(module: nn.Module, images: Tensor, outputs: list[str], name: str) -> onnx.ModelProto:
    """Export a module to ONNX with a free batch size.

    Args:
        module: in evaluation mode, on the CPU; it takes one tensor.
        images: an example of its input, of two pictures at least, because the exporter treats a batch of one as a
            constant.
        outputs: the names of its outputs.
        name: what messages call it.

    Raises:
        InputError: it cannot be exported. A Python number in its code may freeze the batch without an error; then the
            first dimension of the graph's input is a number.
    """
    try:
        with _quiet(), torch.no_grad():  # a graph without gradients is the same, and traced in less time
            return exported(
                module,
                (images,),
                input_names=[INPUT],
                output_names=outputs,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            )
    except Exception as error:  # the exporter raises types of its own, nested
        raise InputError(f"{name} cannot be exported with a free batch size: {_cause(error)}") from error


def exported(module: nn.Module, arguments: tuple[Tensor, ...], **named: Any) -> onnx.ModelProto:
    """What torch.onnx.export makes of a module, with the small constants that its optimizer drops."""
    program = torch.onnx.export(module, arguments, optimize=False, **named)
    assert program is not None
    _optimize(program)
    return program.model_proto


def _optimize(program: torch.onnx.ONNXProgram) -> None:
    """Optimize the graph as the exporter does by itself, and keep its small constants.

    The optimizer takes a constant of up to 1e-8 for 0 (findings/onnxscript-small-epsilon.sh), so that a picture whose
    features are all zeros gets NaN where the module guards a division. Such constants, those of functions and of
    branches as well, are inputs of the graph while it is optimized: then nothing knows their values.
    """
    onnxscript.optimizer.inline(program.model)  # the optimizer begins with it: then no constant is in a function
    graph = program.model.graph
    values = _values(graph)
    taken = {value.name for value in values}
    names = (name for number in itertools.count() if (name := f"small.{number}") not in taken)
    small: dict[str, ir.TensorProtocol] = {}
    for value in values:
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None or tensor.size != 1 or not tensor.dtype.is_floating_point():
            continue
        if 0 < abs(tensor.numpy().item()) <= TAKEN_FOR_ZERO and not value.is_graph_output():
            name = next(names)
            held = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape([1] * len(tensor.shape)))
            ir.convenience.replace_all_uses_with(value, held)
            graph.inputs.append(held)
            small[name] = tensor
    program.optimize()
    graph = program.model.graph
    for held in [value for value in graph.inputs if value.name in small]:
        graph.inputs.remove(held)
        held.const_value = small[str(held.name)]
        graph.register_initializer(held)


def _values(graph: ir.Graph) -> list[ir.Value]:
    """The values of a graph and of the graphs inside its nodes, such as the branches of an If."""
    found = [output for node in graph.all_nodes() for output in node.outputs]
    for part in (graph, *graph.subgraphs()):
        found += [*part.inputs, *part.initializers.values()]
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it prints every constant that it does not fold and, where it fails, the whole traced graph
    (hundreds of lines) several times. The exception says what went wrong."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        loud = [logging.getLogger(name) for name in ("onnxscript", "torch")]
        before = [logger.level for logger in loud]
        for logger in loud:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loud, before, strict=True):
                logger.setLevel(level)


def _cause(error: BaseException) -> str:
    """The first cause; the exporter wraps it in advice about its own steps, which is longer than what is shown."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
