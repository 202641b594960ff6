"""compile: convert an ONNX bundle to what a runtime loads fastest, with the reference that proves it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from edgepress.deploy.build.reference import REFERENCE
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.golden import GOLDEN
from edgepress.deploy.engines.passport import platform_here
from edgepress.multilabel.bundle import Bundle, inputs_hash, up_to_date, write_bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.manifest import BuiltForOpenVino
from edgepress.multilabel.openvino_model import openvino_model

log = logging.getLogger("edgepress")

IR = "model.xml"
ONNX = "model.onnx"


def compile_fp16(parent: Bundle, out: Path) -> Bundle:
    """Make the typed half-precision graph of an fp32 ONNX bundle: float16 inside, uint8 in and float32 out as before.

    Raises:
        InputError: the parent is no fp32 ONNX bundle.
        EngineUnavailableError: onnx or onnxruntime is not installed.
    """
    _require_float_onnx(parent)
    require_fp16()
    inputs = inputs_hash({"parent": parent.digest, "make": "fp16", "tools": _tools("onnx", "onnxruntime")})
    if (made := up_to_date(out, inputs)) is not None:
        return made
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = convert_float_to_float16(onnx.load(str(parent.model_path)), keep_io_types=True)
    with derived_bundle(
        parent, out, kind="onnx", precision="fp16", model=ONNX, tools=_tools("onnx", "onnxruntime"), inputs=inputs
    ) as (folder, _):
        onnx.save(graph, str(folder / ONNX))
    return Bundle.open(out)


def require_fp16() -> None:
    """Stop if the packages that make half-precision graphs are not installed.

    Raises:
        EngineUnavailableError: they are not; names the extra to install.
    """
    for module in ("onnx", "onnxruntime"):
        require(module, "quantize")


def compile_openvino(
    parent: Bundle, out: Path, precision: Literal["fp32", "fp16"], *, replaces: Bundle | None = None
) -> Bundle:
    """Convert an fp32 ONNX bundle to OpenVINO's format, with its weights stored in `precision`.

    Args:
        replaces: an engine that this one replaces, keeping its decisions, even if it was made from the same inputs.

    Raises:
        InputError: the parent is no fp32 ONNX bundle.
        EngineUnavailableError: openvino is not installed.
        OSError: it cannot be written, as on a full disk.
    """
    _require_float_onnx(parent)
    require("openvino", "openvino")
    decisions = decisions_of(replaces, parent)
    inputs = inputs_hash({"parent": parent.digest, "precision": precision, "tools": _tools("openvino"), **decisions})
    if replaces is None and (made := up_to_date(out, inputs)) is not None:
        return made
    import openvino as ov

    model = openvino_model(parent.model_path)
    with derived_bundle(
        parent,
        out,
        kind="openvino",
        precision=precision,
        model=IR,
        built_for=built_for_openvino(parent),
        tools=_tools("openvino"),
        inputs=inputs,
        **decisions,
    ) as (folder, _):
        try:
            # save_model compresses the weights to half precision by default.
            ov.save_model(model, str(folder / IR), compress_to_fp16=precision == "fp16")
        except RuntimeError as error:  # its only message for a full disk is "iostream error"
            reason = f"OpenVINO cannot write {IR}: {' '.join(str(error).split())[:200]}; is the disk full?"
            raise OSError(f"{out}: {reason}") from error
    return Bundle.open(out)


def built_for_openvino(parent: Bundle) -> BuiltForOpenVino:
    """The passport of a bundle that the installed OpenVINO compiles from an ONNX bundle."""
    return BuiltForOpenVino(version=version("openvino"), onnx_sha256=parent.model_sha256, platform=platform_here())


def decisions_of(replaces: Bundle | None, parent: Bundle) -> dict[str, Any]:
    """Manifest fields of an engine that replaces another: the other's decisions, unless its parent has the same."""
    if replaces is None or replaces.manifest.decisions == parent.manifest.decisions:
        return {}
    return {"decisions": replaces.manifest.decisions}


@contextlib.contextmanager
def derived_bundle(parent: Bundle, out: Path, **fields: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Call `write_bundle` with what a model inherits from its parent: labels, preprocess, reference, ..."""
    inherited = {
        "labels": parent.manifest.labels,
        "preprocess": parent.preprocess,
        "decisions": parent.manifest.decisions,
        "parent": parent.as_parent,
        "opset": parent.manifest.opset,
    }
    with write_bundle(out, **{**inherited, **fields}) as (folder, fields_now):
        yield folder, fields_now
        if REFERENCE in parent.manifest.files:
            shutil.copyfile(parent.path / REFERENCE, folder / REFERENCE)
        # An INT8 engine has written its own answers into it.
        if GOLDEN in parent.manifest.files and not (folder / GOLDEN).exists():
            shutil.copyfile(parent.path / GOLDEN, folder / GOLDEN)


def _require_float_onnx(parent: Bundle) -> None:
    if (parent.manifest.kind, parent.manifest.precision) != ("onnx", "fp32"):
        raise InputError(
            f"{parent.path}: a bundle of kind {parent.manifest.kind}, {parent.manifest.precision}; expected onnx, fp32"
        )
    require_logits_alone(parent)


def _tools(*names: str) -> dict[str, str]:
    return {name: version(name) for name in (*names, "edgepress")}
