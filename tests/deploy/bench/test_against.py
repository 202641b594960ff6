"""Two engines in turn, and a measurement against a record: the ratio, and an interval that holds it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgepress.deploy.bench.against import (
    CellRatio,
    Record,
    Timed,
    against_record,
    compare_latency,
    compare_records,
    median_interval,
    open_other,
    ratio_interval,
    read_record,
    record_differences,
)
from edgepress.deploy.bench.latency import bench
from edgepress.multilabel.errors import InputError
from tests.deploy.bench.test_benchmark import BENCHMARK


class Sleeper:
    """An engine that takes as long as it is told."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.shapes: set[tuple[int, ...]] = set()

    def __call__(self, images: np.ndarray) -> None:
        self.shapes.add(images.shape)
        time.sleep(self.seconds)

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *error: object) -> None: ...


@pytest.mark.parametrize(("first", "second"), [(0.02, 0.002), (0.002, 0.02)])
@pytest.mark.parametrize("batch", [1, 2])
def test_two_engines_are_compared_in_turn(monkeypatch, onnx_bundle, first, second, batch):
    sleepers = iter([Sleeper(first), Sleeper(second)])
    opened: list[Sleeper] = []
    monkeypatch.setattr(
        "edgepress.deploy.bench.against.open_engine",
        lambda bundle, device, **settings: opened.append(next(sleepers)) or opened[-1],
    )
    images = np.zeros((3, 4, 4, 3), np.uint8)
    measured = compare_latency(onnx_bundle, onnx_bundle, images, seconds=0.05, batch=batch)
    assert measured.low <= measured.ratio <= measured.high
    assert (measured.low > 1, measured.high < 1) == (first > second, first < second)
    assert [engine.shapes for engine in opened] == [{(batch, 4, 4, 3)}] * 2


def test_real_engines_are_compared(build):
    first, second = build("onnx-fp32"), build("openvino-fp32")
    size = first.preprocess.size
    measured = compare_latency(first, second, np.zeros((3, size, size, 3), np.uint8), seconds=0.05)
    assert 0 < measured.low <= measured.ratio <= measured.high


