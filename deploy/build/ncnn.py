"""ncnn's engines: a float ONNX bundle as a .param and a .bin file, by pnnx, proven equal, with its reference."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgepress.deploy.build.compile import decisions_of, derived_bundle, kept_engine, require_float_onnx, tools_of
from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.ncnn import MissingLayerError, answer, network
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.litert_graph import fold_constants
from edgepress.multilabel.manifest import BuiltForNcnn
from edgepress.multilabel.onnx_session import cpu_session

if TYPE_CHECKING:
    import onnx

PARAM, BIN = "model.param", "model.bin"
TOOLS = ("pnnx", "ncnn")
PICTURES = 8
MOST_APART = 1e-3
"""Largest difference of a converted model's logits from ONNX Runtime's, as a share of the largest logit or of 1."""


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
        built_for=BuiltForNcnn(version=version("ncnn"), onnx_sha256=parent.model_sha256),
        tools=tools,
        inputs=inputs,
        **decisions,
    ) as folder:
        (folder / PARAM).write_bytes(graph)
        (folder / BIN).write_bytes(weights)
    return Bundle.open(out)


def require_pnnx() -> None:
    """Stop if what converts to ncnn is not installed here.

    Raises:
        EngineUnavailableError: it is not; names the extra to install.
    """
    for module in ("pnnx", "ncnn", "onnx", "onnxruntime"):
        require(module, "ncnn-build")


def ncnn_model(path: Path, *, half: bool) -> tuple[bytes, bytes]:
    """Convert a float ONNX file to ncnn's .param and .bin: pictures in, logits as ONNX Runtime's out.

    ncnn has neither bytes nor batches: the graph takes one picture, whose bytes the engine has made float32.

    Args:
        path: a graph with one input of pictures, uint8 `[batch, size, size, 3]`, and one output.
        half: store the weights of products in half precision, which ncnn widens as it opens them.

    Raises:
        InputError: it cannot be converted, or ncnn answers otherwise than ONNX Runtime.
        OSError: the folder for temporary files cannot be written, as on a full disk.
    """
    import onnx

    model = onnx.load(str(path))
    _take_floats(path, model)
    fold_constants(model)
    sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    whole = _converted(path, model, sizes, half=False)
    _require_equal(path, whole)
    if not half:
        return whole
    halved = _converted(path, model, sizes, half=True)
    assert halved[0] == whole[0], "pnnx makes the same graph whatever the weights are stored in"
    return halved


def _take_floats(path: Path, model: onnx.ModelProto) -> None:
    """Let the graph begin behind the cast of its pictures to float32.

    Raises:
        InputError: it does not begin with one.
    """
    from onnx import TensorProto

    graph = model.graph
    pictures = graph.input[0]
    readers = [node for node in graph.node if pictures.name in node.input]
    if [node.op_type for node in readers] != ["Cast"]:
        found = ", ".join(node.op_type for node in readers) or "nothing"
        raise InputError(f"{path}: its pictures are read by {found}; expected one Cast to float32")
    cast = readers[0]
    for node in graph.node:
        node.input[:] = [pictures.name if name == cast.output[0] else name for name in node.input]
    graph.node.remove(cast)
    del graph.value_info[:]
    pictures.type.tensor_type.elem_type = TensorProto.FLOAT


def _converted(path: Path, model: onnx.ModelProto, sizes: list[int], *, half: bool) -> tuple[bytes, bytes]:
    """What pnnx makes of a model in a folder of its own, with the size of the pictures in the line of the input.

    The program in pnnx's wheel is run; its Python package would import torch.
    """
    import onnx

    height, width, colours = sizes
    spec = importlib.util.find_spec("pnnx")
    assert spec is not None, "require_pnnx has found it"
    home = next(iter(spec.submodule_search_locations or ()))
    with tempfile.TemporaryDirectory(prefix="edgepress-ncnn-") as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(model, str(source))
        command = [str(Path(home) / "pnnx"), str(source), f"inputshape=[1,{height},{width},{colours}]"]
        done = subprocess.run(  # noqa: S603
            [*command, f"fp16={int(half)}"], capture_output=True, text=True, errors="replace", cwd=folder
        )
        files = [Path(folder) / f"model.ncnn.{ending}" for ending in ("param", "bin")]
        if done.returncode != 0 or not all(file.is_file() for file in files):
            raise _failure(path, done)
        graph, weights = (file.read_bytes() for file in files)
    lines = graph.decode("ascii").splitlines()
    lines = [f"{line} 0={colours} 1={width} 2={height}" if line.split()[0] == "Input" else line for line in lines]
    return "".join(f"{line}\n" for line in lines).encode("ascii"), weights


def _failure(path: Path, done: subprocess.CompletedProcess[str]) -> InputError | OSError:
    """The error of a conversion that failed, with the last thing that pnnx says."""
    if done.returncode == -signal.SIGXFSZ:
        return OSError(errno.EFBIG, os.strerror(errno.EFBIG), tempfile.gettempdir())
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    said = lines[-1] if lines else "it says nothing"
    return InputError(
        f"{path}: pnnx {version('pnnx')} cannot convert it: it ends with {done.returncode}; its last line: {said[:200]}"
    )


def _require_equal(path: Path, converted: tuple[bytes, bytes]) -> None:
    """
    Raises:
        InputError: ncnn does not open the converted model, or its answers differ from ONNX Runtime's.
    """
    made = f"{path}: pnnx {version('pnnx')} converts it to a network that ncnn {version('ncnn')}"
    try:
        session = cpu_session(path)
        (given,) = session.get_inputs()
        images = np.random.default_rng(0).integers(0, 256, (PICTURES, *given.shape[1:]), np.uint8)
        expected = session.run(None, {given.name: images})[0]
    except Exception as error:  # ONNX Runtime's exception types share no base class
        raise InputError(f"{path}: ONNX Runtime cannot run it: {' '.join(str(error).split())[:300]}") from error
    try:
        net = network(*converted, threads=1)
        found = np.stack([answer(net, image) for image in images])
    except MissingLayerError as error:
        raise InputError(f"{made} lacks a layer for: {error}; take another runtime") from error
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{made} cannot run: {error}; is the disk full?") from error
    apart = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
    most = MOST_APART * max(1.0, float(np.abs(expected).max()))
    if not apart <= most:
        raise InputError(
            f"{made} answers otherwise: a logit differs by {apart:.3g} from ONNX Runtime's, and {most:.3g} is allowed"
        )
