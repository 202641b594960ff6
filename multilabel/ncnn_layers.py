"""The layers of ncnn's two files, read and written: .param is a line of text per layer, .bin their weights in a row.

Parameters have numbers (https://github.com/Tencent/ncnn/blob/master/docs/developer-guide/operators.md), by which they
are named here too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAGIC = "7767517"
"""First line of every .param file."""
PRODUCTS = frozenset({"Convolution", "ConvolutionDepthWise", "Deconvolution", "InnerProduct", "Gemm", "MatMul"})
INT8_TERM = {"Convolution": "8", "ConvolutionDepthWise": "8", "InnerProduct": "8", "Gemm": "18"}
"""The parameter that says that a layer is in INT8, by the types of layers that can be."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a network."""

    type: str
    name: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    params: dict[str, str]
    """By their numbers, in the order of the file."""
    weights: bytes = b""
    """Its part of the .bin file."""

    def line(self) -> str:
        """Its line of the .param file."""
        counts = [str(len(self.reads)), str(len(self.gives))]
        given = [f"{number}={value}" for number, value in self.params.items()]
        return " ".join([self.type, self.name, *counts, *self.reads, *self.gives, *given])


def layer_lines(graph: bytes) -> list[list[str]]:
    """The words of each layer's line of a .param file.

    Raises:
        ValueError: it is none, or is cut.
    """
    text = graph.decode("ascii", errors="replace").splitlines()
    if not text or text[0].strip() != MAGIC or "�" in "".join(text):
        raise ValueError(f"its .param file is not ncnn's text, whose first line is {MAGIC}")
    counts = text[1].split() if len(text) > 1 else []
    lines = [line.split() for line in text[2:] if line.strip()]
    if len(counts) != 2 or not counts[0].isdigit() or int(counts[0]) != len(lines) or not graph.endswith(b"\n"):
        told = f"has {len(lines)} layers, by its second line {counts[0] if counts else 'an unknown number'}"
        raise ValueError(f"its .param file is cut: it {told}, and the last line must end")
    return lines


def in_int8(line: Sequence[str]) -> bool:
    """Whether a layer, by the words of its line, computes in INT8."""
    term = INT8_TERM.get(line[0])
    return term is not None and any(word.startswith(f"{term}=") and word != f"{term}=0" for word in line[4:])


def weight_count(layer: Layer) -> int:
    """Number of weights that a layer multiplies by, without its biases; 0 if it has none or they are not its own.

    They begin behind four bytes that say how they are stored, 0 for float32.
    """
    if layer.params.get("19", "0") != "0":  # another layer gives them
        return 0
    if layer.type == "Gemm":
        own = layer.params.get("5") == "1" and layer.params.get("4", "0") == "0"
        return int(layer.params["8"]) * int(layer.params["9"]) if own else 0
    place = {"Convolution": "6", "ConvolutionDepthWise": "6", "InnerProduct": "2"}.get(layer.type)
    return 0 if place is None else int(layer.params[place])


def read_layers(graph: bytes, weights: bytes) -> list[Layer]:
    """The layers of a network that ncnn loads.

    ncnn itself reads each layer's weights, because how many bytes they are is known to the layer alone.
    """
    import ncnn

    net, reader = ncnn.Net(), reader_of(weights)
    loaded = net.load_param_mem(graph.decode("ascii"))
    assert loaded == 0, "a network that ncnn has loaded before"
    source = ncnn.ModelBinFromDataReader(reader)
    found = []
    for words, layer in zip(layer_lines(graph), net.layers(), strict=True):
        start = reader.place
        code = layer.load_model(source)
        assert code == 0, "a network that ncnn has loaded before"
        (kind, name), reads, gives = words[:2], int(words[2]), int(words[3])
        names, params = words[4 : 4 + reads + gives], words[4 + reads + gives :]
        found.append(
            Layer(
                type=kind,
                name=name,
                reads=tuple(names[:reads]),
                gives=tuple(names[reads:]),
                params=dict(word.split("=", 1) for word in params),
                weights=weights[start : reader.place],
            )
        )
    return found


def written_layers(layers: Sequence[Layer]) -> tuple[bytes, bytes]:
    """The .param and the .bin file of a network."""
    tensors = sum(len(layer.gives) for layer in layers)
    lines = [MAGIC, f"{len(layers)} {tensors}", *(layer.line() for layer in layers)]
    return "".join(f"{line}\n" for line in lines).encode("ascii"), b"".join(layer.weights for layer in layers)


def reader_of(weights: bytes) -> Any:
    """An `ncnn.DataReader` of bytes in memory that knows how far it was read; ncnn's own reads past the end."""
    import ncnn

    class Weights(ncnn.DataReader):
        place = 0

        def read(self, buffer: Any, size: int) -> int:
            part = weights[self.place : self.place + size]
            ctypes.memmove(_pointer(buffer), part, len(part))
            self.place += len(part)
            return len(part)

    return Weights()


def _pointer(capsule: Any) -> int:
    """The address in a capsule, as which ncnn's binding gives the memory to fill."""
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(capsule, name(capsule)))
