"""Converting an ONNX model to LiteRT's format (.tflite): by onnx2tf, in a process of its own, and proven equal."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.litert_graph import for_litert
from edgepress.multilabel.onnx_session import cpu_session
from edgepress.multilabel.plural import plural
from edgepress.multilabel.root_logger import own_root_logger
from edgepress.multilabel.trial_pictures import trial_pictures

CONVERTER = "onnx2tf==2.6.9"
"""The version that was tried. Its requirements name exact versions of numpy, onnx and others, and Python 3.12, none of
which it needs, so no extra can name it."""
INSTALL_CONVERTER = f"pip install --no-deps --ignore-requires-python {CONVERTER}"
INSTALL = f"pip install 'edgepress[litert-build]', then {INSTALL_CONVERTER}"
PACKAGES = ("ai_edge_litert", "litert_quantizer", "sng4onnx", "psutil", "tqdm", "onnx", "onnxruntime", "onnx2tf")
BATCHES = (1, 2, 5)
MOST_APART = 1e-3
"""Largest difference of a converted model's logits from ONNX Runtime's, as a share of the largest logit or of 1. On
twelve backbones it was 2e-6 at most."""
REDUCED_PRECISION = b"reduced_precision_support"
"""Metadata by which a file permits XNNPACK to compute in half precision where the processor can; onnx2tf 2.6.9 writes
it into its float32 files as well."""
_EMPTY_BATCH = "_zero_safe_pad_input"
"""Ending of onnx2tf's name for what its PAD reads, where operators around it let a batch be empty."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def require_converter() -> None:
    """Stop if what converts to LiteRT is not installed here.

    Raises:
        EngineUnavailableError: it is not; says which two commands install it.
    """
    for module in PACKAGES:
        if importlib.util.find_spec(module) is None:
            raise EngineUnavailableError(f"{module} is not installed here ({INSTALL})")


def converter_version() -> str:
    """The installed version of the converter, `2.6.9`."""
    return version(CONVERTER.partition("==")[0])


def litert_model(path: Path) -> bytes:
    """Convert a float ONNX file to a float32 LiteRT model: the same input, any batch, logits as ONNX Runtime's.

    onnx2tf seeds random numbers, silences every warning and removes the limit of recursion when it is imported, so it
    runs in a process of its own.

    Args:
        path: a graph with one input of pictures, uint8 `[batch, size, size, 3]`, and one output.

    Raises:
        InputError: it cannot be converted, or LiteRT answers otherwise than ONNX Runtime.
        EngineUnavailableError: see `require_converter`.
        OSError: the folder for temporary files cannot be written, as on a full disk.
    """
    require_converter()
    import onnx

    model = onnx.load(str(path))
    with tempfile.TemporaryDirectory(prefix="edgepress-litert-") as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(for_litert(model), str(source))
        flags = ["--keep_nwc_or_nhwc_or_ndhwc_input_names", model.graph.input[0].name, "--not_use_onnxsim"]
        command = [sys.executable, "-m", "onnx2tf", "-i", str(source), "-o", folder, *flags]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=folder)  # noqa: S603
        made = Path(folder) / "model_float32.tflite"
        if done.returncode != 0 or not made.is_file():
            raise _failure(path, done)
        converted = without_surplus(made.read_bytes())
    _require_equal(path, converted)
    return converted


