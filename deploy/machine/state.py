"""The state of a device from /sys and /proc: its clocks, power mode, temperatures and throttling.

A latency is valid only for this state: if the governor or heat changes the clocks, it is like another machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgepress.deploy.machine.processor import board_model, read_system
from edgepress.deploy.machine.tegra import parse_nvpmodel

Clocks = Literal["locked", "unlocked", "unknown"]
_GPU = re.compile(r"gpu|gpc|gv11b|gp10b|ga10b")
_COOLING = re.compile(r"throttle|cpufreq|devfreq|Processor", re.IGNORECASE)
WARMER = 10.0
"""Degrees that a zone may gain during a measurement before a caution is given."""
MOST_BY_OTHERS = 0.1
"""Share of all cores' time that other processes may take during a measurement before a caution is given."""
LEAST_SECONDS = 0.2
"""The system counts in hundredths of a second; over fewer seconds of all cores together a share is a guess."""


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """The values read at one moment; those that a device does not have are None or empty."""

    model: str | None
    """The board's name (from the device tree, or the PC's product name)."""
    l4t: str | None
    """A Jetson's Linux release: `R36 (release), REVISION: 4.7`."""
    power_mode: str | None
    """Power mode of nvpmodel."""
    clocks: Clocks
    """`locked` if the lowest clock of every core and the GPU is also the highest, as after `jetson_clocks`."""
    clock_ranges: dict[str, list[float]]
    """Lowest and highest allowed clock in MHz, by core and GPU."""
    governors: list[str]
    temperatures: dict[str, float]
    """Degrees Celsius by thermal zone."""
    throttle_events: dict[str, int]
    """Counters of throttling events since the machine started."""
    throttling: list[str]
    """What limits the clocks now."""
    load: float | None
    """Processes that ran or waited, averaged over a minute, with this one."""
    cpu_seconds: tuple[float, float] | None = None
    """Seconds since the machine started, summed over its cores: all of them, and those in which a core was busy or a
    hypervisor had taken it."""
    own_seconds: float = 0.0
    """Seconds of the processor that this process has used, over all its threads, and its finished children."""
    driver: str | None
    """The GPU driver's version; on a Jetson before JetPack 7 it is that of the release."""


def read_state(root: Path = Path("/"), nvpmodel: str | None = None) -> DeviceState:
    """Read the state.

    Args:
        root: the folder that holds /sys and /proc.
        nvpmodel: output of `nvpmodel -q`; by default it is run if it is installed.
    """
    ranges = _clock_ranges(root)
    locked = all(low == high for low, high in ranges.values())
    text = _ask_nvpmodel() if nvpmodel is None else nvpmodel
    release = read_system(root / "etc/nv_tegra_release") or ""
    driver = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", read_system(root / "proc/driver/nvidia/version") or "")
    load = (read_system(root / "proc/loadavg") or "").split()
    return DeviceState(
        model=board_model(root) or read_system(root / "sys/class/dmi/id/product_name"),
        l4t=release.lstrip("# ").split(", GCID")[0] or None,
        power_mode=parse_nvpmodel(text),
        clocks="unknown" if not ranges else "locked" if locked else "unlocked",
        clock_ranges=ranges,
        governors=governors(root),
        temperatures=_temperatures(root),
        throttle_events=_throttle_events(root),
        throttling=_throttling(root),
        load=float(load[0]) if load else None,
        cpu_seconds=_cpu_seconds(root),
        own_seconds=sum(os.times()[:4]),
        driver=driver[1] if driver else None,
    )


def state_cautions(before: DeviceState, after: DeviceState) -> list[str]:
    """Warnings for a reader of the measurement between the two states: clocks that are not known to be locked, and
    `disturbances`."""
    found = []
    if after.clocks == "unlocked":
        moving = [f"{name} {low:g} to {high:g} MHz" for name, (low, high) in after.clock_ranges.items() if low != high]
        shown = ", ".join(moving[:2]) + (f" and {len(moving) - 2} more" if len(moving) > 2 else "")
        mend = "; `sudo jetson_clocks` locks them" if after.l4t else ""
        found.append(f"clocks: unlocked ({shown}){mend}")
    elif after.clocks == "unknown":
        found.append("clocks: unknown, the system does not show them (a virtual machine or container)")
    return [*found, *disturbances(before, after)]


def disturbances(before: DeviceState, after: DeviceState) -> list[str]:
    """What disturbed the measurement between the two states: throttling, heat, other processes; empty if nothing."""
    found = []
    for name, count in after.throttle_events.items():
        if count > before.throttle_events.get(name, 0):
            found.append(f"throttled while measured: {name} rose by {count - before.throttle_events.get(name, 0)}")
    held = sorted({*before.throttling, *after.throttling})
    if held:
        found.append(f"throttling: {', '.join(held)}")
    for zone, degrees in after.temperatures.items():
        if degrees - before.temperatures.get(zone, degrees) > WARMER:
            found.append(f"{zone} went from {before.temperatures[zone]:.0f} to {degrees:.0f} °C while measured")
    others = _others(before, after)
    if others is not None and others > MOST_BY_OTHERS:
        found.append(f"busy: other processes used {others:.0%} of the machine's processor time while measured")
    return found


