"""bench: percentiles as far as the calls allow them, of the model alone and of the whole way from bytes to logits."""

from __future__ import annotations

import itertools
import json
import threading
import time

import pytest

from edgepress.deploy.bench import latency
from edgepress.deploy.bench.benchmark import BenchSettings
from edgepress.deploy.bench.latency import bench
from edgepress.deploy.bench.memory import PeakMemory
from edgepress.deploy.bench.timing import BLOCKS, MIN_CALLS, run_window, time_calls
from edgepress.deploy.engines.base import CopyTimes
from edgepress.deploy.engines.onnxruntime import OnnxRuntimeEngine
from edgepress.deploy.machine.energy import Sampled
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.pictures import read_bytes

SHORT = {"seconds": 0.05}
NAMES = ("p50", "p90", "p95", "p99")


def check(timing, batch: int) -> None:
    known = [value for name in NAMES if (value := getattr(timing, f"{name}_ms")) is not None]
    assert known[0] > 0
    assert known == sorted(known)
    assert known[-1] <= timing.max_ms
    assert timing.images_per_second > 0
    assert set(timing.calls_needed) == {name for name in NAMES[1:] if getattr(timing, f"{name}_ms") is None}
    for name in NAMES[1:]:
        assert (timing.claimed_ms[name] is None) == (getattr(timing, f"{name}_ms") is None)
    assert 1 <= len(timing.blocks_ms) <= BLOCKS
    assert min(timing.blocks_ms) > 0
    assert timing.millijoules_per_image is None or timing.millijoules_per_image >= 0


@pytest.mark.parametrize(("name", "batch"), [("onnx-fp32", 1), ("onnx-fp32", 3), ("openvino-fp32", 1)])
def test_timings_are_ordered_and_many(build, name, batch):
    bundle = build(name)
    result = bench(bundle, batches=[batch], **SHORT)
    (cell,) = result.cells
    check(cell.model, batch)
    check(cell.end_to_end, batch)
    assert (result.engine, result.digest, cell.batch, cell.streams) == (name, bundle.digest, batch, 1)
    assert result.pictures == "generated JPEGs, 640x480"
    assert result.load_ms > 0
    assert result.first_ms > 0
    assert result.ran.runtime in ("onnxruntime", "openvino")
    assert result.machine.cores >= 1
    assert result.memory.peak_mb > 0
    assert (cell.copies, result.copies_reason) == (None, "on a CPU nothing is copied to a device")
    assert (result.energy_source is None) == bool(result.energy_reason)
    assert cell.decode_ms > 0
    assert (cell.ahead is None) == (batch == 1)
    json.dumps(result.as_dict())


def test_every_batch_size_with_every_number_of_streams(onnx_bundle, splits):
    pictures = [read_bytes(path) for path in splits.test.paths[:3]]
    result = bench(onnx_bundle, pictures, batches=[1, 2], streams=[1, 2], threads=1, **SHORT)
    assert [(cell.batch, cell.streams) for cell in result.cells] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert result.pictures == "3 pictures of the data set"
    assert result.settings == BenchSettings(device="cpu", hint="latency", threads=1, seconds=0.05)
    for cell in result.cells:
        check(cell.model, cell.batch)
    assert [cell.ahead is not None for cell in result.cells] == [False, False, True, False]


def test_openvino_takes_its_hint_and_others_refuse_it(build):
    result = bench(build("openvino-fp32"), hint="throughput", threads=1, **SHORT)
    assert result.settings.hint == "throughput"
    with pytest.raises(InputError, match="only OpenVINO"):
        bench(build("onnx-fp32"), hint="throughput", **SHORT)


class TellingEngine(OnnxRuntimeEngine):
    """ONNX Runtime's, which says that it copied."""

    def timed(self, images):
        started = time.perf_counter()
        self(images)
        return CopyTimes(copy_in_ms=0.25, compute_ms=1e3 * (time.perf_counter() - started), copy_out_ms=0.5)


