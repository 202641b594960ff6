"""Which output of a finished tagger's graph has its labels, and what its scores have been through there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.multilabel.conventions import Activation
from edgepress.multilabel.errors import InputError

if TYPE_CHECKING:
    import onnx

IN_UNIT = (
    "all answers are within 0..1, as probabilities are, and nothing says what they have been through (in Python: "
    "activation): say --activation sigmoid, softmax, or none for logits"
)
"""The question that the answers themselves ask."""
_PROBABILITIES = {"Sigmoid": "sigmoid", "Softmax": "softmax"}
_LOGARITHMS = (("Log", "Sigmoid"), ("Log", "Softmax"), ("Neg", "Softplus"))
"""A last operator, and the one before it, after which a score is the logarithm of a probability, as it is after a
LogSoftmax. The last is log(sigmoid(z)), written as -softplus(-z)."""


_REARRANGE = frozenset(("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"))
"""Operators behind the scores that change no score, except that a Cast may round it."""


def maker_of(graph: onnx.GraphProto, name: str) -> tuple[onnx.NodeProto | None, list[onnx.NodeProto]]:
    """The node that computes a tensor's numbers, and those behind it which only arrange them, in their order.

    tf2onnx ends its graphs with an Identity, and float16 graphs end with a Cast.
    """
    makers = {output: node for node in graph.node for output in node.output}
    behind: list[onnx.NodeProto] = []
    node = makers.get(name)
    while node is not None and node.op_type in _REARRANGE:
        behind.insert(0, node)
        node = makers.get(node.input[0])
    return node, behind


def shape_of(value: onnx.ValueInfoProto) -> list[int | str | None]:
    """Its sides: a number, the name of a free side, or None."""
    kind = value.type.tensor_type
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim]


def output_of(file: Path, model: onnx.ModelProto, said: str | None, questions: list[str]) -> str | None:
    """The output that has the labels; None if its owner must be asked, which is added to `questions`.

    Args:
        said: the output that its owner names.

    Raises:
        InputError: there is no such output, or it is no tensor.
    """
    tensors = {value.name: value for value in model.graph.output if value.type.HasField("tensor_type")}
    others = [value.name for value in model.graph.output if value.name not in tensors]
    if not model.graph.output:
        raise InputError(f"{file}: the graph has no output; export it with its scores as one")
    if said in others or not tensors:
        raise InputError(
            f"{file}: the output {said or ', '.join(others)} is no tensor; expected a column of scores for "
            f"each label: say --output, or export without what makes lists or dictionaries of them (ZipMap)"
        )
    if said is not None:
        if said not in tensors:
            raise InputError(f"{file}: no output {said!r}; it has {', '.join(tensors)}")
        return said
    if len(tensors) == 1:
        return next(iter(tensors))
    tables = [name for name, value in tensors.items() if len(shape_of(value)) == 2]
    if len(tables) == 1:
        return tables[0]
    listed = ", ".join(f"{name} {shape_of(value)}" for name, value in tensors.items())
    first, second = list(tensors)[:2]
    questions.append(
        f"several outputs ({listed}): say --output, the one with a column for each label, or several whose columns are "
        f"to be joined, in the order of the labels: --output '{first},{second}'"
    )
    return None


def joined(
    file: Path, model: onnx.ModelProto, said: str, activation: Activation | None
) -> tuple[str, Activation | None]:
    """Join the columns of several outputs, heads of one model, to one output; returns it and what it has been through.

    Args:
        said: the outputs' names, with commas between them.
        activation: what its owner says they have been through.

    Raises:
        InputError: there is no such output, one is named twice, or they have been through different things.
    """
    from onnx import TensorProto, helper

    names = [name.strip() for name in said.split(",")]
    known = [value.name for value in model.graph.output]
    if (unknown := [name for name in names if name not in known]) or len(set(names)) != len(names):
        what = f"no output {unknown[0]!r}" if unknown else "an output is named twice"
        raise InputError(f"{file}: --output {said}: {what}; it has {', '.join(known)}")
    questions: list[str] = []
    shown = {name: activation_of(file, model, name, activation, questions) for name in names}
    if questions:
        raise InputError(f"{file}: {questions[0]}")
    if len(set(shown.values())) != 1:
        each = ", ".join(f"{name}: {word or 'neither Sigmoid nor Softmax'}" for name, word in shown.items())
        raise InputError(
            f"{file}: --output {said}: they end differently ({each}) and cannot be joined: export the logits of all"
        )
    flat = [helper.make_node("Flatten", [name], [f"joined_head_{at}"], axis=1) for at, name in enumerate(names)]
    model.graph.node.extend(flat)
    model.graph.node.append(helper.make_node("Concat", [node.output[0] for node in flat], ["joined_heads"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("joined_heads", TensorProto.FLOAT, None))
    return "joined_heads", next(iter(shown.values()))


def activation_of(
    file: Path, model: onnx.ModelProto, output: str, said: Activation | None, questions: list[str]
) -> Activation | None:
    """What comes last: as it was said, or else as the last node shows; None where neither says it.

    If the last node gives logarithms of probabilities, its owner is asked, which is added to `questions`.

    Raises:
        InputError: what was said is not what the last node shows.
    """
    maker, _ = maker_of(model.graph, output)
    last = "" if maker is None else maker.op_type
    before = None if maker is None or not maker.input else maker_of(model.graph, maker.input[0])[0]
    if last == "LogSoftmax" or (last, "" if before is None else before.op_type) in _LOGARITHMS:
        if said is None:
            questions.append(
                f"its last node is a {last}, which gives logarithms of probabilities: export it without that node, or "
                f"say --activation none to take them as logits all the same"
            )
        elif said != "none":
            raise InputError(
                f"{file}: --activation {said} is for probabilities, and its last node is a {last}, which gives "
                f"logarithms of them: export it without that node"
            )
        return said
    shown: Activation | None = _PROBABILITIES.get(last)  # type: ignore[assignment] # None, or one of the words
    if said == "none" and shown is not None:
        raise InputError(
            f"{file}: --activation none is for logits, and its last node is a {last}, which gives probabilities: leave "
            f"out --activation"
        )
    return said or shown
