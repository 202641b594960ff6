"""Which processor and board this is, from /proc: what a measurement is recorded with, and told apart by."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_ARM = "0x41"
_PARTS = {
    _ARM: {
        "0xc07": "Cortex-A7",
        "0xc09": "Cortex-A9",
        "0xc0f": "Cortex-A15",
        "0xd03": "Cortex-A53",
        "0xd04": "Cortex-A35",
        "0xd05": "Cortex-A55",
        "0xd06": "Cortex-A65",
        "0xd07": "Cortex-A57",
        "0xd08": "Cortex-A72",
        "0xd09": "Cortex-A73",
        "0xd0a": "Cortex-A75",
        "0xd0b": "Cortex-A76",
        "0xd0c": "Neoverse-N1",
        "0xd0d": "Cortex-A77",
        "0xd0e": "Cortex-A76AE",
        "0xd40": "Neoverse-V1",
        "0xd41": "Cortex-A78",
        "0xd42": "Cortex-A78AE",
        "0xd44": "Cortex-X1",
        "0xd46": "Cortex-A510",
        "0xd47": "Cortex-A710",
        "0xd48": "Cortex-X2",
        "0xd49": "Neoverse-N2",
        "0xd4b": "Cortex-A78C",
        "0xd4c": "Cortex-X1C",
        "0xd4d": "Cortex-A715",
        "0xd4e": "Cortex-X3",
        "0xd4f": "Neoverse-V2",
        "0xd80": "Cortex-A520",
        "0xd81": "Cortex-A720",
        "0xd82": "Cortex-X4",
        "0xd83": "Neoverse-V3AE",
        "0xd84": "Neoverse-V3",
        "0xd85": "Cortex-X925",
        "0xd87": "Cortex-A725",
        "0xd8e": "Neoverse-N3",
    },
    "0x43": {"0x0af": "ThunderX2"},
    "0x48": {"0xd01": "TaiShan-v110"},
    "0x4e": {"0x003": "Denver 2", "0x004": "Carmel"},
    "0x51": {
        "0x001": "Oryon",
        "0x800": "Kryo-2xx-Gold",
        "0x801": "Kryo-2xx-Silver",
        "0x802": "Kryo-3xx-Gold",
        "0x803": "Kryo-3xx-Silver",
        "0x804": "Kryo-4xx-Gold",
        "0x805": "Kryo-4xx-Silver",
    },
    "0x61": {"0x022": "Icestorm-M1", "0x023": "Firestorm-M1", "0x032": "Blizzard-M2", "0x033": "Avalanche-M2"},
    "0xc0": {"0xac3": "Ampere-1", "0xac4": "Ampere-1a"},
}
"""Names by implementer and part, as Linux has them (arch/arm64/include/asm/cputype.h, lscpu)."""


_LIMITS = ("ONEDNN_", "DNNL_", "OV_", "MLAS_")
"""Prefixes of such variables: with ONEDNN_MAX_CPU_ISA=AVX2 OpenVINO computes as a processor without VNNI does."""


@dataclass(frozen=True, kw_only=True)
class MachineKey:
    """What decides how a runtime computes on a machine."""

    processor: str
    """With its parts and board; see `processor`."""
    instructions: str
    """As /proc/cpuinfo lists them."""
    limits: tuple[str, ...] = ()
    """Variables of the environment that change which instructions or kernels a runtime uses, as `NAME=value`."""


def machine_key(root: Path = Path("/")) -> MachineKey:
    """What decides how a runtime computes here."""
    text = read_system(root / "proc/cpuinfo") or ""
    limits = tuple(sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_LIMITS)))
    return MachineKey(processor=processor(root), instructions=cpu_field(text, "flags", "Features") or "", limits=limits)


def processor(root: Path = Path("/")) -> str:
    """The processor's usual name: its model name, or on ARM, which has none, its cores and the board.

    Example:
        >>> processor()  # on a board with two kinds of cores
        '4x Cortex-A55, 4x Cortex-A76 (Radxa ROCK 5B)'
    """
    text = read_system(root / "proc/cpuinfo") or ""
    parts = list(zip(_fields(text, "CPU implementer"), _fields(text, "CPU part"), strict=False))
    if not parts:
        # A 32-bit ARM kernel has a model name too, which is the architecture's.
        return cpu_field(text, "model name") or platform.processor() or platform.machine()
    kinds = dict.fromkeys(parts)  # each once, in their order
    names = [
        _PARTS.get(implementer, {}).get(part, f"{platform.machine()} implementer {implementer} part {part}")
        for implementer, part in kinds
    ]
    if len(kinds) > 1:
        names = [f"{parts.count(kind)}x {name}" for kind, name in zip(kinds, names, strict=True)]
    board = board_model(root)
    return f"{', '.join(names)} ({board})" if board else ", ".join(names)


def board_model(root: Path = Path("/")) -> str | None:
    """The board's name; None without a device tree.

    A container does not see the device tree, whose files Docker and Podman hide. A Raspberry Pi's kernel has the name
    in /proc/cpuinfo as well.
    """
    model = read_system(root / "proc/device-tree/model")
    return model or cpu_field(read_system(root / "proc/cpuinfo") or "", "Model")


def cpu_field(cpuinfo: str, *names: str) -> str | None:
    """The first processor's value of one of these fields in /proc/cpuinfo."""
    return next(iter(_fields(cpuinfo, *names)), None)


def _fields(cpuinfo: str, *names: str) -> list[str]:
    """The values of these fields, in the order of the lines."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return [value.strip() for name, _, value in lines if name.strip() in names]


def read_system(path: Path) -> str | None:
    """A file of /proc or /sys without white space and null characters around it; None where it cannot be read, or is
    empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00 \t\r\n") or None
    except OSError:
        return None
