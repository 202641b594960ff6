"""The record of a benchmark: the JSON that programs read, and what of it may be missing or new."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
from pydantic import TypeAdapter, ValidationError

from edgepress.deploy.bench.benchmark import Benchmark, BenchSettings, Cell
from edgepress.deploy.bench.memory import Memory
from edgepress.deploy.bench.steady import Warmup
from edgepress.deploy.bench.timing import Timing
from edgepress.deploy.engines.base import CopyTimes, Ran
from edgepress.deploy.machine.device import Machine
from edgepress.deploy.machine.state import DeviceState

TIMING = Timing(
    p50_ms=2.0,
    p90_ms=3.0,
    p95_ms=4.0,
    p99_ms=None,
    max_ms=9.0,
    mean_ms=2.5,
    images_per_second=400.0,
    calls=300,
    claimed_ms={"p90": 3.5, "p95": 4.5, "p99": None},
    calls_needed={"p99": 662},
    blocks_ms=[2.0] * 40,
    warmup=Warmup(steady=True, seconds=0.5, calls=200, spread=0.01),
    millijoules_per_image=None,
)
STATE = DeviceState(
    model=None,
    l4t=None,
    power_mode=None,
    clocks="unlocked",
    clock_ranges={"cpu0": [1.0, 2.0]},
    governors=["powersave"],
    temperatures={"cpu-thermal": 45.0},
    throttle_events={},
    throttling=[],
    load=0.5,
    driver=None,
)
BENCHMARK = Benchmark(
    edgepress="0.1.0",
    when="2026-11-30T00:00:00+00:00",
    engine="onnx-int8",
    digest="d" * 64,
    settings=BenchSettings(device="cpu", hint="latency", threads=None, seconds=3.0),
    load_ms=100.0,
    first_ms=5.0,
    memory=Memory(peak_mb=120.0, growth_mb=40.0),
    pictures="generated JPEGs",
    cells=[Cell(batch=1, streams=2, model=TIMING, end_to_end=TIMING, decode_ms=1.0, ahead=None, copies=None)],
    copies_reason="nothing is copied",
    energy_source=None,
    energy_reason="no meter",
    ran=Ran(runtime="onnxruntime", version="1.32", provider="CPUExecutionProvider", precision="int8"),
    machine=Machine(
        processor="a processor",
        cores=2,
        architecture="x86_64",
        system="Linux",
        python="3.11.7",
        governor="unknown",
        model=None,
        gpu=None,
    ),
    before=STATE,
    after=STATE,
    cautions=["clocks: unlocked (cpu0 1 to 2 MHz)"],
)


def test_the_record_is_plain_json_and_is_read_again():
    record = BENCHMARK.as_dict()
    assert list(record) == list(Benchmark.__dataclass_fields__)
    assert record["settings"] == {"device": "cpu", "hint": "latency", "threads": None, "seconds": 3.0}
    assert (record["machine"]["cores"], record["machine"]["gpu"]) == (2, None)
    assert record["before"]["clock_ranges"] == {"cpu0": [1.0, 2.0]}
    assert record["cells"][0]["model"]["calls_needed"] == {"p99": 662}
    assert TypeAdapter(Benchmark).validate_python(json.loads(json.dumps(record))) == BENCHMARK


def test_the_times_of_copies_are_in_the_record():
    cell = replace(BENCHMARK.cells[0], copies=CopyTimes(copy_in_ms=0.1, compute_ms=1.0, copy_out_ms=0.2))
    record = replace(BENCHMARK, cells=[cell]).as_dict()
    assert record["cells"][0]["copies"] == {"copy_in_ms": 0.1, "compute_ms": 1.0, "copy_out_ms": 0.2}


def test_a_record_of_an_earlier_or_a_later_version_is_read():
    record = copy.deepcopy(BENCHMARK.as_dict())
    del record["ran"]["products"]
    for part in (record, *(record[name] for name in ("settings", "machine", "before", "memory", "ran"))):
        part["later"] = {"unknown": 1}
    assert TypeAdapter(Benchmark).validate_python(record) == BENCHMARK
    del record["machine"]["processor"]
    with pytest.raises(ValidationError, match=r"machine\.processor"):
        TypeAdapter(Benchmark).validate_python(record)
