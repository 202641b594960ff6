"""The front and the tail of an adopted graph: uint8 pictures in, logits of the data set's labels out, a free batch."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgepress.deploy.build.foreign import Foreign
from edgepress.deploy.build.foreign_output import maker_of
from edgepress.deploy.build.own_file import every_node, inner_graphs
from edgepress.deploy.build.reductions import with_read_axes
from edgepress.deploy.build.transposed import with_written_pads
from edgepress.deploy.verify.torch_graph import MODULES
from edgepress.multilabel.conventions import Activation
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import LEAST, logit
from edgepress.multilabel.plural import plural
from edgepress.multilabel.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx

log = logging.getLogger("edgepress")
OPSET = 20
"""The opset that a graph with an opset older than `OLDEST` is converted to."""
OLDEST = 13
"""The first opset whose Q/DQ nodes have one scale per channel."""
AXES_AS_INPUTS = 18
"""The first opset in which the axes of every reduction are an input."""
_OURS = ("front_", "tail_", "free_shape_")
"""What the names of the tensors begin with that are added here, beside `images` and `logits`."""


def normalised(pixels: np.ndarray, foreign: Foreign, preprocess: Preprocess) -> np.ndarray:
    """Convert uint8 RGB `[N, size, size, 3]` to what the model takes: its dtype, colours and layout.

    The arithmetic is that of the front, (x − 255·mean)·(1 / (255·std)) in float32, so any difference between the
    answers comes from the graph.
    """
    if foreign.colors == "bgr":
        pixels = pixels[..., ::-1]
    if foreign.dtype == "float32":
        shift, scale = _shift_and_scale(preprocess.mean, preprocess.std)
        pixels = (pixels.astype(np.float32) - shift) * scale
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if foreign.layout == "nchw" else pixels)


def _shift_and_scale(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.float32(mean) * np.float32(255), np.float32(1) / (np.float32(std) * np.float32(255))


def logits_of(answers: np.ndarray, activation: Activation) -> np.ndarray:
    """Logits whose sigmoid is the probability that the model gives."""
    if activation == "none":
        return answers
    return logit(answers)


def fronted(
    foreign: Foreign,
    preprocess: Preprocess,
    activation: Activation,
    columns: list[int],
    answer: np.ndarray,
) -> onnx.ModelProto:
    """The graph with a uint8 front, logits of the data set's labels behind it, and a free batch.

    Args:
        answer: an answer of the chosen output, which tells its shape and type.
    """
    from onnx import TensorProto, helper, numpy_helper

    model = _modern(foreign)
    graph = model.graph
    inside, outside = _without_our_names(graph, foreign)
    if foreign.batch is not None and (freed := _free_batch(graph, inside, foreign.batch)):
        log.info("its batch of %d is written into %d shapes, which are freed", foreign.batch, freed)
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    front = _front(foreign, preprocess, constant)
    last = front[-1].output[0] if front else "images"
    for node in every_node(graph):
        node.input[:] = [last if name == inside else name for name in node.input]
    tail = _tail(graph, outside, activation, columns, answer, constant)
    nodes = _named([*front, *graph.node, *tail])
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    size = foreign.size
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(columns)]))
    assert tail[-1].output[0] == "logits"
    return _pruned(model)


def _without_our_names(graph: onnx.GraphProto, foreign: Foreign) -> tuple[str, str]:
    """Rename the tensors that have names of ours; returns its own input and output."""
    taken = {name for node in every_node(graph) for names in (node.input, node.output) for name in names}

    def own(name: str) -> str:
        if name not in ("images", "logits") and not name.startswith(_OURS):
            return name
        return next(free for count in itertools.count(1) if (free := "own_" * count + name) not in taken)

    for node in every_node(graph):
        for names in (node.input, node.output):
            names[:] = [own(name) for name in names]
        for inner in inner_graphs(node):
            for value in (*inner.input, *inner.output, *inner.initializer):
                value.name = own(value.name)
    for tensor in graph.initializer:
        tensor.name = own(tensor.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = own(sparse.values.name)
    return own(foreign.input), own(foreign.output)


def _front(
    foreign: Foreign, preprocess: Preprocess, constant: Callable[[str, np.ndarray], str]
) -> list[onnx.NodeProto]:
    """Nodes from our pictures, uint8 NHWC RGB, to what the model takes; none where it takes the same."""
    from onnx import TensorProto, helper

    front: list[onnx.NodeProto] = []

    def then(operator: str, *more: str, **attributes: object) -> None:
        last = front[-1].output[0] if front else "images"
        front.append(helper.make_node(operator, [last, *more], [f"front_{operator.lower()}"], **attributes))

    # This order (cast, subtract, multiply, transpose) is what TensorRT's parser takes for uint8 input.
    if foreign.dtype == "float32":
        then("Cast", to=TensorProto.FLOAT)
    if foreign.colors == "bgr":
        then("Gather", constant("front_channels", np.array([2, 1, 0])), axis=3)
    if foreign.dtype == "float32":
        shift, scale = _shift_and_scale(preprocess.mean, preprocess.std)
        then("Sub", constant("front_mean", shift))
        then("Mul", constant("front_scale", scale))
    if foreign.layout == "nchw":
        then("Transpose", perm=[0, 3, 1, 2])
    return front


def _tail(
    graph: onnx.GraphProto,
    output: str,
    activation: Activation,
    columns: list[int],
    answer: np.ndarray,
    constant: Callable[[str, np.ndarray], str],
) -> list[onnx.NodeProto]:
    """Nodes from the model's output to logits of the wanted columns."""
    from onnx import TensorProto, helper

    maker, rearranged = maker_of(graph, output)
    tail: list[onnx.NodeProto] = []
    exact = activation == "sigmoid" and maker is not None and maker.op_type == "Sigmoid"
    exact = exact and all(node.op_type != "Cast" for node in rearranged)  # it may have rounded the file's own answers
    if exact:
        assert maker is not None
        output = maker.input[0]  # the logits themselves, exactly
        for number, node in enumerate(rearranged):
            again = type(node).FromString(node.SerializeToString())
            again.input[0], again.output[0], again.name = output, f"tail_rearranged_{number}", ""
            output = again.output[0]
            tail.append(again)
    if answer.dtype != np.float32:
        tail.append(helper.make_node("Cast", [output], ["tail_float"], to=TensorProto.FLOAT))
        output = "tail_float"
    if answer.ndim != 2:  # [N, C, 1, 1] or [N, 1, C]
        tail.append(helper.make_node("Flatten", [output], ["tail_flat"], axis=1))
        output = "tail_flat"
    if activation != "none" and not exact:
        low, high = constant("tail_least", LEAST), constant("tail_most", np.float32(1) - LEAST)
        one = constant("tail_one", np.float32(1))
        tail += [
            helper.make_node("Clip", [output, low, high], ["tail_p"]),
            helper.make_node("Log", ["tail_p"], ["tail_yes"]),
            helper.make_node("Sub", [one, "tail_p"], ["tail_rest"]),
            helper.make_node("Log", ["tail_rest"], ["tail_no"]),
            helper.make_node("Sub", ["tail_yes", "tail_no"], ["tail_logits"]),
        ]
        output = "tail_logits"
    if columns != list(range(answer[0].size)):
        tail.append(
            helper.make_node("Gather", [output, constant("tail_columns", np.array(columns))], ["logits"], axis=1)
        )
    else:
        tail.append(helper.make_node("Identity", [output], ["logits"]))
    return tail


