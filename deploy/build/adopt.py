"""adopt: make a bundle that every later stage takes from a finished ONNX tagger of somebody's own.

The graph gets the front that every engine has: uint8 pictures NHWC, normalisation inside, logits out, a batch of any
size. Its answers are then proven equal to those of the file itself, run as its owner runs it.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.deploy.build.foreign import Activation, AdoptConfig, Foreign, read_foreign
from edgepress.deploy.build.front import fronted, logits_of, normalised
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.golden import GOLDEN, PICTURES, Golden
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, up_to_date, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.reached import answer_split, compare_relatives, tell_reached, tell_relatives

if TYPE_CHECKING:
    import onnx

log = logging.getLogger("edgepress")
MODEL = "model.onnx"
EQUAL = 1e-5
"""Largest difference of a logit, as a share of the largest logit, between the file's own answer and the bundle's."""
BATCHES = (1, 2, 5)
"""Batch sizes that the new graph is tried with."""
_FEW = 32


def adopt_onnx(
    file: Path, verified: MultiLabelDataset, out: Path, *, labels: LabelSpace | None, config: AdoptConfig
) -> Bundle:
    """Make a bundle of kind onnx (fp32) from a finished ONNX model.

    Args:
        file: the ONNX model, with its external data beside it.
        verified: the split that its engines will be verified on; its labels are among the model's.
        labels: the names of the model's outputs, in order; None where its metadata has them.
        config: what the graph does not say.

    Raises:
        InputError: a needed setting is not given, the graph's batch size cannot be made free, or its answers with the
            new front differ from those without.
        EngineUnavailableError: onnx or onnxruntime is not installed.
    """
    for module in ("onnx", "onnxruntime"):
        require(module, "quantize")
    foreign = read_foreign(file, config)
    preprocess = _preprocess(foreign, config)
    names = labels or _own_labels(foreign)
    columns = [names.index(name) for name in verified.labels.names] if set(verified.labels) <= set(names) else None
    if columns is None:
        names.require_equal(verified.labels, f"the model {file}", f"the data set {verified.root}")
    inputs = inputs_hash(
        {
            "adopted": file_sha256(file),
            "external": _external(foreign),
            "labels": names.names,
            "config": config.model_dump(mode="json"),
            "verified": verified.fingerprint(),
            "golden": PICTURES,
            "tools": [version("onnx"), version("onnxruntime"), version("edgepress")],
        }
    )
    if (made := up_to_date(out, inputs)) is not None:
        return made
    owner = _Owner(foreign, config)
    few = np.stack([preprocess(verified.picture(row)) for row in range(min(_FEW, len(verified)))])
    if len(few) < max(BATCHES):
        raise InputError(f"{verified.root}, split {verified.split!r}: {len(few)} pictures; {max(BATCHES)} are needed")
    activation = _known_activation(foreign, config, owner.answers(few), len(names))
    assert columns is not None
    graph = fronted(foreign, preprocess, config, activation, columns, len(names))

    def answer(pixels: np.ndarray) -> np.ndarray:
        return logits_of(owner.answers(pixels), activation)[:, columns]

    _prove(foreign, graph, few, answer(few))
    logits = answer_split(answer, preprocess, verified)
    if not np.isfinite(logits).all():
        raise InputError(f"{file}: gives logits that are not finite for pictures of {verified.root}")
    if left := len(names) - len(columns):
        log.info("%d of the model's %d labels are not among the data set's; the graph drops them", left, len(names))
    tell_reached(file.name, verified, logits)
    tell_relatives(
        file.name,
        compare_relatives(answer, preprocess, verified, colors=config.colors, fractional=foreign.dtype == "float32"),
    )
    with write_bundle(
        out,
        kind="onnx",
        precision="fp32",
        model=MODEL,
        labels=verified.labels.names,
        preprocess=preprocess,
        opset=next(one.version for one in graph.opset_import if one.domain in ("", "ai.onnx")),
        facts={"backbone": f"adopted from {file.name}"},
        tools={name: version(name) for name in ("onnx", "onnxruntime", "edgepress")},
        inputs=inputs,
    ) as (folder, _):
        import onnx

        onnx.save(graph, str(folder / MODEL))
        Reference.of(verified, logits).save(folder / REFERENCE)
        Golden.drawn(verified, preprocess, logits).save(folder / GOLDEN)
    return Bundle.open(out)


def _preprocess(foreign: Foreign, config: AdoptConfig) -> Preprocess:
    if foreign.dtype == "uint8":
        if config.mean or config.std:
            raise InputError(f"{foreign.file}: takes uint8, so it normalises by itself; leave out --mean and --std")
        return Preprocess(size=foreign.size, resize=config.resize, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if config.mean is None or config.std is None:
        raise InputError(
            f"{foreign.file}: takes float32 and does not say how pixels are normalised: say --mean and --std, such as "
            f"--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 (torchvision, most of timm), --mean 0,0,0 --std 1,1,1 "
            f"for 0..1"
        )
    return Preprocess(size=foreign.size, resize=config.resize, mean=config.mean, std=config.std)


def _own_labels(foreign: Foreign) -> LabelSpace:
    if foreign.labels is None:
        raise InputError(
            f"{foreign.file}: does not name its outputs: say --labels FILE, one name per line in the order of the "
            f"outputs (the data set's own labels.txt, if the model was trained with it)"
        )
    return LabelSpace(foreign.labels)


def _external(foreign: Foreign) -> list[str]:
    places = {
        entry.value
        for tensor in foreign.model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [file_sha256(foreign.file.parent / place) for place in sorted(places)]


class _Owner:
    """The file itself in ONNX Runtime, fed as its owner feeds it; the bundle is compared with it."""

    def __init__(self, foreign: Foreign, config: AdoptConfig) -> None:
        self.foreign, self.config = foreign, config
        self.session = session_of(foreign.model, foreign.file)

    def answers(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 RGB `[N, size, size, 3]` to the chosen output, float32 `[N, outputs]`."""
        fed = normalised(pixels, self.foreign, self.config)
        batch = self.foreign.batch or len(fed)
        parts = []
        for start in range(0, len(fed), batch):
            part = fed[start : start + batch]
            whole = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            found = self.session.run([self.foreign.output], {self.foreign.input: whole})[0]
            if found.ndim != 2 or len(found) != batch:
                raise InputError(
                    f"{self.foreign.file}: the output {self.foreign.output} has the shape {list(found.shape)} for "
                    f"{batch} pictures; expected [{batch}, labels]: say --output, or export without what comes after"
                )
            parts.append(found[: len(part)])
        return np.concatenate(parts).astype(np.float32)


