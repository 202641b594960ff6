"""Parse what NVIDIA's tools on a Jetson print: tegrastats and nvpmodel, of JetPack 5, 6 and 7.

Fields come and go between releases and boards (JetPack 7 on Thor prints no GR3D_FREQ), names change their case, and a
sensor that is off reads -256 C. So every field is matched by its form, and missing fields are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_CPUS = re.compile(r"\bCPU \[([^\]]*)\]")
_CPU = re.compile(r"(\d+)%@(\d+)")
_GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?(\d+))?")
_TEMPERATURE = re.compile(r"\b(\w+)@(-?\d+(?:\.\d+)?)C\b")
# `VDD_IN 4990mW/4820mW`, now and on average; without the unit before JetPack 5. `RAM 1/2MB` must not match.
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (-?\d+)(?:mW|/-?\d+(?![\dkM]))")
_MODE = re.compile(r"^NV Power Mode: *(\S+)", re.MULTILINE)
_TOTALS = ("VIN", "VDD_IN", "POM_5V_IN")
"""Rails at the input of a whole board or module (Thor; Orin Nano and NX; Nano), which feed all others."""
NOT_MEASURED = -256.0


@dataclass(frozen=True, kw_only=True)
class Tegrastats:
    """One line of tegrastats."""

    ram_mb: tuple[int, int] | None
    """Memory used and in total, in MB."""
    cpus: list[tuple[int, int] | None]
    """For each core its load in per cent and its clock in MHz; None where it is off."""
    gpu_load: int | None
    """Load of the GPU in per cent."""
    gpu_mhz: int | None
    temperatures: dict[str, float]
    """Degrees Celsius by zone, in lower case; zones that are off are left out."""
    rails_mw: dict[str, int]
    """Power by rail at that moment, in milliwatts."""


def parse_tegrastats(line: str) -> Tegrastats:
    """Parse a line of tegrastats; fields that are not in it are None or empty."""
    ram, cpus, gpu = _RAM.search(line), _CPUS.search(line), _GPU.search(line)
    rest = _CPUS.sub("", line)
    zones = {name.lower(): float(value) for name, value in _TEMPERATURE.findall(rest)}
    return Tegrastats(
        ram_mb=(int(ram[1]), int(ram[2])) if ram else None,
        cpus=[_core(text) for text in cpus[1].split(",")] if cpus else [],
        gpu_load=int(gpu[1]) if gpu and gpu[1] else None,
        gpu_mhz=int(gpu[2]) if gpu and gpu[2] else None,
        temperatures={name: value for name, value in zones.items() if value != NOT_MEASURED},
        rails_mw={name: int(now) for name, now in _RAIL.findall(rest) if name != "NC"},
    )


def parse_nvpmodel(text: str) -> str | None:
    """The power mode that `nvpmodel -q` prints, MAXN_SUPER or 15W; None where it prints none.

    Its complaints about cores that the module does not have are skipped.
    """
    found = _MODE.search(text)
    return found[1] if found else None


def total_power(rails_mw: Mapping[str, float]) -> tuple[float, str] | None:
    """The power that a board takes, in milliwatts, and the rails that it is read from; None without rails.

    If a rail at the input is measured, it counts alone, because it feeds the others. Otherwise (AGX Orin, AGX Xavier)
    the rails are summed, which gives the power of the module, not of the board.
    """
    for name in _TOTALS:
        if name in rails_mw:
            return rails_mw[name], name
    if not rails_mw:
        return None
    return sum(rails_mw.values()), " + ".join(rails_mw)


def _core(text: str) -> tuple[int, int] | None:
    found = _CPU.match(text.strip())
    return (int(found[1]), int(found[2])) if found else None
