"""LiteRT's engines: a float ONNX bundle as a .tflite file that phones and boards open, with its reference."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Literal

from edgepress.deploy.build.compile import decisions_of, derived_bundle, kept_engine, require_float_onnx, tools_of
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.litert_model import litert_model, quantizer_model, require_converter
from edgepress.multilabel.manifest import BuiltForLiteRt

TFLITE = "model.tflite"
TOOLS = {"fp32": ("onnx2tf", "ai-edge-litert"), "fp16": ("onnx2tf", "litert-quantizer", "ai-edge-litert")}
"""The packages that make an engine, by its precision."""


def compile_litert(
    parent: Bundle, out: Path, precision: Literal["fp32", "fp16"], *, replaces: Bundle | None = None
) -> Bundle:
    """Convert an fp32 ONNX bundle to LiteRT's format, with the weights of its products stored in `precision`.

    Args:
        replaces: an engine that this one replaces, keeping its decisions, even if it was made from the same inputs.

    Raises:
        InputError: the parent is no fp32 ONNX bundle, its graph cannot be converted, or the converted model answers
            otherwise.
        EngineUnavailableError: what converts is not installed; says how to install it.
    """
    require_float_onnx(parent)
    require_converter()
    decisions = decisions_of(replaces, parent)
    tools = tools_of(*TOOLS[precision])
    made_of = {"parent": parent.model_digest, "precision": precision, "tools": tools}
    inputs = inputs_hash({**made_of, **decisions})
    if replaces is None and (made := kept_engine(parent, out, inputs)) is not None:
        return made
    model = litert_model(parent.model_path)
    if precision == "fp16":
        model = with_half_weights(model)
    with derived_bundle(
        parent,
        out,
        kind="litert",
        precision=precision,
        model=TFLITE,
        built_for=built_for_litert(parent),
        tools=tools,
        inputs=inputs,
        **decisions,
    ) as folder:
        (folder / TFLITE).write_bytes(model)
    return Bundle.open(out)


def with_half_weights(model: bytes) -> bytes:
    """A float32 LiteRT model with the weights of its products in half precision, which LiteRT widens as it opens it.

    It computes in float32. onnx2tf's own float16 file holds half-precision operators, which XNNPACK computes slower
    than float32 on a processor that has none.
    """
    from litert_quantizer import qtyping, quantizer

    half = quantizer.Quantizer(bytearray(model))
    for product in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        half.add_weight_only_config(
            ".*", qtyping.TFLOperationName(product), num_bits=16, algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING
        )
    return quantizer_model(half)


def built_for_litert(parent: Bundle) -> BuiltForLiteRt:
    """The passport of a bundle that is made here from an ONNX bundle."""
    return BuiltForLiteRt(version=version("ai-edge-litert"), onnx_sha256=parent.model_sha256)