def quantizer_model(made: Any, *ranges: Any) -> bytes:
    """The model that a `litert_quantizer.quantizer.Quantizer` makes, and nothing else.

    It draws a bar of its progress, and its first message gives the root logger a handler (litert-quantizer 0.11,
    absl's logging): every message of the program would be written twice, or to where stderr pointed at that moment.

    Args:
        ranges: of its static configurations, where it has any.
    """
    with own_root_logger(), contextlib.redirect_stderr(io.StringIO()):
        result = made.quantize(*ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def without_surplus(model: bytes) -> bytes:
    """A LiteRT model without what onnx2tf adds: the permission for half precision, and operators for an empty batch.

    Around each PAD it adds eight operators that append a picture and take it away again, which cost as much as the
    smallest networks and keep a convolution from being fused with its padding.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    read = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    read.metadata = [entry for entry in read.metadata or [] if entry.name != REDUCED_PRECISION]
    (graph,) = read.subgraphs
    makers = {output: operator for operator in graph.operators for output in operator.outputs}
    readers = {tensor: operator for operator in graph.operators for tensor in operator.inputs}
    for pad in list(graph.operators):
        if not graph.tensors[pad.inputs[0]].name.decode().endswith(_EMPTY_BATCH):
            continue
        appended = makers[makers[pad.inputs[0]].inputs[0]]  # PAD reads a SLICE of a CONCATENATION
        last = readers[pad.outputs[0]]  # an ADD of zeros
        pad.inputs = [appended.inputs[0], *pad.inputs[1:]]  # a PADV2 also reads what it pads with
        if last.builtinOptions.fusedActivationFunction:  # the ADD does more than to add zeros
            continue
        graph.operators.remove(pad)
        graph.operators[graph.operators.index(last)] = pad
        pad.outputs = last.outputs
    while dead := _unread(graph):
        graph.operators = [operator for operator in graph.operators if operator not in dead]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(read))


def _unread(graph: Any) -> list[Any]:
    read = {tensor for operator in graph.operators for tensor in operator.inputs} | set(graph.outputs)
    return [operator for operator in graph.operators if not read.intersection(operator.outputs)]


def _failure(path: Path, done: subprocess.CompletedProcess[str]) -> InputError | OSError:
    """The error of a conversion that failed, from the last line with a word of error that onnx2tf says, or the last."""
    lines = [_COLOUR.sub("", line).strip() for line in (done.stdout + done.stderr).splitlines()]
    lines = [line for line in lines if line and "it/s" not in line]
    said = [line for line in lines if re.search(r"error", line, re.IGNORECASE)] or lines or ["it says nothing"]
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if f"[Errno {number}]" in said[-1]:
            return OSError(number, os.strerror(number), tempfile.gettempdir())
    return InputError(
        f"{path}: onnx2tf {converter_version()} cannot convert it: {said[-1][:300]}; take another runtime"
    )


def _require_equal(path: Path, converted: bytes) -> None:
    """
    Raises:
        InputError: LiteRT does not open the converted model, or its answers differ from ONNX Runtime's.
    """
    made = f"{path}: onnx2tf {converter_version()} converts it to a model that LiteRT"
    for images, expected in _answers(path):
        try:
            found = _run(converted, images)
        except (RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())[:300]
            raise InputError(f"{made} cannot run: {said}; take another runtime") from error
        if found.shape != expected.shape:
            shapes = f"{list(found.shape)}, and ONNX Runtime's are {list(expected.shape)}"
            raise InputError(f"{made} answers otherwise: its logits are {shapes}; take another runtime")
        apart = float(np.abs(found - expected).max())
        most = MOST_APART * max(1.0, float(np.abs(expected).max()))
        if not apart <= most:
            raise InputError(
                f"{made} answers otherwise: with {plural(len(images), 'picture')} a logit differs by {apart:.3g} from "
                f"ONNX Runtime's, and {most:.3g} is allowed; take another runtime"
            )


def _answers(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of trial pictures, and ONNX Runtime's logits of them.

    Raises:
        InputError: ONNX Runtime does not take the model.
    """
    rng = np.random.default_rng(0)
    try:
        session = cpu_session(path)
        (given,) = session.get_inputs()
        for batch in BATCHES:
            images = trial_pictures(rng, batch, given.shape[1:])
            yield images, session.run(None, {given.name: images})[0]
    except InputError:
        raise
    except Exception as error:  # ONNX Runtime's exception types share no base class
        raise InputError(f"{path}: ONNX Runtime cannot run it: {' '.join(str(error).split())[:300]}") from error


def _run(model: bytes, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    given, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(given, images.shape, strict=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, images)
    interpreter.invoke()
    return interpreter.get_tensor(answer)
