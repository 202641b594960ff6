"""ncnn's engines: a float ONNX bundle as a .param and a .bin file, with its reference."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Literal

from edgepress.deploy.build.compile import decisions_of, derived_bundle, kept_engine, require_float_onnx, tools_of
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.manifest import BuiltForNcnn
from edgepress.multilabel.ncnn_model import ncnn_model, require_pnnx

PARAM, BIN = "model.param", "model.bin"
TOOLS = ("pnnx", "ncnn")


def compile_ncnn(
    parent: Bundle, out: Path, precision: Literal["fp32", "fp16"], *, replaces: Bundle | None = None
) -> Bundle:
    """Convert an fp32 ONNX bundle to ncnn's format, with the weights of its products stored in `precision`.

    Args:
        replaces: an engine that this one replaces, keeping its decisions, even if it was made from the same inputs.

    Raises:
        InputError: the parent is no fp32 ONNX bundle, its graph cannot be converted, or the converted model answers
            otherwise.
        EngineUnavailableError: what converts is not installed; says how to install it.
    """
    require_float_onnx(parent)
    require_pnnx()
    decisions = decisions_of(replaces, parent)
    tools = tools_of(*TOOLS)
    inputs = inputs_hash({"parent": parent.model_digest, "precision": precision, "tools": tools, **decisions})
    if replaces is None and (made := kept_engine(parent, out, inputs)) is not None:
        return made
    graph, weights = ncnn_model(parent.model_path, half=precision == "fp16")
    with derived_bundle(
        parent,
        out,
        kind="ncnn",
        precision=precision,
        model=PARAM,
        built_for=built_for_ncnn(parent),
        tools=tools,
        inputs=inputs,
        **decisions,
    ) as folder:
        (folder / PARAM).write_bytes(graph)
        (folder / BIN).write_bytes(weights)
    return Bundle.open(out)


def built_for_ncnn(parent: Bundle) -> BuiltForNcnn:
    """The passport of a bundle that is made here from an ONNX bundle."""
    return BuiltForNcnn(version=version("ncnn"), onnx_sha256=parent.model_sha256)
