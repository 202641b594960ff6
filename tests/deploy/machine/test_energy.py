"""Energy from counters and from power that is sampled; where there is no meter, the reason."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from edgepress.deploy.bench import latency
from edgepress.deploy.engines import open_engine
from edgepress.deploy.machine.energy import (
    Sampled,
    TegrastatsMeter,
    _nvml_handle,
    find_meter,
    integrate,
    joules,
    read_rails,
)
from tests.deploy.machine.jetson import put, recorded


@pytest.fixture(autouse=True)
def no_tegrastats(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")


def rapl(root: Path, package: int, memory: int) -> Path:
    folder = "sys/class/powercap"
    for name, kind, energy in (
        ("intel-rapl:0", "package-0", package),
        ("intel-rapl:0:0", "core", 999_999),
        ("intel-rapl:0:1", "dram", memory),
    ):
        files = {"name": kind, "energy_uj": energy, "max_energy_range_uj": 262_143_328_850}
        put(root, {f"{folder}/{name}/{file}": text for file, text in files.items()})
    return root


class TestRapl:
    def test_packages_and_memory_are_counted_and_cores_not_twice(self, tmp_path):
        meter, reason = find_meter(None, rapl(tmp_path, 1_000_000, 500_000))
        assert (meter.source, reason) == ("RAPL: dram, package-0", "")
        meter.start()
        rapl(tmp_path, 4_000_000, 700_000)
        assert meter.stop() == pytest.approx(3.2)

    def test_a_counter_that_began_again_is_carried_on(self, tmp_path):
        meter, _ = find_meter(None, rapl(tmp_path, 262_143_000_000, 0))
        meter.start()
        rapl(tmp_path, 671_150, 0)
        assert meter.stop() == pytest.approx(1.0)
        assert joules(5, 5, 100) == 0

    def test_what_cannot_be_read_is_said(self, tmp_path):
        rapl(tmp_path, 1, 1)
        (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
        meter, reason = find_meter(None, tmp_path)
        assert meter is None
        assert "may only be read by root" in reason
        assert "chmod a+r" in reason

    def test_none_is_said(self, tmp_path):
        meter, reason = find_meter(None, tmp_path)
        assert meter is None
        assert "no intel-rapl" in reason


class TestJetsonRails:
    """Files as the kernel's drivers of the two monitors make them; not recorded ones."""

    @staticmethod
    def ina3221(root: Path, rails: dict[str, tuple[int, int]]) -> Path:
        folder = "sys/class/hwmon/hwmon2"
        put(root, {f"{folder}/name": "ina3221", f"{folder}/in7_label": "sum of shunt voltages"})
        for channel, (name, (volts, amperes)) in enumerate(rails.items(), 1):
            files = {f"in{channel}_label": name, f"in{channel}_input": volts, f"curr{channel}_input": amperes}
            put(root, {f"{folder}/{file}": text for file, text in files.items()})
        return root

    def test_volts_times_amperes(self, tmp_path):
        root = self.ina3221(tmp_path, {"VDD_IN": (5000, 1200), "VDD_SOC": (5000, 200), "NC": (0, 0)})
        assert read_rails(root) == {"VDD_IN": 6000, "VDD_SOC": 1000}
        meter, _ = find_meter(0, root)
        assert meter.source == "INA rails: VDD_IN"
        began = time.perf_counter()
        meter.start()
        time.sleep(0.05)
        counted, passed = meter.stop(), time.perf_counter() - began
        assert 0.99 * 0.05 * 6 <= counted <= 1.01 * passed * 6  # 6 W throughout

    def test_the_input_of_thors_board(self, tmp_path):
        root = self.ina3221(tmp_path, {"VDD_GPU": (19864, 100)})
        chip = "sys/class/hwmon/hwmon4"
        put(root, {f"{chip}/name": "ina238", f"{chip}/label": "VIN", f"{chip}/power1_input": 20_986_000})
        assert read_rails(root) == {"VDD_GPU": pytest.approx(1986.4), "VIN": 20986}
        assert find_meter(None, root)[0].source == "INA rails: VIN"


def test_trapezoids():
    assert integrate([(1.0, 2000.0), (2.0, 4000.0)], 0.0, 3.0) == pytest.approx(2 + 3 + 4)
    assert integrate([], 0.0, 3.0) is None


def test_a_meter_that_said_nothing_counts_nothing():
    meter = Sampled("a broken rail", lambda: None)
    meter.start()
    assert meter.stop() is None


def test_tegrastats_is_read_while_it_runs(tmp_path):
    """A program that prints what JetPack 6's printed (recorded) and then waits, as tegrastats does."""
    line = recorded("jetpack6-tegrastats.txt").splitlines()[0]
    program = tmp_path / "tegrastats"
    program.write_text(f"#!{sys.executable}\nimport time\nprint({line!r}, flush=True)\ntime.sleep(600)\n")
    program.chmod(0o755)
    meter = TegrastatsMeter(str(program))
    began = time.perf_counter()
    meter.start()
    while meter.source == "tegrastats" and time.perf_counter() - began < 60:
        time.sleep(0.01)
    counted, passed = meter.stop(), time.perf_counter() - began
    assert meter.source == "tegrastats: VDD_IN"
    assert 0 < counted <= 1.01 * 13.195 * passed


def test_a_gpu_without_its_package_is_told_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    meter, reason = find_meter(0, tmp_path)
    assert meter is None
    assert "pip install nvidia-ml-py" in reason


class NvmlNames:
    """Of NVML the two ways to a device."""

    nvmlDeviceGetHandleByIndex = staticmethod(lambda index: ("index", index))
    nvmlDeviceGetHandleByUUID = staticmethod(lambda uuid: ("uuid", uuid))


@pytest.mark.parametrize(
    ("visible", "gpu", "handle"),
    [
        (None, 0, ("index", 0)),
        (None, 2, ("index", 2)),
        ("3", 0, ("index", 3)),
        ("3,1", 1, ("index", 1)),
        ("GPU-8932f937,GPU-44f0c1a2", 1, ("uuid", "GPU-44f0c1a2")),
    ],
)
def test_the_gpu_that_is_metered_is_the_one_that_was_asked_for(monkeypatch, visible, gpu, handle):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _nvml_handle(NvmlNames, gpu) == handle


@pytest.mark.parametrize(("device", "gpu"), [("cpu", None), ("cuda", 0), ("cuda:1", 1)])
def test_bench_asks_for_the_meter_of_its_device(onnx_bundle, monkeypatch, device, gpu):
    asked: list[int | None] = []
    monkeypatch.setattr(latency, "open_engine", lambda bundle, device, **settings: open_engine(bundle, **settings))
    monkeypatch.setattr(latency, "find_meter", lambda number: asked.append(number) or (None, "none here"))
    assert latency.bench(onnx_bundle, device=device, seconds=0.02).energy_reason == "none here"
    assert asked == [gpu]
