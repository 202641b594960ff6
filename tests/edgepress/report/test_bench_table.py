"""What a person sees of a benchmark: dashes where calls were too few, and every caution."""

from __future__ import annotations

import copy
import io

import pytest
from rich.console import Console

from edgepress.report.bench_table import lines, print_bench

TIMING = {
    "p50_ms": 2.0,
    "p90_ms": 3.0,
    "p95_ms": 4.0,
    "p99_ms": None,
    "max_ms": 9.0,
    "mean_ms": 2.5,
    "images_per_second": 400.0,
    "calls": 300,
    "calls_needed": {"p99": 662},
    "millijoules_per_image": None,
}
RECORD = {
    "engine": "onnx-int8",
    "ran": {"runtime": "onnxruntime", "version": "1.32", "provider": "CPUExecutionProvider", "precision": "int8"},
    "machine": {"processor": "a processor", "cores": 2},
    "pictures": "generated JPEGs",
    "cells": [
        {"batch": 1, "streams": 2, "model": TIMING, "end_to_end": TIMING, "ahead": None, "decode_ms": 1, "copies": None}
    ],
    "load_ms": 100.0,
    "first_ms": 5.0,
    "memory": {"peak_mb": 120.0, "growth_mb": 40.0, "reason": ""},
    "copies_reason": "nothing is copied",
    "energy_source": None,
    "energy_reason": "no meter",
    "cautions": ["clocks: unlocked (cpu0 1 to 2 MHz)"],
}


def shown(record: dict) -> str:
    console = Console(file=io.StringIO(), width=160, markup=False)
    print_bench(record, console)
    return console.file.getvalue()


def test_a_percentile_without_enough_calls_is_a_dash_and_told_how_many_it_needs():
    text = shown(RECORD)
    row = next(line for line in text.splitlines() if "model alone" in line)
    assert row.replace("│", " ").split()[2:] == [
        *("1", "2", "2.00", "3.00", "4.00", "-", "9.00", "2.50", "300", "400.0"),
    ]
    assert "-: p99 needs 662 calls to be claimed with 99 % confidence (about --seconds 1)" in text
    assert "decoded ahead" not in text


def test_unlocked_clocks_are_a_caution():
    assert "CAUTION clocks: unlocked (cpu0 1 to 2 MHz)" in shown(RECORD)


def test_what_is_not_told_has_its_reason():
    told = lines(RECORD)
    assert "peak memory 120 MB, 40 MB of it since before the load" in told
    assert "copies: nothing is copied" in told
    assert "energy: no meter" in told
    hidden = copy.deepcopy(RECORD)
    hidden["memory"] = {"peak_mb": 120.0, "growth_mb": None, "reason": "it had held as much before"}
    assert {"peak memory 120 MB", "memory: it had held as much before"} <= set(lines(hidden))


def test_energy_and_copies_where_they_are_told():
    told = copy.deepcopy(RECORD)
    told["energy_source"], told["copies_reason"] = "RAPL: package-0", ""
    cell = told["cells"][0]
    cell["model"]["millijoules_per_image"] = 12.5
    cell["ahead"] = cell["model"]
    cell["copies"] = {"copy_in_ms": 0.1, "compute_ms": 1.0, "copy_out_ms": 0.2}
    text = shown(told)
    assert "mJ/picture" in text
    assert text.count("12.50") == 3  # model, end to end (the same here), decoded ahead
    assert "batch 1: copy in 0.100 ms, compute 1.000 ms, copy out 0.200 ms" in text
    assert "energy: RAPL: package-0" in text


@pytest.mark.parametrize(("interleaved", "words"), [(True, "; in turn"), (False, "NOT in turn: two runs")])
def test_a_comparison_says_whether_it_was_in_turn(interleaved, words):
    record = copy.deepcopy(RECORD)
    record["against"] = {
        "other": "onnx-fp32",
        "interleaved": interleaved,
        "differences": ["machine, cores: 2 here, 4 in the record"],
        "ratios": [
            {"batch": 1, "streams": 1, "ratio": 0.5, "low": 0.4, "high": 0.6},
            {"batch": 8, "streams": 1, "ratio": 0.7, "low": None, "high": None},
        ],
    }
    text = shown(record)
    assert words in text
    assert "batch 1, streams 1: 0.500 times (0.400 to 0.600, 95 %) the time of onnx-fp32" in text
    assert "no interval, too few calls" in text
    assert "CAUTION differs: machine, cores: 2 here, 4 in the record" in text
