"""A finished model's graph as a bundle that every later stage takes, proven equal to the model itself.

The graph gets the front that every engine has: uint8 pictures NHWC, normalisation inside, logits out, a batch of any
size. Its answers are then compared with those that the model gives when it is run as its owner runs it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.deploy.build.foreign import Foreign
from edgepress.deploy.build.foreign_output import IN_UNIT
from edgepress.deploy.build.front import forget_sources, fronted, logits_of
from edgepress.deploy.build.golden_pictures import golden_pictures
from edgepress.deploy.build.own_file import session_of
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.conventions import Activation
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.metrics import sigmoid
from edgepress.multilabel.plural import plural
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.reached import answer_split, require_among, tell_finished
from edgepress.multilabel.versions import package_version

if TYPE_CHECKING:
    import onnx

log = logging.getLogger("edgepress")
MODEL = "model.onnx"
EQUAL = 1e-5
"""Largest difference of a logit, as a share of the largest logit, between the model's own answer and the bundle's."""
EQUAL_PROBABILITY = 1e-6
"""Largest difference of a probability, for models that give probabilities."""
BATCHES = (1, 2, 5)
"""Batch sizes that the new graph is tried with, beside `_FEW`."""
_FEW = 32
_PAIRS = (
    "if a label has two scores, of no and of yes, export yes less no as they are before the softmax, which is the "
    "label's logit"
)
_ROUNDED = 1e-4
"""By how much a probability may be outside of 0..1, because it is rounded."""
TRACE = "pkg.torch.onnx.stack_trace"
"""The metadata in which torch's exporter says which line of code a node belongs to."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished model: its graph, and the model itself, run as its owner runs it."""

    name: str
    """What the bundle's facts and the log call it."""
    foreign: Foreign
    preprocess: Preprocess
    labels: LabelSpace
    """The names of its outputs, in their order."""
    keep_labels: bool = False
    """Whether the bundle has all of them, for a teacher, and not the data set's alone."""
    generated_pictures: bool = False
    """Whether the bundle stores generated golden pictures, and not eight of the split's."""
    free_batch: str
    """How its owner makes an export of it take a batch of any size: a sentence."""
    answers: Callable[[np.ndarray], np.ndarray]
    """From RGB pictures `[N, size, size, 3]`, uint8 (or float32 in 0..255, if the graph takes float32), to the chosen
    output `[N, outputs]`, `[N, outputs, 1, 1]` or `[N, 1, outputs]`, before `foreign.activation` is undone."""

    def columns(self, verified: MultiLabelDataset) -> list[int]:
        """The outputs that the bundle has: those of the data set's labels, in the data set's order, or all.

        Raises:
            InputError: the model lacks labels of the data set, which the bundle is to have.
        """
        if self.keep_labels:
            return list(range(len(self.labels)))
        require_among(verified.labels, self.labels, self.foreign.source, verified.root)
        return [self.labels.index(name) for name in verified.labels]


