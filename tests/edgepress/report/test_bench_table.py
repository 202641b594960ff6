"""What a person sees of a benchmark: dashes where calls were too few, and every caution."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgepress.deploy.bench.against import Against, CellRatio
from edgepress.deploy.bench.benchmark import Benchmark
from edgepress.deploy.bench.memory import Memory
from edgepress.deploy.engines.base import CopyTimes
from edgepress.report.bench_table import lines, print_bench
from tests.deploy.bench.test_benchmark import BENCHMARK


def shown(benchmark: Benchmark, against: Against | None = None) -> str:
    console = Console(file=io.StringIO(), width=160, markup=False)
    print_bench(benchmark, against, console)
    return console.file.getvalue()


def test_a_percentile_without_enough_calls_is_a_dash_and_told_how_many_it_needs():
    text = shown(BENCHMARK)
    row = next(line for line in text.splitlines() if "model alone" in line)
    assert row.replace("│", " ").split()[2:] == [
        *("1", "2", "2.00", "3.00", "4.00", "-", "9.00", "2.50", "300", "400.0"),
    ]
    assert "-: p99 needs 662 calls to be claimed with 99 % confidence (about --seconds 1)" in text
    assert "decoded ahead" not in text


def test_unlocked_clocks_are_a_caution():
    assert "CAUTION clocks: unlocked (cpu0 1 to 2 MHz)" in shown(BENCHMARK)


def test_what_is_not_told_has_its_reason():
    told = lines(BENCHMARK)
    assert "peak memory 120 MB, 40 MB of it since before the load" in told
    assert "copies: nothing is copied" in told
    assert "energy: no meter" in told
    memory = Memory(peak_mb=120.0, growth_mb=None, reason="it had held as much before")
    hidden = replace(BENCHMARK, memory=memory)
    assert {"peak memory 120 MB", "memory: it had held as much before"} <= set(lines(hidden))


def test_energy_and_copies_where_they_are_told():
    timing = replace(BENCHMARK.cells[0].model, millijoules_per_image=12.5)
    copies = CopyTimes(copy_in_ms=0.1, compute_ms=1.0, copy_out_ms=0.2)
    cell = replace(BENCHMARK.cells[0], model=timing, end_to_end=timing, ahead=timing, copies=copies)
    text = shown(replace(BENCHMARK, cells=[cell], energy_source="RAPL: package-0", copies_reason=""))
    assert "mJ/picture" in text
    assert text.count("12.50") == 3  # model, end to end, decoded ahead
    assert "batch 1: copy in 0.100 ms, compute 1.000 ms, copy out 0.200 ms" in text
    assert "energy: RAPL: package-0" in text


@pytest.mark.parametrize(("interleaved", "words"), [(True, "; in turn"), (False, "NOT in turn: two runs")])
def test_a_comparison_says_whether_it_was_in_turn(interleaved, words):
    against = Against(
        other="onnx-fp32",
        digest=None,
        interleaved=interleaved,
        differences=["machine, cores: 2 here, 4 in the record"],
        ratios=[
            CellRatio(batch=1, streams=1, ratio=0.5, low=0.4, high=0.6),
            CellRatio(batch=8, streams=1, ratio=0.7),
        ],
    )
    text = shown(BENCHMARK, against)
    assert words in text
    assert "batch 1, streams 1: 0.500 times (0.400 to 0.600, 95 %) the time of onnx-fp32" in text
    assert "no interval, too few calls" in text
    assert "CAUTION differs: machine, cores: 2 here, 4 in the record" in text
