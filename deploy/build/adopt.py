"""adopt: make a bundle that every later stage takes from a finished ONNX tagger of somebody's own."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np

from edgepress.deploy.build.foreign import AdoptConfig, Foreign, read_foreign
from edgepress.deploy.build.front import normalised
from edgepress.deploy.build.golden_pictures import version_of
from edgepress.deploy.build.own_file import load, run_on, session_of
from edgepress.deploy.build.wrap import Finished, wrap
from edgepress.deploy.engines.base import require
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, up_to_date
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace, one_form
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.versions import package_version

log = logging.getLogger("edgepress")
_TOOLS = ("onnx", "onnxruntime", "edgepress")
_FEW = 8
"""Pictures on which ONNX Runtime's graph optimisations are tried."""
_FUSED = 1e-3
"""Share of the largest answer by which fused operators, which sum in another order, may differ."""


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
        InputError: a needed setting is not given; see also `read_foreign` and `wrap`.
        EngineUnavailableError: onnx or onnxruntime is not installed.
    """
    for module in ("onnx", "onnxruntime"):
        require(module, "quantize")
    foreign = read_foreign(file, config, named=labels is not None)
    preprocess = _preprocess(foreign, config)
    answers = _Session(foreign, preprocess)
    if labels is None:
        assert foreign.labels is not None
        try:
            labels = LabelSpace(foreign.labels)
        except InputError as error:
            raise InputError(f"{file}: the names in its metadata: {error}; say --labels FILE") from None
    model = Finished(
        name=file.name,
        foreign=foreign,
        preprocess=preprocess,
        labels=labels,
        keep_labels=config.keep_labels,
        generated_pictures=config.generated_pictures,
        free_batch=(
            f'Export it with a free batch: dynamic_shapes={{"{foreign.input}": {{0: torch.export.Dim("batch")}}}}, or '
            f'with dynamo=False dynamic_axes={{"{foreign.input}": {{0: "batch"}}}}'
        ),
        answers=answers,
    )
    _tell_other_names(model)
    model.columns(verified)  # so that other labels are told before anything else
    inputs = inputs_hash(
        {
            "adopted": file_sha256(file),
            "external": [file_sha256(file.parent / place) for place in foreign.external],
            "labels": model.labels.names,
            "config": config.model_dump(mode="json"),
            "verified": verified.fingerprint(),
            "golden": version_of(config.generated_pictures),
            "tools": [package_version(name) for name in _TOOLS],
        }
    )
    if (made := up_to_date(out, inputs)) is not None:
        return made
    bundle = wrap(model, verified, out, inputs=inputs, tools=_TOOLS)
    _tell_answers(file, answers, verified)
    return bundle


def _preprocess(foreign: Foreign, config: AdoptConfig) -> Preprocess:
    if foreign.dtype == "uint8":
        if config.mean or config.std:
            raise InputError(f"{foreign.source}: takes uint8, so it normalises by itself; leave out --mean and --std")
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        assert config.mean is not None
        assert config.std is not None
        mean, std = config.mean, config.std
    scaled = config.model_dump(include={"resize", "crop_fraction", "interpolation"})
    return Preprocess.stated(foreign.source, size=foreign.size, **scaled, mean=mean, std=std)


def _tell_other_names(model: Finished) -> None:
    own = model.foreign.labels
    if own is None or tuple(map(one_form, own)) == model.labels.names:
        return
    pairs = itertools.zip_longest(own, model.labels, fillvalue="nothing")
    place, (theirs, ours) = next((at, pair) for at, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
    log.warning(
        "caution: %s calls its output %d %r, and --labels calls it %r: --labels is taken; leave it out to take the "
        "file's own names",
        model.name, place, theirs, ours,
    )  # fmt: skip


def _tell_answers(file: Path, model: _Session, verified: MultiLabelDataset) -> None:
    """Tell what a few answers show of the file."""
    pixels = np.stack([model.preprocess(verified.picture(row)) for row in range(min(_FEW, len(verified)))])
    _tell_decided(model, pixels)
    _tell_optimised(model, pixels)
    if model.foreign.half:
        _tell_widened(file, model, pixels)


def _tell_decided(model: _Session, pixels: np.ndarray) -> None:
    """Tell where a graph ends in decisions: every answer is one of two numbers, which rank no picture above another.

    Args:
        pixels: a few pictures, `[N, size, size, 3]`, as are those of the functions below.
    """
    values = np.unique(model(pixels).astype(np.float32))
    if len(pixels) > 1 and len(values) <= 2:
        log.warning(
            "%s: all its answers for %d pictures are %s, as decisions are. mAP, thresholds and probabilities need "
            "scores: say by --output which tensor has them before a threshold makes decisions of them, or export the "
            "model without the threshold",
            model.foreign.source, len(pixels), " or ".join(f"{value:g}" for value in values),
        )  # fmt: skip


def _tell_optimised(model: _Session, pixels: np.ndarray) -> None:
    """Tell where ONNX Runtime's graph optimisations, which are its default, change what the operators mean.

    They do for some graphs (onnxruntime 1.32.0: findings/onnxruntime-shape-of-ceil-pooling.sh and
    findings/onnxruntime-any-power-is-a-layer-norm.sh), and nothing that compares two optimised graphs sees it.
    """
    default, plain = model(pixels), _Session(model.foreign, model.preprocess, optimised=False)(pixels)
    apart = float(np.abs(default.astype(np.float32) - plain.astype(np.float32)).max())
    if not apart <= _FUSED * max(1.0, float(np.abs(plain).max())):
        log.warning(
            "%s: with its graph optimisations, which are its default, ONNX Runtime %s answers up to %.3g apart from "
            "what the graph's operators mean (its answers without them). The bundle answers as ONNX Runtime does by "
            "default: compare its answers with those of the program that the model was trained with, and export the "
            "model with other operators if they differ",
            model.foreign.source, package_version("onnxruntime"), apart,
        )  # fmt: skip


def _tell_widened(file: Path, model: _Session, pixels: np.ndarray) -> None:
    """Say that a file which computes in float16 was taken in float32, and by how much the answers differ."""
    fed = normalised(pixels, model.foreign, model.preprocess)
    what = "it is taken in float32, with the same weights"
    try:
        half, _ = load(file)
        if model.foreign.output not in [value.name for value in half.graph.output] or model.foreign.batch is not None:
            log.info("%s: computes in float16; %s", file.name, what)
            return
        session = session_of(half, str(file))
        (pictures,) = [value for value in session.get_inputs() if value.name == model.foreign.input]
        if pictures.type == "tensor(float16)":
            fed = fed.astype(np.float16)
        theirs = run_on(session, str(file), pictures.name, model.foreign.output, fed).astype(np.float32)
    except InputError as error:  # the bundle is whole, and this is a remark on it
        log.info("%s: computes in float16; %s. Nothing is compared with the file as it is: %s", file.name, what, error)
        return
    apart = float(np.abs(theirs - model(pixels).astype(np.float32)).max())
    log.info("%s: computes in float16; %s, and %d answers differ by up to %.2g", file.name, what, theirs.size, apart)


class _Session:
    """The file itself in ONNX Runtime, fed as its owner feeds it; or without ONNX Runtime's graph optimisations."""

    def __init__(self, foreign: Foreign, preprocess: Preprocess, *, optimised: bool = True) -> None:
        self.foreign, self.preprocess = foreign, preprocess
        self.session = session_of(foreign.model, foreign.source, optimised=optimised)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """RGB pictures `[N, size, size, 3]` to the chosen output, in batches of the size that the graph fixes."""
        fed = normalised(pixels, self.foreign, self.preprocess)
        batch = self.foreign.batch or len(fed)
        parts = []
        for start in range(0, len(fed), batch):
            part = fed[start : start + batch]
            whole = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            found = run_on(self.session, self.foreign.source, self.foreign.input, self.foreign.output, whole)
            if not found.ndim or len(found) != batch:
                raise InputError(
                    f"{self.foreign.source}: the output {self.foreign.output} has the shape {list(found.shape)} for "
                    f"{batch} pictures; expected [{batch}, labels]: say --output, or export it without what comes "
                    f"after the scores"
                )
            parts.append(found[: len(part)])
        return np.concatenate(parts)