def wrap(model: Finished, verified: MultiLabelDataset, out: Path, *, inputs: str, tools: tuple[str, ...]) -> Bundle:
    """Make a bundle of kind onnx (fp32) of a finished model.

    Args:
        verified: the split that its engines will be verified on; its labels are among the model's.
        inputs: sha256 of everything that the bundle is made from.
        tools: the packages whose versions the bundle records.

    Raises:
        InputError: the outputs are not one score per label, the graph's batch size cannot be made free, or its answers
            with the new front differ from the model's.
    """
    foreign, preprocess, columns = model.foreign, model.preprocess, model.columns(verified)
    few = np.stack([preprocess(verified.picture(row)) for row in range(min(_FEW, len(verified)))])
    if len(few) < max(BATCHES):
        raise InputError(
            f"{verified.root}, split {verified.split!r}: {plural(len(few), 'picture')}; {max(BATCHES)} are needed"
        )
    raw = model.answers(few)
    _require_scores(foreign, raw, len(model.labels))
    activation = _known_activation(foreign, _table(raw))

    def answer(pixels: np.ndarray) -> np.ndarray:
        return logits_of(_table(model.answers(pixels)), activation)[:, columns]

    graph = fronted(foreign, preprocess, activation, columns, raw)
    # Its own answers one by one, because those of a model that looks at its batch depend on the others.
    alone = np.concatenate([answer(one[None]) for one in few])
    _require_finite(foreign, alone)
    _prove(model, graph, few, alone, activation)
    forget_sources(graph)
    # Probabilities in float32 do not hold the logits of sure answers, which the proven graph gives as they are.
    proven = answer if activation == "none" else _answers_of(session_of(graph, foreign.source))
    logits = answer_split(proven, preprocess, verified)
    _require_finite(foreign, logits)
    _tell_taken(model, logits)
    labels = LabelSpace(tuple(model.labels.names[column] for column in columns))
    given = (model.name, answer, preprocess, labels, verified, logits)
    tell_finished(*given, colors=foreign.colors, fractional=foreign.dtype == "float32")
    with write_bundle(
        out,
        kind="onnx",
        precision="fp32",
        model=MODEL,
        labels=labels.names,
        preprocess=preprocess,
        decisions=Decisions.of_groups(labels.names, verified.groups),
        opset=next(one.version for one in graph.opset_import if one.domain in ("", "ai.onnx")),
        facts=Facts(backbone=f"adopted from {model.name}"),
        tools={name: package_version(name) for name in tools},
        inputs=inputs,
    ) as folder:
        import onnx

        onnx.save(graph, str(folder / MODEL))
        if labels == verified.labels:
            Reference.of(verified, logits, f"the adopted {model.name}").save(folder / REFERENCE)
        golden_pictures(verified, preprocess, proven, generated=model.generated_pictures).save(folder)
    return Bundle.open(out)


def _tell_taken(model: Finished, logits: np.ndarray) -> None:
    """Say how many labels are left out, and caution where no answer is a no: similarities are no logits."""
    if left := len(model.labels) - logits.shape[1]:
        log.info("%d of %d labels of the model are not among the data set's and are dropped", left, len(model.labels))
    if logits.min() >= 0:
        log.warning(
            "caution: %s: its answers reach from %.4g to %.4g and are taken as logits, of which those above 0 are "
            "a yes: unless thresholds are fitted (edgepress calibrate), every label of every picture is answered yes",
            *(model.foreign.source, logits.min(), logits.max()),
        )


def _table(answers: np.ndarray) -> np.ndarray:
    """The outputs as float32 `[N, outputs]`."""
    return answers.reshape(len(answers), -1).astype(np.float32)


def _require_scores(foreign: Foreign, answers: np.ndarray, labels: int) -> None:
    shape = list(answers.shape)
    what = f"{foreign.source}: the output {foreign.output}"
    if answers.dtype.kind != "f":
        raise InputError(
            f"{what} holds {answers.dtype} numbers; expected a score per label in float: say --output, or export "
            f"without what comes after the scores"
        )
    if answers.ndim < 2 or sum(side != 1 for side in shape[1:]) > 1:
        pairs = sorted(shape[1:]) == sorted((2, labels))
        raise InputError(
            f"{what} has the shape {shape} for {shape[0] if shape else 0} pictures; expected [pictures, labels]: "
            + (_PAIRS if pairs else "say --output, or export the model with its pooling and its classifier")
        )
    if (columns := answers[0].size) != labels:
        more = f". {_PAIRS[0].upper()}{_PAIRS[1:]}" if columns == 2 * labels else ""
        raise InputError(
            f"{what} has {columns} columns for {labels} labels; expected one for each: say --labels with the model's "
            f"own labels, or --output{more}"
        )


def _require_finite(foreign: Foreign, logits: np.ndarray) -> None:
    if not np.isfinite(logits).all():
        raise InputError(f"{foreign.source}: gives logits that are NaN or infinite for pictures of the data set")


def _known_activation(foreign: Foreign, answers: np.ndarray) -> Activation:
    """The activation behind the output; an error where the output looks like probabilities and nobody says so."""
    if foreign.activation is not None:
        if foreign.activation != "none" and not (answers.min() >= -_ROUNDED and answers.max() <= 1 + _ROUNDED):
            raise InputError(
                f"{foreign.source}: its answers reach from {answers.min():.4g} to {answers.max():.4g}, and the "
                f"activation {foreign.activation} gives probabilities, from 0 to 1: leave it out for logits"
            )
        return foreign.activation
    if answers.min() >= -_ROUNDED and answers.max() <= 1 + _ROUNDED:
        raise InputError(f"{foreign.source}: {IN_UNIT}")
    if answers.shape[1] > 1 and np.abs(np.exp(np.minimum(answers, 1)).sum(axis=1) - 1).max() <= _ROUNDED:
        raise InputError(
            f"{foreign.source}: its answers are logarithms of probabilities that add up to 1, as a LogSoftmax gives "
            f"them: give the scores before it, or say --activation none to take them as logits all the same"
        )
    return "none"


