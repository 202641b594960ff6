"""INT8 graphs, one recipe a target.

One Q/DQ graph does not serve all: ONNX Runtime on x86 is fastest with asymmetric UInt8 activations and quantised
biases; TensorRT takes only symmetric INT8 with zero point 0 and float biases, around Conv, MatMul and Gemm; OpenVINO is
quantised by NNCF in its own representation. Which pictures set the ranges, and how, is tried on val.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibration.openvino import OpenVinoQuantizer
from calibration.qdq import Method, OnnxQuantizer, Target, check_qdq
from multilabel.errors import InputError

log = logging.getLogger("edgepress")

METHODS: tuple[Method, ...] = ("minmax", "percentile")
MOST_FLOAT = 0.10
"""Largest share of convolutions that may be left in float."""


class Score(NamedTuple):
    """What a candidate reaches on val."""

    mAP: float
    """In [0, 1]."""
    sqnr: float
    """Signal to quantisation noise of its logits against the fp32 model's, in dB."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """An INT8 model and how it came to be."""

    method: Method
    kept_float: tuple[str, ...]
    """The convolutions that the written graph has in float: those that were left so, and those the quantiser left."""
    convolutions: int
    val_mAP: float


def quantize(
    model: Path,
    out: Path,
    images: np.ndarray,
    *,
    target: Target,
    evaluate: Callable[[Path], Score],
    float_map: float,
    tolerance: float = 0.005,
) -> Quantized:
    """Write the best INT8 model on val that this search finds.

    Min-max and percentile ranges are tried with every convolution quantised. Of the candidates whose val mAP is within
    `tolerance` of the best, the one with the least noise in its logits is taken: on a few hundred pictures smaller
    differences of mAP are chance. Where it still loses more than `tolerance` against fp32, its noisiest convolutions
    are left in float as well, at most `MOST_FLOAT` of them.

    Args:
        model: the fp32 ONNX file.
        out: file to write, .onnx, or .xml for OpenVINO.
        images: uint8 calibration pictures `[N, size, size, 3]`.
        target: the runtime that will execute it.
        evaluate: a model file to its score on val.
        float_map: the fp32 model's mAP in [0, 1] on val.
        tolerance: difference of val mAP that does not count.

    Raises:
        InputError: the graph has nothing to quantise, or holds zero points that the target misreads.
    """
    with tempfile.TemporaryDirectory(prefix="edgepress-quantize-") as name:
        folder = Path(name)
        quantizer: OnnxQuantizer | OpenVinoQuantizer
        if target == "openvino":
            quantizer = OpenVinoQuantizer(model, folder, images)
        else:
            quantizer = OnnxQuantizer(model, folder, images, target)
        tried: dict[tuple[Method, tuple[str, ...]], tuple[Score, Path]] = {}

        def attempt(method: Method, kept: tuple[str, ...]) -> None:
            file = folder / str(len(tried)) / out.name
            file.parent.mkdir()
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # both quantisers print as they go
                    quantizer.quantize(file, method, kept)
                tried[method, kept] = (evaluate(file), file)
            except InputError:
                raise
            except Exception as error:  # what a quantiser or a runtime raises is its own, and a graph's fault
                reason = " ".join(str(error).split())[:300]
                raise InputError(f"{model}: cannot be quantised for {target}, {method} ranges: {reason}") from error
            log.info(
                "  int8 for %s, %s ranges, %d of %d convolutions in float: val mAP %.2f (fp32 %.2f), %.1f dB",
                target,
                method,
                len(quantizer.float_convolutions(file)),
                len(quantizer.convolutions),
                100 * tried[method, kept][0].mAP,
                100 * float_map,
                tried[method, kept][0].sqnr,
            )

        for method in METHODS:
            attempt(method, ())
        best = _best(tried, tolerance)
        most = int(MOST_FLOAT * len(quantizer.convolutions))
        if float_map - tried[best][0].mAP > tolerance and most:
            kept = quantizer.noisiest(tried[best][1], most)
            if kept:
                attempt(best[0], kept)
            best = _best(tried, tolerance)
        score, file = tried[best]
        kept_float = quantizer.float_convolutions(file)
        for suffix in (out.suffix, ".bin") if target == "openvino" else (out.suffix,):
            shutil.copyfile(file.with_suffix(suffix), out.with_suffix(suffix))
    if target != "openvino":
        check_qdq(out, target)
    return Quantized(method=best[0], kept_float=kept_float, convolutions=len(quantizer.convolutions), val_mAP=score.mAP)


def _best(
    tried: dict[tuple[Method, tuple[str, ...]], tuple[Score, Path]], tolerance: float
) -> tuple[Method, tuple[str, ...]]:
    highest = max(score.mAP for score, _ in tried.values())
    near = [key for key, (score, _) in tried.items() if score.mAP >= highest - tolerance]
    return max(near, key=lambda key: (tried[key][0].sqnr, tried[key][0].mAP))
