"""Energy that a device took while it worked, from whatever meter it has: RAPL, NVML or a Jetson's power rails.

No meter separates processes: the figure includes what other processes use and what an idle machine takes.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepress.deploy.machine.tegra import parse_tegrastats, total_power

SAMPLE_SECONDS = 0.02
"""Seconds between two readings of a power rail."""


class Meter(ABC):
    """Counts the joules between `start` and `stop`."""

    source: str
    """What is measured, in words."""

    @abstractmethod
    def start(self) -> None:
        """Begin to count."""

    @abstractmethod
    def stop(self) -> float | None:
        """Joules since `start`; None where the meter said nothing in that time."""


class Rapl(Meter):
    """The energy counters of an x86 processor's packages and of the memory behind them (Linux powercap)."""

    def __init__(self, domains: list[Path]) -> None:
        self._domains = domains
        self.source = "RAPL: " + ", ".join(sorted({(path / "name").read_text().strip() for path in domains}))

    def start(self) -> None:
        self._began = self._read()

    def stop(self) -> float:
        ends = self._read()
        return sum(
            joules(before, after, int((path / "max_energy_range_uj").read_text()))
            for path, before, after in zip(self._domains, self._began, ends, strict=True)
        )

    def _read(self) -> list[int]:
        return [int((path / "energy_uj").read_text()) for path in self._domains]


class Nvml(Meter):
    """The energy counter of an NVIDIA GPU (Volta and later), by nvidia-ml-py."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle
        self.source = "NVML: the GPU alone"

    def start(self) -> None:
        self._began = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)

    def stop(self) -> float:
        return (self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle) - self._began) / 1e3


class Sampled(Meter):
    """Power that a thread reads repeatedly, integrated over time (trapezoids).

    Args:
        read: gives the power in milliwatts, None where there is nothing new; it may wait for the next reading.
    """

    def __init__(self, source: str, read: Callable[[], float | None], pause: float = SAMPLE_SECONDS) -> None:
        self.source, self._sample, self._pause = source, read, pause

    def start(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._stopped = threading.Event()
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, name="energy", daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        self._stopped.set()
        self._thread.join()
        return integrate(self._samples, self._began, time.perf_counter())

    def _watch(self) -> None:
        while not self._stopped.is_set():
            milliwatts = self._sample()
            if milliwatts is not None:
                self._samples.append((time.perf_counter(), milliwatts))
            self._stopped.wait(self._pause)


class TegrastatsMeter(Sampled):
    """A Jetson whose rails only tegrastats may read."""

    def __init__(self, command: str) -> None:
        super().__init__("tegrastats", self._next, pause=0)
        self._command = command

    def start(self) -> None:
        words = [self._command, "--interval", "100"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)  # noqa: S603 - its own path
        super().start()

    def stop(self) -> float | None:
        self._stopped.set()
        self._process.terminate()  # terminated first, because the thread may wait for its next line
        counted = super().stop()
        self._process.communicate()
        return counted

    def _next(self) -> float | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._stopped.wait(0.1)  # tegrastats has ended, so nothing more comes
        found = total_power(parse_tegrastats(line).rails_mw)
        if found is None:
            return None
        self.source = f"tegrastats: {found[1]}"
        return found[0]


def find_meter(gpu: int | None, root: Path = Path("/")) -> tuple[Meter | None, str]:
    """The meter that fits what an engine runs on, or None and why there is none.

    Args:
        gpu: the CUDA device that the engine runs on, by CUDA's number; a Jetson's rails cover both processor and GPU.
        root: the folder that holds /sys.
    """
    rails = read_rails(root)
    if rails:
        how = total_power(rails)
        assert how is not None

        def read() -> float | None:
            found = total_power(read_rails(root))
            return found[0] if found else None

        return Sampled(f"INA rails: {how[1]}", read), ""
    command = shutil.which("tegrastats")
    if command is not None:
        return TegrastatsMeter(command), ""
    return _rapl(root) if gpu is None else _nvml(gpu)


def read_rails(root: Path) -> dict[str, float]:
    """Milliwatts by rail of a Jetson's power monitors: INA3221 (mV and mA per channel) and INA238 (uW, on Thor)."""
    rails: dict[str, float] = {}
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = _number_or_text(chip / "name")
        if name == "ina3221":
            for label in sorted(chip.glob("in[123]_label")):
                channel = label.name[2]
                volts, amperes = (_number_or_text(chip / f"{kind}{channel}_input") for kind in ("in", "curr"))
                rail = _number_or_text(label)
                if isinstance(rail, str) and isinstance(volts, float) and isinstance(amperes, float):
                    rails[rail] = volts * amperes / 1e3
        elif name == "ina238":
            power, rail = _number_or_text(chip / "power1_input"), _number_or_text(chip / "label")
            if isinstance(power, float) and isinstance(rail, str):
                rails[rail] = power / 1e3
    rails.pop("NC", None)  # a channel that is not connected
    return rails


def joules(before: int, after: int, most: int) -> float:
    """Joules between two readings of a counter in microjoules, which starts again at 0 after `most`."""
    return (after - before if after >= before else after + most - before) / 1e6


def integrate(samples: list[tuple[float, float]], began: float, ended: float) -> float | None:
    """Joules from samples of (seconds, milliwatts): trapezoids; the first and last sample are extended to the ends."""
    if not samples:
        return None
    held = [(began, samples[0][1]), *samples, (ended, samples[-1][1])]
    return sum((end - start) * (low + high) / 2 for (start, low), (end, high) in itertools.pairwise(held)) / 1e3


def _rapl(root: Path) -> tuple[Meter | None, str]:
    folder = root / "sys/class/powercap"
    domains = []
    for path in sorted(folder.glob("intel-rapl:*")):
        name = _number_or_text(path / "name")
        # The package's counter includes cores and graphics, but not memory.
        if isinstance(name, str) and (name.startswith("package") or name == "dram"):
            domains.append(path)
    if not domains:
        return None, "no energy counter: /sys/class/powercap has no intel-rapl (a virtual machine, or no x86 processor)"
    try:
        for path in domains:
            (path / "energy_uj").read_text()
    except OSError as error:
        return None, f"RAPL: energy_uj may only be read by root ({error.strerror}): sudo chmod a+r {folder}/*/energy_uj"
    return Rapl(domains), ""


def _nvml(gpu: int) -> tuple[Meter | None, str]:
    if importlib.util.find_spec("pynvml") is None:
        return None, "no energy counter: nvidia-ml-py is not installed (pip install nvidia-ml-py)"
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = _nvml_handle(pynvml, gpu)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return None, f"NVML has no energy counter here: {error}"
    return Nvml(pynvml, handle), ""


def _nvml_handle(library: Any, gpu: int) -> Any:
    """NVML's handle of a CUDA device: CUDA numbers the devices in CUDA_VISIBLE_DEVICES (by index or UUID), NVML all.

    If a machine has GPUs of several models, both number them alike only with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    name = listed[gpu].strip() if listed != [""] and gpu < len(listed) else str(gpu)
    if name.isdigit():
        return library.nvmlDeviceGetHandleByIndex(int(name))
    return library.nvmlDeviceGetHandleByUUID(name)


def _number_or_text(path: Path) -> float | str | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    try:
        return float(text)
    except ValueError:
        return text