def test_engines_of_other_pictures_are_refused(onnx_bundle):
    manifest = onnx_bundle.manifest.model_copy(update={"preprocess": onnx_bundle.preprocess.with_size(32)})
    smaller = replace(onnx_bundle, manifest=manifest)
    with pytest.raises(InputError, match="64 and 32 pixels"):
        compare_latency(onnx_bundle, smaller, np.zeros((1, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("count", [6, 20, 50, 400])
def test_the_interval_of_a_median_covers_it_as_often_as_it_says(count):
    rng = np.random.default_rng(0)
    low, high = median_interval(count)
    ordered = np.sort(rng.exponential(size=(4000, count)), axis=1)
    covered = ((ordered[:, low] <= np.log(2)) & (np.log(2) <= ordered[:, high])).mean()
    assert 0.94 < covered < 0.99


class TestRecords:
    @staticmethod
    def record(blocks, batch=1, streams=1, **changed) -> dict[str, Any]:
        cell = {"batch": batch, "streams": streams, "model": {"blocks_ms": list(blocks)}}
        machine = {"processor": "one", "cores": 2, **changed}
        return {"engine": "onnx-fp32", "when": "2026-11-24", "cells": [cell], "machine": machine}

    @staticmethod
    def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> list[CellRatio]:
        return compare_records(Record.model_validate(ours), Record.model_validate(theirs))

    @pytest.mark.parametrize("true", [0.8, 1.0, 1.5])
    def test_the_interval_covers_the_ratio_as_often_as_it_says(self, true):
        """200 pairs of made-up measurements with a known ratio, 40 parts each; the seed is fixed."""
        rng = np.random.default_rng(2)
        held = 0
        for _ in range(200):
            low, high = ratio_interval(true * rng.lognormal(0, 0.1, 40), rng.lognormal(0, 0.1, 40))
            held += low <= true <= high
        assert 0.90 <= held / 200 <= 0.99

    def test_ours_over_the_record(self):
        (ratio,) = self.compared(self.record([2.0] * 10), self.record([4.0] * 10))
        assert (ratio.ratio, ratio.low, ratio.high) == (0.5, 0.5, 0.5)

    def test_too_few_parts_give_no_interval(self):
        (ratio,) = self.compared(self.record([2.0] * 5), self.record([4.0] * 40))
        assert (ratio.ratio, ratio.low, ratio.high) == (0.5, None, None)

    def test_only_what_both_have_is_compared(self):
        both = self.record([1.0] * 10)
        both["cells"] += self.record([3.0] * 10, batch=8)["cells"]
        (ratio,) = self.compared(both, self.record([6.0] * 10, batch=8))
        assert (ratio.batch, ratio.ratio) == (8, 0.5)
        with pytest.raises(InputError, match="batch 4 with 2 streams"):
            self.compared(both, self.record([1.0] * 10, batch=4, streams=2))

    def test_another_machine_and_other_settings_are_named(self):
        ours, theirs = self.record([1.0] * 10), self.record([1.0] * 10, processor="two")
        ours["after"], theirs["after"] = {"clocks": "locked"}, {"clocks": "unlocked"}
        now, then = Record.model_validate(ours), Record.model_validate(theirs)
        assert record_differences(now, then) == [
            "machine, processor: one here, two in the record",
            "after, clocks: locked here, unlocked in the record",
        ]
        assert record_differences(now, now) == []

    def test_a_benchmark_is_compared_with_a_record(self):
        then = Record.model_validate({**BENCHMARK.as_dict(), "machine": {"processor": "another"}})
        result = against_record(BENCHMARK, then)
        assert result.interleaved is False
        assert (result.other, result.digest) == (f"onnx-int8, recorded {BENCHMARK.when}", BENCHMARK.digest)
        assert "machine, processor: a processor here, another in the record" in result.differences
        assert [(row.batch, row.streams, row.ratio) for row in result.ratios] == [(1, 2, 1.0)]
        assert against_record(BENCHMARK, Record.model_validate(BENCHMARK.as_dict())).differences == []

    def test_a_comparison_is_in_the_record_and_is_read_again(self):
        assert Timed(benchmark=BENCHMARK).as_dict() == BENCHMARK.as_dict()
        against = against_record(BENCHMARK, Record.model_validate(BENCHMARK.as_dict()))
        for timed in (Timed(benchmark=BENCHMARK), Timed(benchmark=BENCHMARK, against=against)):
            record = json.loads(json.dumps(timed.as_dict()))
            assert ("against" in record) == (timed.against is not None)
            assert Timed.from_dict({"host": "there", **record}) == timed

    def test_what_bench_wrote_is_read_and_compared(self, onnx_bundle, tmp_path, edgepress):
        file = tmp_path / "earlier.json"
        file.write_text(json.dumps(bench(onnx_bundle, seconds=0.05).as_dict()))
        assert open_other(file) == read_record(file)
        answer = edgepress("bench", onnx_bundle.path, "--seconds", "0.05", "--against", file, "--json")
        assert answer.code == 0, answer
        found = answer.json["against"]
        assert found["interleaved"] is False
        assert found["ratios"][0]["low"] <= found["ratios"][0]["ratio"] <= found["ratios"][0]["high"]
        assert not any(line.startswith("machine") for line in found["differences"])

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "no JSON"),
            ("[" * 100_000, "no JSON"),
            ("[]", "no record of bench"),
            ("null", "no record of bench"),
            ('{"cells": []}', "cells: List should have at least 1 item"),
            ('{"cells": [{"batch": 1}], "machine": {}}', r"cells.0.streams: Field required"),
            ('{"cells": [{"batch": 1, "streams": 1, "model": {"blocks_ms": [0]}}], "machine": {}}', "greater than 0"),
            ('{"verdict": "not run", "machine": {}}', "cells: Field required"),
        ],
    )
    def test_another_file_is_refused(self, tmp_path, text, words):
        file = tmp_path / "other.json"
        file.write_text(text)
        with pytest.raises(InputError, match=words) as error:
            open_other(file)
        assert str(error.value).startswith(f"{file}: ")
        assert "made by bench --save" in str(error.value)

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"settings": None}, "settings"),
            ({"ran": []}, "ran"),
            ({"after": "later"}, "after"),
            ({"machine": None}, "machine"),
            ({"machine": {"gpu": [[["deep"]]]}}, "machine.gpu"),
            ({"engine": {"name": 1}}, "engine"),
            ({"blocks": ["1.0", "2.0"]}, r"cells.0.model.blocks_ms"),
            ({"blocks": [float("nan")]}, r"cells.0.model.blocks_ms"),
            ({"blocks": []}, r"cells.0.model.blocks_ms"),
            ({"batch": "1"}, "cells.0.batch"),
            ({"streams": 0}, "cells.0.streams"),
        ],
    )
    def test_a_record_that_was_changed_is_refused_in_one_line(self, tmp_path, changed, named):
        parts = {name: changed.pop(name) for name in ("blocks", "batch", "streams") if name in changed}
        file = tmp_path / "changed.json"
        file.write_text(json.dumps({**self.record(**{"blocks": [1.0] * 10, **parts}), **changed}))
        with pytest.raises(InputError, match=rf"changed\.json: no record of bench \({named}") as error:
            read_record(file)
        assert "\n" not in str(error.value)


def test_another_bundle_on_the_command_line(build, edgepress):
    first, second = build("onnx-fp32"), build("openvino-fp32")
    answer = edgepress("bench", first.path, "--batch", "1,2", "--seconds", "0.05", "--against", second.path, "--json")
    assert answer.code == 0, answer
    found = answer.json["against"]
    assert (found["other"], found["interleaved"], found["digest"]) == ("openvino-fp32", True, second.digest)
    assert [row["batch"] for row in found["ratios"]] == [1, 2]