def _others(before: DeviceState, after: DeviceState) -> float | None:
    """Share of all cores' time that other processes took between the two states; None where the system does not tell
    it."""
    if before.cpu_seconds is None or after.cpu_seconds is None:
        return None
    every, busy = (now - then for now, then in zip(after.cpu_seconds, before.cpu_seconds, strict=True))
    if every < LEAST_SECONDS:
        return None
    return max(0.0, busy - (after.own_seconds - before.own_seconds)) / every


def _cpu_seconds(root: Path) -> tuple[float, float] | None:
    first, *fields = (read_system(root / "proc/stat") or "").partition("\n")[0].split() or [""]
    if first != "cpu" or len(fields) < 5:
        return None
    ticks = [int(field) for field in fields[:8]]  # the rest, guests' time, is in the first two as well
    every, idle = sum(ticks), sum(ticks[3:5])
    hertz = os.sysconf("SC_CLK_TCK")
    return every / hertz, (every - idle) / hertz


def governors(root: Path = Path("/")) -> list[str]:
    """The governors of the clocks of every core that is on, each once."""
    return sorted({name for path in _policies(root) if (name := read_system(path / "scaling_governor"))})


def _policies(root: Path) -> list[Path]:
    """Folders of the clock settings of every core that is on."""
    folders = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=lambda path: int(path.name[3:]))
    return [folder / "cpufreq" for folder in folders if read_system(folder / "online") != "0"]


def _clock_ranges(root: Path) -> dict[str, list[float]]:
    ranges = {}
    for path in _policies(root):
        found = _numbers(path / "scaling_min_freq", path / "scaling_max_freq")
        if found:
            ranges[path.parent.name] = [value / 1e3 for value in found]  # kHz
    for path in sorted((root / "sys/class/devfreq").glob("*")):
        found = _numbers(path / "min_freq", path / "max_freq") if _GPU.search(path.name) else None
        if found:
            ranges[path.name] = [value / 1e6 for value in found]  # Hz
    return ranges


def _temperatures(root: Path) -> dict[str, float]:
    zones = {}
    for path in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, found = read_system(path / "type"), _numbers(path / "temp")
        if name and found and found[0] > -40_000:  # a zone that is off reads -256000 or fails
            zones[name] = found[0] / 1e3
    return zones


def _throttle_events(root: Path) -> dict[str, int]:
    """Count over-current events of a Jetson and thermal events of an Intel processor."""
    events: dict[str, int] = {}
    for chip in (root / "sys/class/hwmon").glob("hwmon*"):
        if read_system(chip / "name") == "soctherm_oc":
            for path in sorted(chip.glob("oc*_event_cnt")):
                events[path.name.removesuffix("_event_cnt")] = int((_numbers(path) or [0])[0])
    for name in ("core_throttle_count", "package_throttle_count"):
        counts = [_numbers(path.parent / "thermal_throttle" / name) for path in _policies(root)]
        if any(counts):
            events[name] = int(sum(count[0] for count in counts if count))
    return events


def _throttling(root: Path) -> list[str]:
    """Cooling devices that limit clocks now (fans do not count), and what a Raspberry Pi itself reports."""
    active = []
    for path in (root / "sys/class/thermal").glob("cooling_device*"):
        name, found = read_system(path / "type"), _numbers(path / "cur_state")
        if name and found and found[0] > 0 and _COOLING.search(name):
            active.append(name)
    return sorted({*active, *_raspberry_pi(root)})


def _raspberry_pi(root: Path) -> list[str]:
    """What a Raspberry Pi's firmware says of its power and its clocks now.

    Its kernel has `get_throttled`, at a place that differs by model (raspberrypi/linux pull request 2397). Other
    distributions' kernels have the alarm of under-voltage alone (Linux, Documentation/hwmon/raspberrypi-hwmon.rst).
    """
    found = []
    platform = root / "sys/devices/platform"
    for path in sorted((*platform.glob("*firmware/get_throttled"), *platform.glob("soc*/*firmware/get_throttled"))):
        bits = read_system(path) or ""
        # Bits 0 to 3 mean now: under-voltage, capped, throttled, soft temperature limit.
        if re.fullmatch(r"(0x)?[0-9a-fA-F]+", bits) and int(bits, 16) & 0xF:
            found.append(f"get_throttled {bits}")
    for chip in (root / "sys/class/hwmon").glob("hwmon*"):
        if read_system(chip / "name") == "rpi_volt" and read_system(chip / "in0_lcrit_alarm") == "1":
            found.append("under-voltage (rpi_volt)")
    return found


def _ask_nvpmodel() -> str:
    command = shutil.which("nvpmodel")
    if command is None:
        return ""
    try:
        done = subprocess.run([command, "-q"], capture_output=True, text=True, timeout=10)  # noqa: S603 - its own path
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _numbers(*paths: Path) -> list[float] | None:
    """The numbers in some files; None where one is missing or holds something else."""
    texts = [read_system(path) for path in paths]
    try:
        return [float(text) for text in texts if text is not None] if None not in texts else None
    except ValueError:
        return None