def _answers_of(session: Any) -> Callable[[np.ndarray], np.ndarray]:
    def logits(pixels: np.ndarray) -> np.ndarray:
        return session.run(None, {"images": pixels})[0]

    return logits


def _prove(
    model: Finished, graph: onnx.ModelProto, pixels: np.ndarray, expected: np.ndarray, activation: Activation
) -> None:
    """Stop unless the new graph answers as the model does, in every batch.

    Where the model gives probabilities, a logit may differ if its probability does not: a float32 near 0 or 1 does not
    hold its logit.

    Raises:
        InputError: it does not; names the node with a fixed batch size, where there is one.
    """
    source = model.foreign.source
    session = session_of(graph, source)
    most = EQUAL * max(1.0, float(np.abs(expected).max()))
    for batch in (*BATCHES, len(pixels)):
        try:
            parts = [
                session.run(None, {"images": pixels[at : at + batch]})[0]
                for at in range(0, len(pixels) - batch + 1, batch)
            ]
        except Exception as error:  # its own types, without a common base
            raise InputError(_baked(model, graph, batch)) from error
        found = np.concatenate(parts)
        if found.shape != expected[: len(found)].shape:
            raise InputError(_baked(model, graph, batch))
        apart = np.abs(found - expected[: len(found)])
        if activation != "none":
            apart[np.abs(sigmoid(found) - sigmoid(expected[: len(found)])) <= EQUAL_PROBABILITY] = 0
        difference = float(apart.max())
        if not difference <= most:
            where = f"in batches of {batch}" if batch > 1 else "one picture at a time"
            cause = f". {_baked(model, graph, batch)}" if batch > 1 else ""
            raise InputError(
                f"{source}: {where} its logits differ by up to {difference:.3g} from those that it gives by itself; at "
                f"most {most:.3g} is allowed{cause}"
            )


def _baked(model: Finished, graph: onnx.ModelProto, batch: int) -> str:
    written = model.foreign.batch or 1
    node = _fixed(graph, written)
    what = "" if node is None else f"; the {node.op_type} {node.name!r} has the batch {written} in it{_line(node)}"
    return f"{model.foreign.source}: does not take {plural(batch, 'picture')} at once{what}. {model.free_batch}"


def _fixed(graph: onnx.ModelProto, batch: int) -> onnx.NodeProto | None:
    """The first node that a batch of this size is written into: the shape that it makes, or a constant for each
    picture."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.graph.node
        if node.op_type == "Constant" and node.attribute[0].HasField("t")
    }
    for node in graph.graph.node:
        given = [constants[name] for name in node.input if name in constants]
        if node.op_type in ("Reshape", "Expand", "ConstantOfShape", "Tile"):
            targets = [numpy_helper.to_array(tensor).ravel() for tensor in given if tensor.data_type == tensor.INT64]
            if any(target.size and target[0] == batch for target in targets):
                return node
        elif node.op_type == "Concat":
            beside = node.attribute[0].i != 0 and any(tensor.dims[:1] == [batch] for tensor in given)
            if beside or len(node.input) == batch > 1:
                return node
        elif batch > 1 and node.op_type in ("Add", "Mul", "Sub", "Div", "Where"):  # noqa: SIM102 # like the others
            if any(len(tensor.dims) > 1 and tensor.dims[0] == batch for tensor in given):
                return node
    return None


def _line(node: onnx.NodeProto) -> str:
    """Where in its owner's code a node comes from, as torch's exporter tells it."""
    said = next((entry.value for entry in node.metadata_props if entry.key == TRACE), "").strip().splitlines()
    place = re.search(r'([^/\\"]+)", line (\d+)', said[-2]) if len(said) > 1 else None
    return f" ({place[1]}, line {place[2]}: {said[-1].strip()[:80]})" if place else ""
