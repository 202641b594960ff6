"""INT8 models in LiteRT's format, by LiteRT's quantiser with ranges measured here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgepress.calibration.int8.ranges import Ranges
from edgepress.multilabel.litert_model import litert_model, quantizer_model

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""What is quantised. Products of two activations, norms and softmax take no time worth saving, and in INT8 they cost an
ML-Decoder its precision (the sample's student with all of them in INT8: 13 mAP, which is chance, of 34)."""
_NAMED = re.compile(r"(.+)_(?:conv_filter|depthwise_filter|fc_weights)(?:/.*)?")
"""onnx2tf's name for the weights of an ONNX node."""


class Product(NamedTuple):
    """A convolution or matrix product with constant weights."""

    name: str
    """Of the ONNX node that it was made from."""
    kind: str
    reads: str
    """Name of the tensor that it multiplies."""
    gives: str
    """Name of its result."""
    in_int8: bool
    padded: str | None
    """Name of what a PAD before it gives; None where nothing is padded."""


class LiteRtQuantizer:
    """INT8 models of one fp32 ONNX model: INT8 activations with a zero point, INT8 weights with a scale per channel.

    Args:
        model: the float ONNX file.
        images: uint8 calibration pictures `[N, size, size, 3]`.
        weight_bits: not used: XNNPACK's products do not saturate.
    """

    def __init__(self, model: Path, images: np.ndarray, weight_bits: int = 8) -> None:
        self.float_model = litert_model(model)
        self.found = _products(self.float_model)
        self.names = {product.name: product.gives for product in self.found}
        tensors = {name for product in self.found for name in (product.reads, product.gives)}
        tensors |= {product.padded for product in self.found if product.padded is not None}
        self.ranges = Ranges(_values(self.float_model, tensors), images)

    def write(self, out: Path, method: str, kept: tuple[str, ...] = ()) -> bool:
        """Write the model with the nodes `kept` in float; there is always something to write."""
        from litert_quantizer import qtyping, quantizer

        made = quantizer.Quantizer(bytearray(self.float_model))
        for product in self.found:
            if product.name in kept:
                continue
            kinds = {product.gives: product.kind, **({product.padded: "PAD"} if product.padded is not None else {})}
            for tensor, kind in kinds.items():
                made.add_static_config(f"^{re.escape(tensor)};$", qtyping.TFLOperationName(kind), 8, 8)
        ranges = {
            name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
            for name, (low, high) in self.ranges.by(method).items()  # type: ignore[arg-type]
        }
        out.write_bytes(quantizer_model(made, ranges))
        return True

    @staticmethod
    def float_nodes(quantized: Path, products: list[str]) -> tuple[str, ...]:
        """The products that do not read INT8 weights and an INT8 activation."""
        in_int8 = {product.name for product in _products(quantized.read_bytes()) if product.in_int8}
        return tuple(name for name in products if name not in in_int8)

    @staticmethod
    def structure(quantized: Path) -> tuple:
        """What latency depends on: the operators, and which products are in float."""
        content = quantized.read_bytes()
        in_float = tuple(product.name for product in _products(content) if not product.in_int8)
        return tuple(sorted(Counter(kind for kind, _ in _operators(content)[1]).items())), in_float


def _operators(model: bytes) -> tuple[Any, list[tuple[str, Any]]]:
    """A model's only graph, and its operators with their kinds."""
    from ai_edge_litert.tools import flatbuffer_utils

    read = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    (graph,) = read.subgraphs
    kinds = (flatbuffer_utils.opcode_to_name(read, operator.opcodeIndex) for operator in graph.operators)
    return graph, list(zip(kinds, graph.operators, strict=True))


def _products(model: bytes) -> list[Product]:
    """The products of a model, in the order of execution."""
    from ai_edge_litert.schema_py_generated import TensorType

    graph, operators = _operators(model)
    makers = {output: (kind, operator) for kind, operator in operators for output in operator.outputs}

    def name(tensor: int) -> str:
        return graph.tensors[tensor].name.decode()

    def found() -> Iterator[Product]:
        for kind, operator in operators:
            if kind not in PRODUCTS:
                continue
            read, weights = operator.inputs[:2]
            before, maker = makers.get(read, ("", None))
            named = _NAMED.fullmatch(name(weights))
            yield Product(
                name=named[1] if named else name(weights),
                kind=kind,
                reads=name(maker.inputs[0]) if maker is not None and before == "PAD" else name(read),
                gives=name(operator.outputs[0]),
                in_int8=all(graph.tensors[tensor].type == TensorType.INT8 for tensor in (read, weights)),
                padded=name(read) if before == "PAD" else None,
            )

    return list(found())


def _values(model: bytes, names: set[str]) -> Any:
    """A function from one picture to the values of these tensors, by LiteRT's own kernels: XNNPACK keeps none."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    places = {one["name"]: one["index"] for one in interpreter.get_tensor_details() if one["name"] in names}

    def values(image: np.ndarray) -> dict[str, np.ndarray]:
        interpreter.set_tensor(place, image)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in places.items()}

    return values
