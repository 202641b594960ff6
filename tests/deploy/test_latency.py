"""bench: ordered percentiles over enough calls, of the model alone and of the whole way from bytes to logits."""

from __future__ import annotations

import time

import numpy as np
import pytest

from deploy.latency import MIN_CALLS, MIN_PAIRS, Timing, _median_interval, bench, compare_latency
from multilabel.errors import EngineUnavailableError, InputError
from multilabel.pictures import read_bytes


def check(timing: Timing, batch: int) -> None:
    assert 0 < timing.p50_ms <= timing.p90_ms <= timing.p99_ms
    assert timing.calls >= MIN_CALLS == 100
    assert timing.images_per_second == pytest.approx(1e3 * batch / timing.mean_ms, rel=0.05)


@pytest.mark.parametrize(("name", "batch"), [("onnx-fp32", 1), ("onnx-fp32", 3), ("openvino-fp32", 1)])
def test_timings_are_ordered_and_many(build, name, batch):
    bundle = build(name)
    result = bench(bundle, batch=batch, seconds=0.05)
    check(result.model, batch)
    check(result.end_to_end, batch)
    assert result.end_to_end.p50_ms > result.model.p50_ms  # a picture of 640x480 must be decoded first
    assert (result.engine, result.batch) == (name, batch)
    assert result.pictures == "generated JPEGs, 640x480"
    assert result.load_ms > 0
    assert result.first_ms > 0
    assert result.ran["runtime"] in ("onnxruntime", "openvino")
    assert result.machine["cores"] >= 1


def test_a_longer_measurement_has_more_calls(onnx_bundle, splits):
    pictures = [read_bytes(path) for path in splits.test.paths[:3]]
    result = bench(onnx_bundle, pictures, batch=2, seconds=0.5)
    assert result.pictures == "3 pictures of the data set"
    assert result.model.calls * result.model.mean_ms >= 500 * 0.95
    check(result.model, 2)


def test_the_command_line_prints_what_bench_measures(onnx_bundle, edgepress, tiny_data):
    arguments = ("bench", onnx_bundle.path, "--data", tiny_data, "--batch", "3", "--seconds", "0.05", "--json")
    answer = edgepress(*arguments)
    assert answer.code == 0
    assert (answer.json["batch"], answer.json["pictures"]) == (3, "12 pictures of the data set")
    assert answer.json["model"].keys() >= {"p50_ms", "p90_ms", "p99_ms", "images_per_second", "calls"}


class Sleeper:
    """An engine that takes as long as it is told."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, images: np.ndarray) -> None:
        assert images.shape == (1, 4, 4, 3)
        time.sleep(self.seconds)

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *error: object) -> None: ...


@pytest.mark.parametrize(("first", "second"), [(0.006, 0.002), (0.002, 0.006), (0.002, 0.002)])
def test_two_engines_are_compared_in_turn(monkeypatch, first, second):
    monkeypatch.setattr("deploy.latency.open_engine", lambda seconds, device: Sleeper(seconds))
    measured = compare_latency(first, second, np.zeros((3, 4, 4, 3), np.uint8), seconds=0.05)
    assert 0 < measured.low <= measured.ratio <= measured.high
    assert measured.pairs >= MIN_PAIRS == 20
    if first == second:  # the interval misses 1 now and then
        assert 0.5 < measured.ratio < 2
    else:
        assert (measured.low > 1, measured.high < 1) == (first > second, first < second)


def test_an_engine_is_not_slower_than_itself(onnx_bundle):
    size = onnx_bundle.preprocess.size
    measured = compare_latency(onnx_bundle, onnx_bundle, np.zeros((3, size, size, 3), np.uint8), seconds=0.5)
    assert measured.low <= 1.25  # by chance a little above 1 now and then


@pytest.mark.parametrize("count", [6, 20, 50, 400])
def test_the_interval_of_a_median_covers_it_as_often_as_it_says(count):
    rng = np.random.default_rng(0)
    low, high = _median_interval(count)
    ordered = np.sort(rng.exponential(size=(4000, count)), axis=1)
    covered = ((ordered[:, low] <= np.log(2)) & (np.log(2) <= ordered[:, high])).mean()
    assert 0.94 < covered < 0.99


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"seconds": 0}, {"encoded": [b"no picture"]}])
def test_nothing_is_timed_on_wrong_input(onnx_bundle, wrong):
    with pytest.raises(InputError):
        bench(onnx_bundle, **wrong)


def test_a_device_that_is_not_here_is_named(build):
    with pytest.raises(EngineUnavailableError, match="OpenVINO sees no NPU"):
        bench(build("openvino-fp32"), device="npu", seconds=0.05)