def _modern(foreign: Foreign) -> onnx.ModelProto:
    """A copy without constants among its inputs (old exporters write these), in an opset that INT8 can use."""
    import onnx
    from onnx import inliner, version_converter

    if foreign.model.functions:  # quantisers look at operators alone
        model = inliner.inline_local_functions(foreign.model)
    else:
        model = onnx.ModelProto()
        model.CopyFrom(foreign.model)
    given = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in given]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    with_written_pads(model.graph)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset >= OLDEST:
        if opset < AXES_AS_INPUTS and (changed := with_read_axes(model.graph)):
            log.info(
                "%s computed by other operators, because OpenVINO ignores their axes", plural(changed, "reduction")
            )
        return model
    model.ir_version = max(model.ir_version, 8)
    try:
        converted = version_converter.convert_version(model, OPSET)
    except Exception as error:  # its own types, and RuntimeError
        raise InputError(
            f"{foreign.source}: of opset {opset}, which cannot be converted to {OPSET} "
            f"({' '.join(str(error).split())[:200]}): export it with opset_version={OPSET}"
        ) from error
    log.info("converted from opset %d to %d", opset, OPSET)
    return converted


def _free_batch(graph: onnx.GraphProto, pictures: str, batch: int) -> int:
    """Let every Reshape of pictures to a constant shape take a batch of any size; returns how many were changed.

    An exporter that is given no dynamic shapes writes the batch into each of them. The proof tells whether this was
    all that fixed it.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].HasField("t")
    }
    of_pictures, freed = {pictures}, 0
    for node in graph.node:
        if not of_pictures & set(node.input):
            continue
        of_pictures |= set(node.output)
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        allows_zero = [one for one in node.attribute if one.name == "allowzero" and one.i]  # as torch's exporter writes
        if not shape.size or shape[0] < 1 or (allows_zero and 0 in shape):
            continue
        if -1 not in shape:
            shape[0] = -1  # what is left of the batch's size
        elif shape[0] == batch:
            shape[0] = 0  # that of the input
        else:
            continue
        freed += 1
        for attribute in allows_zero:
            node.attribute.remove(attribute)
        graph.initializer.append(numpy_helper.from_array(shape, f"free_shape_{freed}"))
        node.input[1] = f"free_shape_{freed}"
    return freed


def _named(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Every node with a name of its own: ONNX asks for none, but quantisers find nodes by their names."""
    taken: set[str] = set()
    for number, node in enumerate(nodes):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type.lower()}_{number}"
        taken.add(node.name)
    return nodes


def _pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the nodes and constants that no longer lead to the logits."""
    wanted, nodes = {"logits"}, []
    for node in reversed(model.graph.node):
        if any(name in wanted for name in node.output):
            nodes.append(node)
            wanted |= {name for name in node.input if name}
            for inner in inner_graphs(node):  # they may read tensors from outside
                wanted |= {name for one in every_node(inner) for name in one.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    nodes.reverse()
    copied = [type(node).FromString(node.SerializeToString()) for node in nodes]
    kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in constants]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(copied)
    model.graph.initializer.extend(kept)
    return model


def forget_sources(graph: onnx.ModelProto) -> None:
    """Drop the exporter's notes on the traced code: they hold paths of this machine, and a bundle is given away.

    Only the module of each node stays, because `deploy.verify.layers` needs it.
    """
    inner = graph.graph
    for one in (inner, *inner.node, *inner.input, *inner.output, *inner.value_info, *inner.initializer):
        kept = [entry for entry in one.metadata_props if entry.key == MODULES]
        del one.metadata_props[:]
        one.metadata_props.extend(kept)