def session_of(model: onnx.ModelProto, file: Path):
    """An ONNX Runtime session of a graph; the error of a refused graph names the file it came from."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own types, without a common base
        raise InputError(f"{file}: ONNX Runtime refuses it: {' '.join(str(error).split())[:300]}") from error


def _known_activation(foreign: Foreign, config: AdoptConfig, answers: np.ndarray, names: int) -> Activation:
    """The activation behind the output; an error where the output looks like probabilities and nobody says so."""
    if answers.shape[1] != names:
        raise InputError(
            f"{foreign.file}: the output {foreign.output} has {answers.shape[1]} columns for {names} labels; expected "
            f"one for each: say --labels with the model's own labels, or --output"
        )
    if foreign.activation is not None:
        return foreign.activation
    if answers.min() >= 0 and answers.max() <= 1:
        raise InputError(
            f"{foreign.file}: all answers for {len(answers)} pictures are within 0..1, as probabilities are, and no "
            f"Sigmoid or Softmax comes last: say --activation sigmoid, softmax, or none for logits"
        )
    return "none"


def _prove(foreign: Foreign, graph: onnx.ModelProto, pixels: np.ndarray, expected: np.ndarray) -> None:
    """Stop unless the new graph answers as the file does, in every batch.

    Raises:
        InputError: it does not; names the node with a fixed batch size, where there is one.
    """
    session = session_of(graph, foreign.file)
    most = EQUAL * max(1.0, float(np.abs(expected).max()))
    for batch in BATCHES:
        try:
            parts = [
                session.run(None, {"images": pixels[at : at + batch]})[0]
                for at in range(0, len(pixels) - batch + 1, batch)
            ]
        except Exception as error:  # its own types, without a common base
            raise InputError(_baked(foreign, graph, batch)) from error
        found = np.concatenate(parts)
        if found.shape != expected[: len(found)].shape:
            raise InputError(_baked(foreign, graph, batch))
        difference = float(np.abs(found - expected[: len(found)]).max())
        if not difference <= most:
            where = f"in batches of {batch}" if batch > 1 else "one picture at a time"
            raise InputError(
                f"{foreign.file}: {where} its logits differ by up to {difference:.3g} from those that it gives by "
                f"itself; at most {most:.3g} is allowed. {_baked(foreign, graph, batch)}"
            )


def _baked(foreign: Foreign, graph: onnx.ModelProto, batch: int) -> str:
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.graph.node if node.op_type == "Constant"}
    named = ""
    for node in graph.graph.node:
        if node.op_type not in ("Reshape", "Expand") or node.input[1] not in constants:
            continue
        target = numpy_helper.to_array(constants[node.input[1]])
        if target.size and target.flat[0] == (foreign.batch or 1):
            named = f"; the {node.op_type} {node.name or node.output[0]!r} has the batch {int(target.flat[0])} in it"
            break
    return (
        f"{foreign.file}: does not take {batch} pictures at once{named}. Export it with a free batch: dynamic_shapes="
        f'{{"{foreign.input}": {{0: torch.export.Dim("batch")}}}}, or with dynamo=False '
        f'dynamic_axes={{"{foreign.input}": {{0: "batch"}}}}'
    )