def test_copies_are_told_where_the_engine_tells_them(onnx_bundle, monkeypatch):
    monkeypatch.setattr(
        "edgepress.deploy.bench.latency.open_engine", lambda bundle, device, **settings: TellingEngine(bundle)
    )
    result = bench(onnx_bundle, **SHORT)
    (cell,) = result.cells
    assert (cell.copies.copy_in_ms, cell.copies.copy_out_ms) == (0.25, 0.5)
    assert cell.copies.compute_ms > 0
    assert result.copies_reason == ""


class TestTimeCalls:
    def test_at_least_so_many_calls_however_short_it_is(self):
        timing = time_calls(lambda at: None, seconds=1e-6)
        assert timing.calls >= MIN_CALLS
        assert timing.p95_ms is not None

    def test_slow_calls_are_cut_off(self, monkeypatch):
        monkeypatch.setattr("edgepress.deploy.bench.timing.LONGEST", 0.01)
        timing = time_calls(lambda at: time.sleep(0.01), seconds=0.001)
        assert 1 <= timing.calls < MIN_CALLS
        assert timing.calls_needed["p95"] == 130
        assert timing.p95_ms is None

    def test_percentiles_are_those_of_the_calls(self):
        """One call in five waits, so p50 is of the others and p90 of those."""
        waits = itertools.cycle([0, 0, 0, 0, 0.01])
        timing = time_calls(lambda at: time.sleep(next(waits)), seconds=0.001)
        assert timing.p90_ms >= 10
        assert timing.p50_ms < timing.p90_ms
        assert timing.max_ms >= timing.p90_ms

    def test_streams_call_at_the_same_time(self):
        """No call ends before another is under way: one thread alone would wait for ever."""
        both = threading.Barrier(2, timeout=60)
        samples = run_window(lambda at: both.wait(), itertools.count(), 2, 0.0, 0)
        assert len(samples) >= 2

    def test_each_call_has_a_number_of_its_own(self):
        seen: list[int] = []
        run_window(seen.append, itertools.count(), 3, 0.0, 60)
        assert sorted(seen) == list(range(len(seen)))

    @pytest.mark.parametrize("streams", [1, 2])
    def test_what_a_call_raises_is_raised(self, streams):
        def broken(at: int) -> None:
            raise RuntimeError("the engine broke")

        with pytest.raises(RuntimeError, match="the engine broke"):
            time_calls(broken, streams=streams, seconds=0.01)

    def test_streams_end_where_one_of_them_fails(self):
        """Or an interruption would be answered at the end of the window."""
        calls = itertools.count()

        def call(at: int) -> None:
            next(calls)
            if at == 3:
                raise RuntimeError("the engine broke")
            time.sleep(0.01)

        with pytest.raises(RuntimeError, match="the engine broke"):
            run_window(call, itertools.count(), 2, 30.0, 0)
        assert next(calls) < 1000

    def test_a_batch_counts_as_its_pictures(self):
        timing = time_calls(lambda at: time.sleep(0.001), batch=50, seconds=0.01)
        # What lies between two calls is no call's, so this is a little less than 50 a mean call.
        assert 0 < timing.images_per_second <= 1.01 * 1e3 * 50 / timing.mean_ms

    def test_energy_is_that_of_the_measurement_a_picture(self):
        class Meter:
            source = "made up"
            running = 0

            def start(self):
                self.running += 1

            def stop(self):
                return 3.0

        meter = Meter()
        timing = time_calls(lambda at: None, batch=2, seconds=0.001, meter=meter)
        assert timing.millijoules_per_image == pytest.approx(3000 / (2 * timing.calls))
        assert meter.running == 1

    @pytest.mark.parametrize("streams", [1, 2])
    def test_the_meter_is_stopped_where_a_call_fails(self, streams):
        """One that samples has a thread, or a process of its own, which would go on."""
        meter, state = Sampled("made up", lambda: 1000.0), {"metered": False}
        start = meter.start
        meter.start = lambda: (start(), state.update(metered=True))

        def broken(at: int) -> None:
            if state["metered"]:
                raise RuntimeError("the engine broke")
            time.sleep(0.001)

        with pytest.raises(RuntimeError, match="the engine broke"):
            time_calls(broken, streams=streams, seconds=0.01, meter=meter)
        assert not meter._thread.is_alive()


