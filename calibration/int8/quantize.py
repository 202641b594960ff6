"""INT8 graphs, with one recipe per target, found by a search on val.

No Q/DQ graph serves all targets: ONNX Runtime on x86 is fastest with asymmetric UInt8 activations and quantised biases;
TensorRT takes only symmetric INT8 with zero point 0 and float biases, around Conv, MatMul and Gemm; OpenVINO is
quantised by NNCF, LiteRT by its own quantiser, and ncnn's files are written here, each in its own representation.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.calibration.int8.finished import Finished
from edgepress.calibration.int8.litert import LiteRtQuantizer
from edgepress.calibration.int8.ncnn import NcnnQuantizer
from edgepress.calibration.int8.openvino import OpenVinoQuantizer
from edgepress.calibration.int8.qdq import OnnxQuantizer, check_qdq, convolutions_in_int8
from edgepress.calibration.int8.search import SLOWER, Allowed, Candidate, Score, Search, Searcher, Trial
from edgepress.calibration.int8.touches import TOUCHES, touched
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.manifest import Target
from edgepress.multilabel.plural import plural
from edgepress.multilabel.ratio import Ratio

log = logging.getLogger("edgepress")

_ONNX_STEPS = (
    Candidate("min-max"),
    Candidate("percentile-99.99"),
    Candidate("", ("equalised",)),  # it comes before rounding because it moves weights off their grid
    Candidate("", ("rounded",)),
    Candidate("", ("corrected",)),
    Candidate("percentile-99.999"),
    Candidate("least-squares"),
    Candidate("percentile-99.9"),
    Candidate("entropy"),
)
_OPENVINO_STEPS = (
    Candidate("nncf"),
    Candidate("min-max"),
    Candidate("", ("equalised",)),
    Candidate("", ("rounded",)),
    Candidate("percentile-99.99"),
    Candidate("smooth-quant"),
    Candidate("percentile-99.9"),
)
STEPS: dict[Target, tuple[Candidate, ...]] = {
    "onnxruntime": _ONNX_STEPS,
    "tensorrt": _ONNX_STEPS,
    "openvino": _OPENVINO_STEPS,
    "litert": _ONNX_STEPS,
    "ncnn": _ONNX_STEPS,
}
"""What is tried, with the most promising first; see `calibration.int8.search`."""
_SLOWER = ("slower in INT8",)
"""Under what a search keeps the layers that are slower in INT8."""
_Own = OpenVinoQuantizer | LiteRtQuantizer | NcnnQuantizer
_OWN: dict[Target, type[_Own]] = {"openvino": OpenVinoQuantizer, "litert": LiteRtQuantizer, "ncnn": NcnnQuantizer}
"""Targets whose models are quantised in a representation of their own; the float model before it is touched in ONNX."""


def quantize(
    model: Path,
    out: Path,
    images: np.ndarray,
    *,
    target: Target,
    evaluate: Callable[[Path], Score],
    float_map: float,
    finished: Finished,
    allowed: Allowed,
    measure: Callable[[Path], Ratio] | None = None,
    time_limit: float = 60.0,
    weight_bits: int = 8,
    most_float: bool = False,
    where: str = "here",
) -> Search:
    """Write the fastest INT8 model found that loses no more on val than is allowed; see `calibration.int8.search`.

    Args:
        model: the fp32 ONNX file.
        out: file to write: .onnx, .xml for OpenVINO, .tflite for LiteRT, or .param for ncnn.
        images: uint8 calibration pictures `[N, size, size, 3]`.
        target: the runtime that will execute it.
        evaluate: maps a model file to its score on val.
        float_map: the fp32 model's mAP in [0, 1] on val.
        finished: where candidates are kept until the search is over; the caller removes it.
        allowed: what the model may lose on val.
        measure: maps a model file to its latency against fp32; None for a target that does not run on this machine.
        time_limit: number of seconds after which no further candidate is begun.
        weight_bits: 7 for x86 processors whose INT8 products saturate, otherwise 8.
        most_float: see `Searcher.run`.
        where: what messages say of the machine that latencies are measured on.

    Raises:
        InputError: the graph has nothing to quantise, or holds zero points that the target misreads.
    """
    try:
        quantizer = _Targeted(model, finished, images, target, weight_bits)
        searcher = Searcher(
            quantizer,
            out.name,
            evaluate=evaluate,
            measure=measure,
            float_map=float_map,
            allowed=allowed,
            finished=finished,
        )
        found = searcher.run(time_limit, most_float=most_float)
    except (InputError, OSError, MemoryError, EngineUnavailableError):
        raise
    except Exception as error:  # an error of a quantiser or a runtime is of its own type, and the graph's fault
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{model}: cannot be quantised for {target}: {reason}") from error
    _write(found.best.file, out, target)
    if not most_float:
        _warn(found, searcher, target, where)
    return found


def _write(best: Path, out: Path, target: Target) -> None:
    for suffix in (out.suffix, ".bin") if target in ("openvino", "ncnn") else (out.suffix,):
        shutil.copyfile(best.with_suffix(suffix), out.with_suffix(suffix))
    if target == "onnxruntime" or target == "tensorrt":
        check_qdq(out, target)
        log.info("  convolutions with a DequantizeLinear on both inputs: %d of %d", *convolutions_in_int8(out))


def _warn(found: Search, searcher: Searcher, target: Target, where: str) -> None:
    best: Trial = found.best
    in_float, allowed = plural(len(best.float_nodes), "node"), searcher.allowed
    if searcher.drop(best) > allowed.drop:
        drop = 100 * searcher.drop(best)
        said = f"val mAP drops by {drop:.2f} points, {100 * allowed.drop:g} are allowed"
        log.warning("int8 for %s: %s, with %s in float", target, said, in_float)
    if best.score.flips > allowed.flips:
        said = f"{best.score.flips:.3f} decisions change per predicted positive, {allowed.flips:g} are allowed"
        log.warning("int8 for %s: %s, with %s in float", target, said, in_float)
    if best.latency is not None and best.latency.slower(SLOWER):
        log.warning(
            "int8 for %s: slower than fp32 %s (%s): the gate fails%s", target, where, best.latency, _faster(searcher)
        )


def _faster(searcher: Searcher) -> str:
    """What is to be said of graphs that are not slower than fp32, where a slower one is taken."""
    faster = sum(one.latency is not None and not one.latency.slower(SLOWER) for one in searcher.trials)
    said = plural(faster, "graph is not slower, but loses", "graphs are not slower, but lose")
    return f"; {said} more on val than is allowed" if faster else ""


class _Targeted:
    """The quantiser of a target, for every float model that the touches make from one model."""

    def __init__(self, model: Path, finished: Finished, images: np.ndarray, target: Target, weight_bits: int) -> None:
        self.folder = finished.folder / "models"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.images, self.target, self.weight_bits = images, target, weight_bits
        self.steps = STEPS[target]
        if target == "openvino" and weight_bits == 7:
            # NNCF's grid would have the largest weight half-way between two integers, so none can be rounded before.
            self.steps = tuple(step for step in self.steps if "rounded" not in step.touches)
        self._onnx: dict[str, OnnxQuantizer] = {}
        self._own: dict[str, _Own] = {}
        self.plain = self._of_onnx("plain", lambda file: shutil.copyfile(model, file))
        self.products, self.weights, self.macs = self.plain.products, self.plain.weights, self.plain.macs
        if target in _OWN:
            # The others are computed in float: NNCF has fused them into attention, LiteRT multiplies two activations.
            own = self._in_own("plain")
            self.products = [name for name in self.products if name in own.names]
            if isinstance(own, NcnnQuantizer):
                # Not every kind of layer has a fast form in INT8, and which have one differs by the processor.
                self.steps = (self.steps[0]._replace(kept=_slower(own, finished)), *self.steps[1:])

    def write(self, out: Path, candidate: Candidate) -> bool:
        for count in range(1, len(candidate.touches) + 1):
            if not self._touch(candidate.touches[:count], candidate):
                return False
        name = _name(candidate.touches, candidate.method)
        if self.target not in _OWN:
            self._onnx[name].write(out, candidate.method, candidate.kept)  # type: ignore[arg-type]
            return True
        return self._in_own(name).write(out, candidate.method, candidate.kept)

    def float_nodes(self, quantized: Path) -> tuple[str, ...]:
        return self._reader.float_nodes(quantized, self.products)

    def structure(self, quantized: Path) -> tuple:
        return self._reader.structure(quantized)

    def rank(self, method: str, advance: Callable[[], None]) -> list:
        from edgepress.calibration.int8.sensitivity import rank_nodes

        # NNCF would have to quantise the model once per node, which takes minutes. The nodes and weights are the same,
        # so ONNX Runtime's graph with min-max ranges stands in for OpenVINO's.
        ranges = "min-max" if self.target == "openvino" else method
        return rank_nodes(self.plain, ranges, advance, self.products)  # type: ignore[arg-type]

    @property
    def _reader(self) -> Any:
        return _OWN.get(self.target, OnnxQuantizer)

    def _touch(self, touches: tuple[str, ...], candidate: Candidate) -> bool:
        name = _name(touches, candidate.method)
        if name in self._onnx:
            return True
        before = self._onnx[_name(touches[:-1], candidate.method)]
        result = touched(before, touches[-1], candidate.method, self.images)  # type: ignore[arg-type]
        if result is None:
            return False
        import onnx

        self._of_onnx(name, lambda file: onnx.save(result, str(file)))
        return True

    def _of_onnx(self, name: str, save: Callable[[Path], Any]) -> OnnxQuantizer:
        file = self._file(name)
        file.parent.mkdir(parents=True)
        save(file)
        self._onnx[name] = OnnxQuantizer(file, file.parent, self.images, self.target, self.weight_bits)
        return self._onnx[name]

    def _in_own(self, name: str) -> _Own:
        if name not in self._own:
            self._own[name] = _OWN[self.target](self._file(name), self.images, self.weight_bits)
        return self._own[name]

    def _file(self, name: str) -> Path:
        return self.folder / name / "float.onnx"


def _slower(own: NcnnQuantizer, finished: Finished) -> tuple[str, ...]:
    """The layers that stay in float for their time; a search that continues keeps what it measured when it began."""
    measured = finished.load(_SLOWER)
    if measured is None:
        measured = {"layers": own.slower_in_int8()}
        finished.save(_SLOWER, measured)
    return tuple(measured["layers"])


def _name(touches: tuple[str, ...], method: str) -> str:
    """The name of a float model; only a correction depends on how ranges are set."""
    return "+".join(["plain", *(f"{touch}-{method}" if TOUCHES[touch] else touch for touch in touches)])
