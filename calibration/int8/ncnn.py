"""INT8 models in ncnn's format, written here with ranges measured here.

ncnn's own tools for it (ncnn2table, ncnn2int8) are C++ programs that no wheel has. What they write is simple: INT8
weights with a scale per output channel and, for a convolution, the scale of what it reads; all are symmetric. A Gemm
has one scale for its weights and finds that of each row that it reads as it runs.

Three things differ from what those tools write:

- A convolution in groups, other than a depthwise one, stays in float: on an x86 processor with AVX, ncnn 1.0.20261020
  answers with memory that was never written where a group gives a multiple of 8 channels
  (`findings/ncnn-int8-grouped-convolution.sh`).
- Winograd's form is forbidden to a convolution in INT8: its sums overflow (`findings/ncnn-int8-winograd.sh`).
- An InnerProduct on rows stays the Gemm that pnnx writes.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.calibration.int8.ranges import Method, Ranges
from edgepress.multilabel.ncnn_layers import (
    INT8_TERM,
    Layer,
    in_int8,
    layer_lines,
    read_layers,
    weight_count,
    written_layers,
)
from edgepress.multilabel.ncnn_model import ncnn_model
from edgepress.multilabel.ncnn_network import INPUT, OUTPUT, network, values
from edgepress.multilabel.plural import plural

log = logging.getLogger("edgepress")

LEVELS = 127
"""Largest magnitude of an INT8 value: ncnn does not use -128."""
STORED_INT8 = (0x000D4B38).to_bytes(4, "little")
"""The four bytes before INT8 weights in a .bin file."""
NO_WINOGRAD = {"31": "64"}
"""The parameter that forbids Winograd's form to one layer."""
REQUANTISED = 100
"""Added to a convolution's INT8 term if it gives INT8 values, in the scale of the convolution that reads them."""
ROUNDS, CALLS = 7, 8
"""How often a layer is timed, and calls of one measurement."""


class NcnnQuantizer:
    """INT8 models of one fp32 ONNX model.

    Args:
        model: the float ONNX file.
        images: uint8 calibration pictures `[N, size, size, 3]`.
        weight_bits: not used: ncnn's products do not saturate.
    """

    def __init__(self, model: Path, images: np.ndarray, weight_bits: int = 8) -> None:
        graph, weights = ncnn_model(model, half=False)
        self.layers = read_layers(graph, weights)
        self.found = {layer.name: layer for layer in self.layers if _has_int8(layer)}
        self.names = {name: layer.gives[0] for name, layer in self.found.items()}
        self._network, self._picture = network(graph, weights, threads=1), images[0]
        reads = sorted({layer.reads[0] for layer in self.found.values()})
        self.ranges = Ranges(lambda image: values(self._network, image[0], reads), images)

    def write(self, out: Path, method: str, kept: tuple[str, ...] = ()) -> bool:
        """Write the model's .param, and its .bin beside it, with the nodes `kept` in float; there is always one."""
        largest = self._largest(method)  # type: ignore[arg-type]
        graph, weights = written_layers(quantized(self.layers, set(self.found) - set(kept), largest))
        out.write_bytes(graph)
        out.with_suffix(".bin").write_bytes(weights)
        return True

    def slower_in_int8(self) -> tuple[str, ...]:
        """The layers that take longer in INT8 than in float on this processor, each timed alone on one picture.

        None is named where all are: then the whole is slower, and its time says so.
        """
        slower = tuple(name for name, (whole, int8) in self.times().items() if int8 > whole)
        if len(slower) == len(self.found):
            log.info("  every layer takes longer in INT8 than in float here")
            return ()
        log.info("  %d of %s take longer in INT8 here and stay in float", len(slower), plural(len(self.found), "layer"))
        return slower

    def times(self) -> dict[str, tuple[float, float]]:
        """Seconds of processor time that each layer takes in float and in INT8, on what it reads of one picture."""
        largest = self._largest("min-max")
        given = values(self._network, self._picture, sorted(largest))
        found = {}
        for name, layer in self.found.items():
            (other,) = quantized([layer], {name}, largest)
            nets = [_alone(one) for one in (layer, other)]
            whole, int8 = _in_turns(nets, given[layer.reads[0]])
            found[name] = (whole, int8)
        return found

    def _largest(self, method: Method) -> dict[str, float]:
        """The largest magnitude of each tensor that is quantised."""
        return {name: max(-low, high) or 1.0 for name, (low, high) in self.ranges.by(method).items()}

    @staticmethod
    def float_nodes(quantized: Path, products: list[str]) -> tuple[str, ...]:
        """The products whose layers are not in INT8."""
        in_float = {line[1] for line in layer_lines(quantized.read_bytes()) if not in_int8(line)}
        return tuple(name for name in products if name in in_float)

    @staticmethod
    def structure(quantized: Path) -> tuple:
        """What latency depends on: the layers, and which of them are in INT8."""
        lines = layer_lines(quantized.read_bytes())
        return tuple(sorted(Counter(line[0] for line in lines).items())), tuple(filter(in_int8, map(tuple, lines)))


