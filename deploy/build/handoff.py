"""What the layouts for other programs share: a folder that is complete or absent, and one limit per logit.

Other programs compare a score with one number. `yes_above_zero` gives a scale and an offset per label with which a
logit becomes a score that is above 0 where the bundle answers yes: calibration and thresholds are in it. The layouts
build these two numbers into the copy of the model that they write; the bundle's own model stays as it is, because
decisions may be fitted again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.decisions import Affine, Decisions
from edgepress.multilabel.durable import give_name
from edgepress.multilabel.errors import InputError, shown

SURE = 100.0
"""The score of a label that is always, and minus that of one that is never, answered yes."""
_RESIZE_TYPES = {"squash": "standard", "crop": "crop", "letterbox": "fit_to_window_letterbox"}
"""Model API's words. Its `crop` takes the whole shorter side; its letterbox is black, as ours is."""
_HIGHEST = 1e4
"""Logits between which the limit of an isotonic calibration is sought."""


@contextlib.contextmanager
def new_folder(out: Path, what: str) -> Iterator[Path]:
    """Yield a hidden folder that gets the name `out` when the block ends; after an error nothing is left of it.

    Raises:
        InputError: `out` holds something; the message says that a folder for `what` was expected.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: not an empty folder; name a new folder for {what}")
    partial = out.parent / f".{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        give_name(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_kind(bundle: Bundle, program: str, *served: tuple[str, Sequence[str]]) -> None:
    """Stop unless a program serves bundles of this kind and precision.

    Args:
        served: each kind with its precisions.

    Raises:
        InputError: it does not; says which it serves.
    """
    kind, precision = bundle.manifest.kind, bundle.manifest.precision
    if not any(kind == one and precision in precisions for one, precisions in served):
        told = "; ".join(f"{one}: {', '.join(precisions)}" for one, precisions in served)
        first = "; export it first" if kind == "torch" else ""
        raise InputError(f"{bundle.path}: a bundle of kind {kind}, {precision}; {program} serves {told}{first}")


def require_single_answers(bundle: Bundle, program: str) -> None:
    """Stop where labels exclude or imply each other, which a program that looks at each label alone cannot keep.

    Raises:
        InputError: they do; names some.
    """
    groups = bundle.decisions.groups
    if groups:
        raise InputError(
            f"{bundle.path}: its labels exclude or imply each other ({shown(groups.names)}), and {program} decides "
            "each label alone; take --layout triton or ovms and decide as docs/bundle.md says"
        )


def yes_above_zero(decisions: Decisions) -> tuple[np.ndarray, np.ndarray]:
    """A scale and an offset per label, float64 `[C]`: scale · logit + offset is at least 0 where the label is yes.

    Of an affine calibration the score is the log-odds of the calibrated probability less those of the threshold. Of an
    isotonic one, which is not linear, it is the logit less the one at which the probability reaches the threshold.
    """
    thresholds = np.array(decisions.thresholds)
    count = len(thresholds)
    calibrator = decisions.calibrator
    if isinstance(calibrator, Affine):
        with np.errstate(divide="ignore"):
            limit = np.log(thresholds) - np.log1p(-np.minimum(thresholds, 1))
        scale, offset = np.array(calibrator.slopes), np.array(calibrator.offsets) - limit
    else:
        low, high = np.full(count, -_HIGHEST), np.full(count, _HIGHEST)
        for _ in range(100):
            middle = (low + high) / 2
            reached = calibrator(middle[None])[0] >= thresholds
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        scale, offset = np.ones(count), -high
    always, never = thresholds <= 0, thresholds > 1
    scale = np.where(always | never, 0.0, scale)
    return scale, np.where(always, SURE, np.where(never, -SURE, np.clip(offset, -_HIGHEST, _HIGHEST)))


def one_word(labels: Sequence[str]) -> list[str]:
    """The labels without white space, each unlike the others, for programs that part a list at spaces."""
    words: list[str] = []
    for label in labels:
        word = plain = "_".join(label.split())
        number = 2
        while word in words or (word != label and word in labels):
            word, number = f"{plain}_{number}", number + 1
        words.append(word)
    return words


def model_info(bundle: Bundle) -> dict[str, str]:
    """What OpenVINO Model API reads of a model, and for other programs the bundle's own labels and preprocessing.

    The keys are those of `model_api.models.parameters` (openvino-model-api 0.4.7). A list is parted at spaces
    (`findings/openvino-model-api-labels-with-a-space.sh`), so labels are written without.
    """
    preprocess = bundle.preprocess
    return {
        "model_type": "Classification",
        "multilabel": "True",
        "labels": " ".join(one_word(bundle.labels.names)),
        "confidence_threshold": "0.5",
        "output_raw_scores": "True",
        "resize_type": _RESIZE_TYPES[preprocess.resize],
        "edgepress_size": str(preprocess.size),
        "edgepress_resize": preprocess.resize,
        "edgepress_interpolation": preprocess.interpolation,
        "edgepress_labels": json.dumps(bundle.labels.names, ensure_ascii=False),
        "edgepress_preprocess": preprocess.model_dump_json(),
        "edgepress_bundle": bundle.digest,
    }


def with_scores(graph: Any, scale: np.ndarray, offset: np.ndarray, logits: str, scores: str) -> None:
    """Append scale · logit + offset to an onnx.ModelProto, in place; its output is then `scores`, not `logits`."""
    import onnx

    for name, values in (("edgepress_scale", scale), ("edgepress_offset", offset)):
        graph.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32)[None], name))
    graph.graph.node.append(onnx.helper.make_node("Mul", [logits, "edgepress_scale"], ["edgepress_scaled"]))
    graph.graph.node.append(onnx.helper.make_node("Add", ["edgepress_scaled", "edgepress_offset"], [scores]))
    (output,) = graph.graph.output
    output.name = scores
