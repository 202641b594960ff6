"""LiteRT (formerly TensorFlow Lite) on a CPU, by XNNPACK."""

from __future__ import annotations

import re
import threading
from importlib.metadata import version
from typing import Any

import numpy as np

from edgepress.deploy.engines.base import Engine, Proof, by_precision, require, require_shape, require_threads, summary
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.cores import cores
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.litert_model import REDUCED_PRECISION
from edgepress.multilabel.manifest import BuiltForLiteRt

_PRODUCTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV"}
_DELEGATE = "DELEGATE"
"""What LiteRT calls the node in which XNNPACK computes the operators that it took, which stay in the list."""
_NO_LAYERS = {_DELEGATE, "QUANTIZE", "DEQUANTIZE"}
# Its messages for a model with an operator, or a version of one, that this LiteRT does not have.
_LACKS = re.compile(r"Didn't find op for builtin opcode[^.]*|[Uu]nresolved custom op: \w*")


class LiteRtEngine(Engine):
    """A LiteRT bundle in one interpreter, which computes one call at a time.

    The file is read into memory: LiteRT would map it, and compute with whatever is copied over it.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int | None = None) -> None:
        super().__init__(bundle, device)
        if device != "cpu":
            raise InputError(f"device {device!r}: LiteRT takes cpu")
        threads = require_threads(threads)
        require("ai_edge_litert", "litert")
        from ai_edge_litert.interpreter import Interpreter

        self._version = version("ai-edge-litert")
        # LiteRT's own default is one thread.
        self._threads = threads or cores()
        self._turn = threading.Lock()
        try:
            content = self._model()
            # XNNPACK then computes in half precision where the processor can, and LiteRT does not report it.
            self._half = "permitted by the file" if REDUCED_PRECISION in content else "off"
            self._interpreter = Interpreter(model_content=content, num_threads=self._threads)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise self._refusal(" ".join(str(error).split())) from error
        (given,), (logits,) = self._ends()
        self._given, self._logits = given["index"], logits["index"]
        self._batch = int(given["shape"][0])

    def _model(self) -> bytes:
        """
        Raises:
            InputError: the file is empty, which LiteRT would take for no argument.
        """
        content = self.bundle.read(self.bundle.manifest.model)
        if not content:
            raise InputError(f"{self.bundle.model_path}: LiteRT cannot load it: the file is empty")
        return content

    def _refusal(self, reason: str) -> InputError | EngineUnavailableError:
        """The error for a model that LiteRT does not take, from what it says."""
        file, lacks = self.bundle.model_path, _LACKS.search(reason)
        if lacks is None:
            return InputError(f"{file}: LiteRT cannot load it: {reason[:300]}")
        built = self.bundle.manifest.built_for
        recorded = built.version if isinstance(built, BuiltForLiteRt) else "unknown"
        return EngineUnavailableError(
            f"{file}: recorded: ai-edge-litert {recorded}; found: ai-edge-litert {self._version}, which lacks "
            f"an operator of it ({lacks.group().strip()}); install a newer ai-edge-litert, or take another engine"
        )

    def _ends(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The details of the model's input and output.

        Raises:
            InputError: they are not what the manifest says.
        """
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        file, count = self.bundle.model_path, len(self.labels)
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(f"{file}: has {len(inputs)} inputs and {len(outputs)} outputs; expected one of each")
        first, *sides = (int(size) for size in inputs[0]["shape_signature"])
        require_shape(self.bundle, [first, *sides], np.dtype(inputs[0]["dtype"]).name)
        shape, kind = [int(size) for size in outputs[0]["shape_signature"]], np.dtype(outputs[0]["dtype"]).name
        if shape[1:] != [count] or kind != "float32":
            shown = ", ".join("any" if size < 0 else str(size) for size in shape)
            raise InputError(f"{file}: gives {kind} [{shown}]; by its manifest float32 logits [any, {count}]")
        if first > 1:
            raise InputError(
                f"{file}: takes {first} pictures a call, no more and no fewer; expected any number, or one"
            )
        if first == 1:
            self.max_batch = 1
        return inputs, outputs

    @property
    def runtime_version(self) -> str:
        return f"ai-edge-litert {self._version}"

    def _proof(self) -> Proof:
        with self._turn:
            nodes = self._interpreter._get_ops_details()  # nothing public tells what XNNPACK took
        layers = [node for node in nodes if node["op_name"] not in _NO_LAYERS]
        products = [node for node in layers if node["op_name"] in _PRODUCTS]
        precisions = by_precision(map(_computed, products))
        return Proof(
            runtime="litert",
            version=self._version,
            provider=" + ".join(sorted(_providers(nodes), reverse=True)),
            precision=summary(precisions),
            products=precisions,
            layers=by_precision(map(_computed, layers)),
            source="the operators of LiteRT's graph, the types that they read, and which of them XNNPACK took",
            settings={"threads": str(self._threads), "half_precision": self._half},
        )

    def _run(self, images: np.ndarray) -> np.ndarray:
        with self._turn:
            if len(images) != self._batch:
                self._batch = 0  # where one of the next two fails, neither the old size nor the new one is ready
                self._interpreter.resize_tensor_input(self._given, images.shape, strict=True)
                self._interpreter.allocate_tensors()
                self._batch = len(images)
            self._interpreter.set_tensor(self._given, images)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._logits)  # a copy

    def _release(self) -> None:
        del self._interpreter


def _computed(node: dict[str, Any]) -> str:
    """The type that a node computes in, which is that of its first operand."""
    return np.dtype((node["operand_types"] or node["result_types"])[0]).name


def _providers(nodes: list[dict[str, Any]]) -> set[str]:
    """Who computes the products with weights: XNNPACK's nodes name all weights that they read."""
    taken = {int(tensor) for node in nodes if node["op_name"] == _DELEGATE for tensor in node["inputs"]}
    makers = {int(node["outputs"][0]): node for node in nodes if node["op_name"] != _DELEGATE}
    found = set()
    for node in nodes:
        if node["op_name"] in _PRODUCTS:
            weights = int(node["inputs"][1])
            if weights in makers and makers[weights]["op_name"] == "DEQUANTIZE":  # stored in half precision
                weights = int(makers[weights]["inputs"][0])
            if weights not in makers:  # a product of two activations is computed with its neighbours
                found.add("XNNPACK" if weights in taken else "LiteRT's own kernels")
    return found or {"LiteRT's own kernels"}