def quantized(layers: list[Layer], chosen: set[str], largest: dict[str, float]) -> list[Layer]:
    """Layers of which those with the `chosen` names are in INT8.

    Args:
        largest: the largest magnitude of each tensor that one of them reads.
    """
    readers = defaultdict(list)
    for layer in layers:
        for tensor in layer.reads:
            readers[tensor].append(layer)
    result = []
    for layer in layers:
        if layer.name not in chosen:
            result.append(layer)
            continue
        only = readers[layer.gives[0]] if len(readers[layer.gives[0]]) == 1 else []
        next_one = next((one for one in only if one.name in chosen and _reads_int8(one)), None)
        result.append(_in_int8(layer, largest, next_one if _reads_int8(layer) else None))
    return result


def _in_int8(layer: Layer, largest: dict[str, float], next_one: Layer | None) -> Layer:
    """A layer in INT8; it gives INT8 values if the next one that reads them is given."""
    count = weight_count(layer)
    weights = np.frombuffer(layer.weights, "<f4", count, 4).reshape(_channels(layer), -1)
    magnitude = np.abs(weights).max(axis=1)
    scales = (LEVELS / np.where(magnitude > 0, magnitude, LEVELS)).astype("<f4")  # ncnn divides by a scale
    # A half is rounded away from zero, as ncnn does it.
    steps = np.copysign(np.floor(np.abs(weights * scales[:, None]) + 0.5), weights)
    stored = np.clip(steps, -LEVELS, LEVELS).astype(np.int8).tobytes()
    parts = [STORED_INT8, stored, bytes(-len(stored) % 4), layer.weights[4 + 4 * count :], scales.tobytes()]
    term, more = 2, {}
    if layer.type == "ConvolutionDepthWise":
        term = 1
    elif layer.type == "Convolution":
        more = NO_WINOGRAD
    if layer.type != "Gemm":
        parts.append(_scale(largest[layer.reads[0]]))
    if next_one is not None:
        term += REQUANTISED
        parts.append(_scale(largest[next_one.reads[0]]))
    return replace(layer, weights=b"".join(parts), params={**layer.params, INT8_TERM[layer.type]: str(term), **more})


def _scale(largest: float) -> bytes:
    return np.array(LEVELS / largest, "<f4").tobytes()


def _channels(layer: Layer) -> int:
    """Number of scales that a layer's weights have."""
    return 1 if layer.type == "Gemm" else int(layer.params["0"])


def _reads_int8(layer: Layer) -> bool:
    """Whether a layer in INT8 takes values that the one before it has quantised, as only a convolution does."""
    return layer.type.startswith("Convolution")


def _has_int8(layer: Layer) -> bool:
    """Whether ncnn computes a layer in INT8, and rightly."""
    if layer.type not in INT8_TERM or not weight_count(layer):
        return False
    if layer.type == "ConvolutionDepthWise":
        return layer.params["0"] == layer.params.get("7") and weight_count(layer) == int(layer.params["0"]) * _area(
            layer
        )
    if layer.type == "Gemm":
        return layer.params.get("3") == "1"
    return True


def _area(layer: Layer) -> int:
    return int(layer.params["1"]) * int(layer.params.get("11", layer.params["1"]))


def _alone(layer: Layer) -> Any:
    """A network of one layer."""
    read = Layer(type="Input", name="given", reads=(), gives=(INPUT,), params={})
    return network(*written_layers([read, replace(layer, reads=(INPUT,), gives=(OUTPUT,))]), threads=1)


def _in_turns(nets: list[Any], given: np.ndarray) -> list[float]:
    """Seconds of processor time of a call of each network: the least of several measurements, in turns."""
    import ncnn

    filled = ncnn.Mat(*reversed(given.shape))
    np.asarray(filled)[...] = given
    least = [float("inf")] * len(nets)
    for number in range(ROUNDS):
        for place in range(len(nets))[:: 1 if number % 2 else -1]:
            started = time.process_time()
            for _ in range(CALLS):
                run = nets[place].create_extractor()
                run.input(INPUT, filled)
                run.extract(OUTPUT)
            least[place] = min(least[place], (time.process_time() - started) / CALLS)
    return least
