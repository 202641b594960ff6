"""Converting an ONNX model to ncnn's format (.param and .bin): by pnnx's program, and proven equal."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import signal
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.ncnn_graph import for_ncnn
from edgepress.multilabel.ncnn_layers import Layer, read_layers, weight_count, written_layers
from edgepress.multilabel.ncnn_network import MissingLayerError, answer, network
from edgepress.multilabel.onnx_session import cpu_session
from edgepress.multilabel.trial_pictures import trial_pictures
from edgepress.multilabel.versions import install_command

if TYPE_CHECKING:
    import onnx

PICTURES = 8
MOST_APART = 1e-3
"""Largest difference of a converted model's logits from ONNX Runtime's, as a share of the largest logit or of 1."""
_PLAIN = re.compile(r"[!-~]{1,255}")
"""A name that ncnn reads: words are separated by spaces."""


def require_pnnx() -> None:
    """Stop if what converts to ncnn is not installed here.

    Raises:
        EngineUnavailableError: it is not; names the extra to install.
    """
    for module in ("pnnx", "ncnn", "onnx", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            raise EngineUnavailableError(f"{module} is not installed here ({install_command('ncnn-build')})")


def ncnn_model(path: Path, *, half: bool) -> tuple[bytes, bytes]:
    """Convert a float ONNX file to ncnn's .param and .bin: pictures in, logits as ONNX Runtime's out.

    ncnn has neither bytes nor batches: the graph takes one picture, whose bytes the engine has made float32. Layers
    that multiply by the weights of an ONNX node have that node's name.

    Args:
        path: a graph with one input of pictures, uint8 `[batch, size, size, 3]`, and one output.
        half: store the weights of products in half precision, which ncnn widens as it opens them.

    Raises:
        InputError: it cannot be converted, or ncnn answers otherwise than ONNX Runtime.
        OSError: the folder for temporary files cannot be written, as on a full disk.
    """
    import onnx

    try:
        model = for_ncnn(onnx.load(str(path)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    whole = _converted(path, model, sizes, half=False)
    _require_equal(path, whole)
    named = written_layers(_named(read_layers(*whole), model.graph))
    if not half:
        return named
    halved = _converted(path, model, sizes, half=True)
    assert halved[0] == whole[0], "pnnx makes the same graph whatever the weights are stored in"
    return named[0], halved[1]


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
        f"{path}: pnnx {version('pnnx')} cannot convert it: it ends with {done.returncode}; its last line: "
        f"{said[:200]}; take another runtime"
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
        images = trial_pictures(np.random.default_rng(0), PICTURES, given.shape[1:])
        expected = session.run(None, {given.name: images})[0]
    except Exception as error:  # ONNX Runtime's exception types share no base class
        raise InputError(f"{path}: ONNX Runtime cannot run it: {' '.join(str(error).split())[:300]}") from error
    try:
        net = network(*converted, threads=1)
        found = np.stack([answer(net, image) for image in images])
    except MissingLayerError as error:
        raise InputError(f"{made} lacks a layer for: {error}; take another runtime") from error
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"{made} cannot run ({error}): take another runtime, or free space if the disk is full"
        ) from error
    if found.shape != expected.shape:
        shapes = f"{list(found.shape)}, and ONNX Runtime's are {list(expected.shape)}"
        raise InputError(f"{made} answers otherwise: its logits are {shapes}; take another runtime")
    apart = float(np.abs(found - expected).max())
    most = MOST_APART * max(1.0, float(np.abs(expected).max()))
    if not apart <= most:
        raise InputError(
            f"{made} answers otherwise: a logit differs by {apart:.3g} from ONNX Runtime's, and {most:.3g} is "
            "allowed; take another runtime"
        )


def _named(layers: list[Layer], graph: onnx.GraphProto) -> list[Layer]:
    """Layers with the names of the ONNX nodes whose weights they hold; the others keep pnnx's."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = defaultdict(list)
    for node in graph.node:
        for name in node.input[:2] if node.op_type in ("Conv", "MatMul", "Gemm") else ():
            if name in constants:
                weights = numpy_helper.to_array(constants[name])
                for layout in {weights.tobytes(), weights.T.tobytes()} if weights.ndim == 2 else {weights.tobytes()}:
                    nodes[layout].append(node.name)
    taken = {layer.name for layer in layers}
    named = []
    for layer in layers:
        held = layer.weights[4 : 4 + 4 * weight_count(layer)]
        name = next((name for name in nodes.get(held, ()) if name not in taken and _PLAIN.fullmatch(name)), layer.name)
        taken.add(name)
        named.append(replace(layer, name=name))
    return named
