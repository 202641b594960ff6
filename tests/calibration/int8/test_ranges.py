"""Ranges of activations, against what is known of the values; and which processors need narrower weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgepress.calibration.int8.ranges import BINS, METHODS, Ranges, _divergence, _levels, _squared_error  # noqa: E402


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[Ranges, np.ndarray]:
    """Of 20 pictures under a 1 x 1 convolution, and the values that it gave."""
    folder = tmp_path_factory.mktemp("ranges")
    rng = np.random.default_rng(0)
    pictures = rng.normal(100, 10, (20, 32, 32, 3)).clip(0, 200).astype(np.uint8)
    pictures[7, 3, 4] = 255  # one bright place
    weight = rng.standard_normal((3, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight"], ["out"], "conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 32, 32, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "one.onnx")
    values = np.einsum("oi,nhwi->nohw", weight[:, :, 0, 0], pictures.astype(np.float32))
    return Ranges.of_onnx(Path(folder / "one.onnx"), ["Conv"], folder, pictures), values


def test_extremes_counts_and_shapes_are_those_of_the_values(measured):
    ranges, values = measured
    assert ranges.limits["out"] == pytest.approx((values.min(), values.max()), rel=1e-5)
    assert ranges.counts["out"].sum() == values.size
    expected, _ = np.histogram(values, BINS, ranges.limits["out"])
    assert np.abs(np.cumsum(expected) - np.cumsum(ranges.counts["out"])).max() <= 3  # rounding at the edges of bins
    assert ranges.shapes["out"] == (1, 3, 32, 32)


def test_without_limits_a_first_pass_finds_them(measured):
    ranges, values = measured
    rows = iter((*values, *values))  # once for each pass
    found = Ranges(lambda image: {"out": next(rows)[None]}, np.zeros((len(values), 1, 1, 3), np.uint8))
    assert found.limits["out"] == pytest.approx(ranges.limits["out"], rel=1e-5)
    assert found.shapes == {"out": (1, 3, 32, 32)}
    assert np.abs(np.cumsum(found.counts["out"]) - np.cumsum(ranges.counts["out"])).max() <= 3


@pytest.mark.parametrize("inside", [99.9, 99.99, 99.999])
def test_percentiles_leave_out_as_many_at_either_end(measured, inside):
    ranges, values = measured
    low, high = ranges.by(f"percentile-{inside}")["out"]
    cut = (1 - inside / 100) / 2
    width = 1.01 * (values.max() - values.min()) / BINS
    assert (values < low).mean() <= cut < (values < low + width).mean()
    assert (values > high).mean() <= cut < (values > high - width).mean()


def test_every_method_stays_inside_the_extremes(measured):
    ranges, values = measured
    for method in METHODS:
        low, high = ranges.by(method)["out"]
        assert values.min() - 1e-3 <= low < high <= values.max() + 1e-3, method
    assert ranges.by("min-max")["out"] == ranges.limits["out"]


def test_least_squares_is_no_worse_than_min_max_and_cuts_an_outlier(measured):
    ranges, _ = measured
    low, high = ranges.limits["out"]
    counts, centres = ranges.counts["out"], low + (np.arange(BINS) + 0.5) * (high - low) / BINS
    assert _squared_error(counts, centres, ranges.by("least-squares")["out"]) <= _squared_error(
        counts, centres, (low, high)
    )
    tail = np.zeros(BINS, np.int64)
    tail[:200], tail[-1] = 10_000, 1
    places = np.linspace(0, 100, BINS)
    assert _squared_error(tail, places, (0, 12)) < _squared_error(tail, places, (0, 5))
    assert _divergence(tail, places, (0, 12)) < _divergence(tail, places, (0, 3))


def test_levels_hold_zero_and_there_are_256():
    levels, step = _levels(np.linspace(2, 6, 1000), (2.0, 6.0))
    assert step == pytest.approx(6 / 255)
    assert levels.max() == 255
    levels, _ = _levels(np.linspace(-1, 3, 100_000), (-1.0, 3.0))
    assert len(np.unique(levels)) in (255, 256, 257)
    assert 0.0 in levels
