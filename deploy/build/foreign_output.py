"""Which output of a finished tagger's graph has its labels, and what its scores have been through there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.multilabel.conventions import Activation
from edgepress.multilabel.errors import InputError

if TYPE_CHECKING:
    import onnx

IN_UNIT = (
    "all answers are within 0..1, as probabilities are, and no Sigmoid or Softmax comes last: say --activation "
    "sigmoid, softmax, or none for logits"
)
"""The question that the answers themselves ask."""
_PROBABILITIES = {"Sigmoid": "sigmoid", "Softmax": "softmax"}
_LOGARITHMS = (("Log", "Sigmoid"), ("Log", "Softmax"), ("Neg", "Softplus"))
"""A last operator, and the one before it, after which a score is the logarithm of a probability, as it is after a
LogSoftmax. The last is log(sigmoid(z)), written as -softplus(-z)."""


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
    questions.append(f"several outputs ({listed}): say --output, the one with a column for each label")
    return None


def activation_of(
    file: Path, model: onnx.ModelProto, output: str, said: Activation | None, questions: list[str]
) -> Activation | None:
    """What comes last: as it was said, or else as the last node shows; None where neither says it.

    If the last node gives logarithms of probabilities, its owner is asked, which is added to `questions`.

    Raises:
        InputError: what was said is not what the last node shows.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    last = makers[output].op_type if output in makers else ""
    before = makers[output].input[0] if last else ""
    if last == "LogSoftmax" or (last, makers[before].op_type if before in makers else "") in _LOGARITHMS:
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
