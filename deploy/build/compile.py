"""compile: convert an ONNX bundle to what a runtime loads fastest, with the reference that proves it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.passport import platform_here
from edgepress.multilabel.bundle import Bundle, inputs_hash, rewrite_bundle, up_to_date, write_bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.golden_answers import is_proof
from edgepress.multilabel.manifest import BuiltForOpenVino
from edgepress.multilabel.openvino_model import openvino_model
from edgepress.multilabel.versions import package_version

log = logging.getLogger("edgepress")

IR = "model.xml"
ONNX = "model.onnx"


def compile_fp16(parent: Bundle, out: Path) -> Bundle:
    """Make the typed half-precision graph of an fp32 ONNX bundle: float16 inside, uint8 in and float32 out as before.

    Raises:
        InputError: the parent is no fp32 ONNX bundle.
        EngineUnavailableError: onnx or onnxruntime is not installed.
    """
    require_float_onnx(parent)
    require_fp16()
    inputs = inputs_hash({"parent": parent.model_digest, "make": "fp16", "tools": tools_of("onnx", "onnxruntime")})
    if (made := kept_engine(parent, out, inputs)) is not None:
        return made
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = convert_float_to_float16(onnx.load(str(parent.model_path)), keep_io_types=True)
    with derived_bundle(
        parent, out, kind="onnx", precision="fp16", model=ONNX, tools=tools_of("onnx", "onnxruntime"), inputs=inputs
    ) as folder:
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
    require_float_onnx(parent)
    require_openvino()
    decisions = decisions_of(replaces, parent)
    made_of = {"parent": parent.model_digest, "precision": precision, "tools": tools_of("openvino")}
    inputs = inputs_hash({**made_of, **decisions})
    if replaces is None and (made := kept_engine(parent, out, inputs)) is not None:
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
        tools=tools_of("openvino"),
        inputs=inputs,
        **decisions,
    ) as folder:
        try:
            # save_model compresses the weights to half precision by default.
            ov.save_model(model, str(folder / IR), compress_to_fp16=precision == "fp16")
        except RuntimeError as error:  # its only message for a full disk is "iostream error"
            reason = f"OpenVINO cannot write {IR}: {' '.join(str(error).split())[:200]}; is the disk full?"
            raise OSError(f"{out}: {reason}") from error
    return Bundle.open(out)


def require_openvino() -> None:
    """Stop if OpenVINO is not installed.

    Raises:
        EngineUnavailableError: it is not; names the extra to install.
    """
    require("openvino", "openvino")


def built_for_openvino(parent: Bundle) -> BuiltForOpenVino:
    """The passport of a bundle that the installed OpenVINO compiles from an ONNX bundle."""
    return BuiltForOpenVino(version=version("openvino"), onnx_sha256=parent.model_sha256, platform=platform_here())


def decisions_of(replaces: Bundle | None, parent: Bundle) -> dict[str, Any]:
    """Manifest fields of an engine that replaces another: the other's decisions, unless its parent has the same."""
    if replaces is None or replaces.manifest.decisions == parent.manifest.decisions:
        return {}
    return {"decisions": replaces.manifest.decisions}


def kept_engine(parent: Bundle, out: Path, inputs: str) -> Bundle | None:
    """The finished engine that was made from these inputs, with the decisions that its parent has now; None where it is
    still to be made."""
    made = up_to_date(out, inputs)
    if made is None or made.manifest.parent == parent.as_parent:
        return made
    log.info("%s: takes over the decisions of %s", out, parent.path)
    return rewrite_bundle(made, out, parent=parent.as_parent, decisions=parent.manifest.decisions)


@contextlib.contextmanager
def derived_bundle(parent: Bundle, out: Path, **fields: Any) -> Iterator[Path]:
    """Call `write_bundle` with what a model inherits from its parent: labels, preprocess, reference, ..."""
    inherited = {
        "labels": parent.manifest.labels,
        "preprocess": parent.preprocess,
        "decisions": parent.manifest.decisions,
        "parent": parent.as_parent,
        "opset": parent.manifest.opset,
    }
    with write_bundle(out, **{**inherited, **fields}) as folder:
        yield folder
        for name in filter(is_proof, parent.manifest.files):
            # An INT8 engine has written its own answers into golden.npz.
            if not (folder / name).exists():
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(parent.path / name, folder / name)


def require_float_onnx(parent: Bundle) -> None:
    """
    Raises:
        InputError: this is no fp32 ONNX bundle, or one with a second output.
    """
    if (parent.manifest.kind, parent.manifest.precision) != ("onnx", "fp32"):
        raise InputError(
            f"{parent.path}: a bundle of kind {parent.manifest.kind}, {parent.manifest.precision}; expected onnx, fp32"
        )
    require_logits_alone(parent)


def tools_of(*names: str) -> dict[str, str]:
    """The versions of these packages, and of edgepress, for a manifest."""
    return {name: package_version(name) for name in (*names, "edgepress")}
