"""bench: ordered percentiles over enough calls, of the model alone and of the whole way from bytes to logits."""

from __future__ import annotations

import pytest

from deploy.latency import MIN_CALLS, Timing, bench
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


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"seconds": 0}, {"encoded": [b"no picture"]}])
def test_nothing_is_timed_on_wrong_input(onnx_bundle, wrong):
    with pytest.raises(InputError):
        bench(onnx_bundle, **wrong)


def test_a_device_that_is_not_here_is_named(build):
    with pytest.raises(EngineUnavailableError, match="OpenVINO sees no NPU"):
        bench(build("openvino-fp32"), device="npu", seconds=0.05)