def test_the_peak_of_memory_is_seen_after_it_is_gone():
    watch = PeakMemory()
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    del held
    memory = watch.read()
    if memory.growth_mb is None:
        pytest.skip(f"this system does not tell: {memory.reason}")
    assert memory.growth_mb >= 150
    assert memory.peak_mb >= memory.growth_mb


class TestCommandLine:
    def test_json_and_file_hold_what_was_measured(self, onnx_bundle, edgepress, tiny_data, tmp_path):
        save = tmp_path / "made" / "record.json"
        save.parent.mkdir()
        arguments = ("--data", tiny_data, "--batch", "1,3", "--streams", "2", "--seconds", "0.05", "--threads", "1")
        answer = edgepress("bench", onnx_bundle.path, *arguments, "--save", save, "--json")
        assert answer.code == 0, answer
        assert [(cell["batch"], cell["streams"]) for cell in answer.json["cells"]] == [(1, 2), (3, 2)]
        assert answer.json["pictures"] == "12 pictures of the data set"
        assert answer.json["before"]["clocks"] in ("locked", "unlocked", "unknown")
        assert json.loads(save.read_text()) == answer.json
        assert [path.name for path in save.parent.iterdir()] == ["record.json"]

    def test_a_person_gets_a_table(self, onnx_bundle, edgepress):
        answer = edgepress("bench", onnx_bundle.path, "--seconds", "0.05")
        assert answer.code == 0
        for words in ("model alone", "JPEG to logits", "p99 ms", "images/s", "to load", "peak memory", "energy: "):
            assert words in answer.out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--hint", "speed"), ["'speed'", "latency, throughput"]),
            (("--batch", "1,none"), ["batch is 1,none", "whole numbers"]),
            (("--streams", "0"), ["streams is 0"]),
            (("--threads", "0"), ["threads 0"]),
            (("--against", "nothing.json"), ["nothing.json", "bench --save"]),
        ],
    )
    def test_a_wrong_value_is_named(self, onnx_bundle, edgepress, arguments, words):
        answer = edgepress("bench", onnx_bundle.path, "--seconds", "0.05", *arguments)
        assert answer.code == 2
        assert len(answer.err.splitlines()) == 1
        assert all(word in answer.err for word in words), answer.err


@pytest.mark.parametrize(
    "wrong", [{"batches": [0]}, {"batches": []}, {"streams": [0]}, {"seconds": 0}, {"encoded": [b"no picture"]}]
)
def test_nothing_is_timed_on_wrong_input(onnx_bundle, wrong):
    with pytest.raises(InputError):
        bench(onnx_bundle, **wrong)


def test_a_device_that_is_not_here_is_named(build):
    with pytest.raises(EngineUnavailableError, match="OpenVINO sees no NPU"):
        bench(build("openvino-fp32"), device="npu", **SHORT)


@pytest.mark.parametrize(
    "given",
    [
        {"batches": 1},
        {"batches": [1.5]},
        {"batches": []},
        {"streams": "2"},
        {"seconds": "1"},
        {"seconds": float("nan")},
    ],
)
def test_numbers_of_another_kind_are_refused_in_words(onnx_bundle, given):
    with pytest.raises(InputError, match=r"bench: received batches .*; expected at least one each"):
        bench(onnx_bundle, **{**SHORT, **given})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"streams": [1, 100_000]}, r"^streams 100000: expected at most \d+, which is 8 for each core here"),
        (
            {"batches": [1, 10**12]},
            r"^bench: a batch of 1000000000000 pictures of \d+ px is \d+ GB, and this machine has",
        ),
    ],
)
def test_numbers_that_no_machine_holds_are_refused_before_the_engine_opens(onnx_bundle, monkeypatch, given, said):
    monkeypatch.setattr(latency, "open_engine", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(InputError, match=said):
        bench(onnx_bundle, **{**SHORT, **given})


@pytest.mark.parametrize("given", [b"\xff\xd8", ["beach.jpg"]])
def test_pictures_that_are_no_bytes_of_files_are_refused(onnx_bundle, given):
    with pytest.raises(InputError, match="encoded is no list of bytes; expected the bytes of picture files"):
        bench(onnx_bundle, given, **SHORT)
