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

import numpy as np

from calibration.openvino import OpenVinoQuantizer
from calibration.qdq import Method, OnnxQuantizer, Target, check_qdq

log = logging.getLogger("edgepress")

METHODS: tuple[Method, ...] = ("minmax", "percentile")
MOST_FLOAT = 0.10
"""Largest share of convolutions that may be left in float."""


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
    evaluate: Callable[[Path], float],
    float_map: float,
    tolerance: float = 0.005,
) -> Quantized:
    """Write the INT8 model with the best val mAP that this search finds.

    Min-max and percentile ranges are tried with every convolution quantised. Where the better still loses more than
    `tolerance`, its noisiest convolutions are left in float, at most `MOST_FLOAT` of them, if that helps on val.

    Args:
        model: the fp32 ONNX file.
        out: file to write, .onnx, or .xml for OpenVINO.
        images: uint8 calibration pictures `[N, size, size, 3]`.
        target: the runtime that will execute it.
        evaluate: a model file to its mAP in [0, 1] on val.
        float_map: the fp32 model's mAP in [0, 1] on val.
        tolerance: loss of val mAP that needs no further search.

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
        tried: dict[tuple[Method, tuple[str, ...]], tuple[float, Path]] = {}

        def attempt(method: Method, kept: tuple[str, ...]) -> None:
            file = folder / str(len(tried)) / out.name
            file.parent.mkdir()
            with contextlib.redirect_stdout(io.StringIO()):  # both quantisers print as they go
                quantizer.quantize(file, method, kept)
            tried[method, kept] = (evaluate(file), file)
            log.info(
                "  int8 for %s, %s ranges, %d of %d convolutions in float: val mAP %.2f (fp32 %.2f)",
                target,
                method,
                len(kept),
                len(quantizer.convolutions),
                100 * tried[method, kept][0],
                100 * float_map,
            )

        for method in METHODS:
            attempt(method, ())
        best = max(tried, key=lambda key: tried[key][0])
        most = int(MOST_FLOAT * len(quantizer.convolutions))
        if float_map - tried[best][0] > tolerance and most:
            kept = quantizer.noisiest(tried[best][1], most)
            if kept:
                attempt(best[0], kept)
            best = max(tried, key=lambda key: tried[key][0])
        value, file = tried[best]
        kept_float = quantizer.float_convolutions(file)
        for suffix in (out.suffix, ".bin") if target == "openvino" else (out.suffix,):
            shutil.copyfile(file.with_suffix(suffix), out.with_suffix(suffix))
    if target != "openvino":
        check_qdq(out, target)
    return Quantized(method=best[0], kept_float=kept_float, convolutions=len(quantizer.convolutions), val_mAP=value)
