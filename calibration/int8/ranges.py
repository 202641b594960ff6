"""The range of values to which each activation is quantised, which the calibration pictures determine.

There are two passes over the pictures, a few at a time, so that memory does not grow with their number: the first finds
every tensor's smallest and largest value, the second counts its values in `BINS` equal bins between them. Every method
reads its range from these counts, so a further method needs no further pass.

ONNX Runtime's method "distribution" is missing: for INT8 its quantiser reads only the lowest and highest edge of a
histogram made symmetric around 0, which is min-max with a wider range. Its entropy method moves both ends of such a
symmetric histogram together, and with its default of 128 bins for 128 levels has nothing to choose.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from edgepress.multilabel.onnx_session import cpu_session

Values = Callable[[np.ndarray], dict[str, np.ndarray]]
Method = Literal["min-max", "percentile-99.9", "percentile-99.99", "percentile-99.999", "entropy", "least-squares"]
METHODS: tuple[Method, ...] = get_args(Method)
BINS = 2048
CHUNK = 8
"""Pictures whose activations the first pass holds at once; the second pass holds those of one picture."""
SAMPLE = 32768
"""Largest number of values of a tensor that one picture adds to its histogram, sampled at even distances."""
LEVELS = 256
STEPS = 64
"""Number of ranges that entropy and least squares try for each tensor."""


class Ranges:
    """Minimum, maximum and histogram of a model's tensors on calibration pictures.

    Args:
        values: maps one picture, uint8 `[1, size, size, 3]`, to the tensors by name.
        images: uint8 `[N, size, size, 3]`.
        limits: each tensor's smallest and largest value; by default a first pass over the pictures finds them.
    """

    def __init__(
        self, values: Values, images: np.ndarray, limits: dict[str, tuple[float, float]] | None = None
    ) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shapes of every tensor, for one picture."""
        self.limits = _extremes(values, images) if limits is None else limits
        self.counts = {name: np.zeros(BINS, np.int64) for name in self.limits}
        for image in images:
            for name, tensor in values(image[None]).items():
                self._count(name, tensor)

    @classmethod
    def of_onnx(cls, model: Path, operators: list[str], folder: Path, images: np.ndarray) -> Ranges:
        """Measure every tensor that an ONNX model's quantised operators read or write.

        Args:
            model: float ONNX file, prepared for quantisation (shapes inferred).
            operators: types of operator whose inputs and outputs are measured.
            folder: a folder for models with additional outputs.
            images: uint8 `[N, size, size, 3]`.
        """
        limits = _limits(model, operators, folder, images)
        names = list(limits)
        session, feed = open_with_outputs(model, names)
        return cls(lambda image: dict(zip(names, session.run(names, {feed: image}), strict=True)), images, limits)

    def _count(self, name: str, values: np.ndarray) -> None:
        low, high = self.limits[name]
        self.shapes[name] = values.shape
        if high > low:
            values = values.ravel()[:: max(values.size // SAMPLE, 1) | 1]  # odd, so not one column alone
            places = ((values - low) * (BINS / (high - low))).astype(np.int32)
            self.counts[name] += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)

    def by(self, method: Method) -> dict[str, tuple[float, float]]:
        """Return every tensor's range by a method."""
        find = _finder(method)
        return {
            name: find(self.counts[name], low, high) if high > low else (low, high)
            for name, (low, high) in self.limits.items()
        }


def _extremes(values: Values, images: np.ndarray) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for image in images:
        for name, tensor in values(image[None]).items():
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = min(low, float(tensor.min())), max(high, float(tensor.max()))
    return found


def open_with_outputs(model: Path, names: list[str]) -> tuple[Any, str]:
    """Open a session of a model that outputs further tensors; also returns the name of its input.

    The graph is not optimised, because fusing would remove requested tensors.
    """
    import onnx

    loaded = onnx.load(str(model))
    there = {value.name for value in loaded.graph.output}
    loaded.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    session = cpu_session(loaded.SerializeToString(), "nothing")
    return session, session.get_inputs()[0].name


def _limits(model: Path, operators: list[str], folder: Path, images: np.ndarray) -> dict[str, tuple[float, float]]:
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        model,
        operators,
        augmented_model_path=str(folder / "limits.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    name = calibrator.infer_session.get_inputs()[0].name
    for start in range(0, len(images), CHUNK):
        calibrator.collect_data(reader(name, images[start : start + CHUNK]))
    measured = calibrator.compute_data()
    return {tensor: (data.lowest.item(), data.highest.item()) for tensor, data in measured.items()}


def reader(name: str, images: np.ndarray):
    """Feeds pictures to ONNX Runtime's calibrators one by one."""
    from onnxruntime.quantization import CalibrationDataReader

    class Pixels(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{name: image[None]} for image in images])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    return Pixels()


def _finder(method: Method) -> Callable[[np.ndarray, float, float], tuple[float, float]]:
    if method == "min-max":
        return lambda counts, low, high: (low, high)
    if method == "entropy":
        return lambda counts, low, high: _best_range(counts, low, high, _divergence)
    if method == "least-squares":
        return lambda counts, low, high: _best_range(counts, low, high, _squared_error)
    inside = float(method.removeprefix("percentile-")) / 100
    return lambda counts, low, high: _percentile(counts, low, high, inside)


def _percentile(counts: np.ndarray, low: float, high: float, inside: float) -> tuple[float, float]:
    """The range that leaves out half of 1 - `inside` of the values at either end."""
    share, edges = np.cumsum(counts) / counts.sum(), np.linspace(low, high, BINS + 1)
    cut = (1 - inside) / 2
    return float(edges[np.searchsorted(share, cut, "right")]), float(edges[np.searchsorted(share, 1 - cut) + 1])


def _best_range(
    counts: np.ndarray,
    low: float,
    high: float,
    cost: Callable[[np.ndarray, np.ndarray, tuple[float, float]], float],
) -> tuple[float, float]:
    """Find the cheapest among ranges that first cut the larger end, then the other.

    An end at 0 remains there, because values that a ReLU made 0 are exact.
    """
    centres = low + (np.arange(BINS) + 0.5) * (high - low) / BINS
    best = (low, high)
    for end in (0, 1) if -low > high else (1, 0):
        tried = [best]
        for shrink in np.linspace(1, 0, STEPS, endpoint=False)[1:]:
            ends = list(best)
            ends[end] *= shrink
            tried.append((ends[0], ends[1]))
        best = tried[int(np.argmin([cost(counts, centres, ends) for ends in tried]))]
    return best


def _levels(values: np.ndarray, ends: tuple[float, float]) -> tuple[np.ndarray, float]:
    """The level of each value on a grid of 256 that contains 0, and the grid's step."""
    bottom, top = min(ends[0], 0.0), max(ends[1], 0.0)
    step = max((top - bottom) / (LEVELS - 1), float(np.finfo(np.float32).tiny))
    return np.round(np.clip(values, bottom, top) / step), step


def _squared_error(counts: np.ndarray, centres: np.ndarray, ends: tuple[float, float]) -> float:
    """Σ n (x − q(x))², the noise that a range adds."""
    levels, step = _levels(centres, ends)
    return float((counts * (centres - step * levels) ** 2).sum())


def _divergence(counts: np.ndarray, centres: np.ndarray, ends: tuple[float, float]) -> float:
    """KL(P ‖ Q) in nats: P has the values, with those outside in the outermost bin; Q has what the levels keep inside.

    Migacz, "8-bit inference with TensorRT" (GTC 2017), for a range whose ends need not be symmetric. A level's count is
    spread evenly over its bins that are not empty; an empty outermost bin counts as one value.
    """
    inside = (centres >= ends[0]) & (centres <= ends[1])
    if not counts[inside].any():
        return float("inf")
    first, last = np.flatnonzero(inside)[[0, -1]]
    kept = counts[first : last + 1].astype(np.float64)
    p = kept.copy()
    p[0] += counts[:first].sum()
    p[-1] += counts[last + 1 :].sum()
    kept[[0, -1]] = np.maximum(kept[[0, -1]], 1)
    level = _levels(centres[first : last + 1], ends)[0]
    level = (level - level[0]).astype(np.int64)
    held = kept > 0
    spread = np.bincount(level, kept) / np.maximum(np.bincount(level, held), 1)
    q = np.where(held, spread[level], 0.0)
    p, q = p / p.sum(), q / q.sum()
    shown = p > 0
    return float((p[shown] * np.log(p[shown] / q[shown])).sum())
