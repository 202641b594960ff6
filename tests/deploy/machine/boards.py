"""ARM boards, phones and servers, as their system files describe them (recorded/README.md says who recorded what).

/proc/cpuinfo is recorded. The files below /sys are made here, in the form of the kernel's documentation
(Documentation/ABI/testing/sysfs-devices-system-cpu), from the clocks and governors that were published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.machine.jetson import put, recorded


@dataclass(frozen=True, kw_only=True)
class RecordedBoard:
    """One machine."""

    cpuinfo: str
    """The recorded file."""
    model: str | None
    """/proc/device-tree/model; None where there is no device tree."""
    clocks: tuple[tuple[int, int, int], ...] = ()
    """Each cluster's number of cores, and its lowest and highest clock in MHz."""
    governor: str = "ondemand"
    qemu: str | None = None
    """The processor that qemu emulates for it; None where it has none like it."""


BOARDS = {
    "pi3": RecordedBoard(
        cpuinfo="pi3-cpuinfo.txt",
        model="Raspberry Pi 3 Model B Rev 1.2",
        clocks=((4, 600, 1200),),
        qemu="cortex-a53",
    ),
    "pi4": RecordedBoard(
        cpuinfo="pi4-cpuinfo.txt",
        model="Raspberry Pi 4 Model B Rev 1.1",
        clocks=((4, 600, 1500),),
        qemu="cortex-a72",
    ),
    "pi5": RecordedBoard(
        cpuinfo="pi5-cpuinfo.txt",
        model="Raspberry Pi 5 Model B Rev 1.0",
        clocks=((4, 1000, 2400),),
        qemu="cortex-a76",
    ),
    "rock5b": RecordedBoard(
        cpuinfo="rk3588-cpuinfo.txt",
        model="Radxa ROCK 5B",
        clocks=((4, 408, 1800), (2, 408, 2400), (2, 408, 2400)),
    ),
    "phone": RecordedBoard(cpuinfo="snapdragon8gen2-cpuinfo.txt", model=None),
    "graviton3": RecordedBoard(cpuinfo="graviton3-cpuinfo.txt", model=None, qemu="neoverse-v1"),
}


def board_tree(root: Path, name: str) -> Path:
    """The files of a board below a root folder: `proc/cpuinfo`, its device tree, and `sys/devices/system/cpu`."""
    board = BOARDS[name]
    text = recorded(board.cpuinfo)
    put(root, {"proc/cpuinfo": text.rstrip("\n")})
    if board.model is not None:
        put(root, {"proc/device-tree/model": board.model})
        (root / "proc/device-tree/model").write_text(f"{board.model}\0")
    cores = [re.findall(rf"^{field}\s*: (\S+)$", text, re.MULTILINE) for field in _MIDR]
    count = len(cores[0])
    cpu = "sys/devices/system/cpu"
    put(root, {f"{cpu}/{file}": f"0-{count - 1}" for file in ("possible", "present", "online")})
    for number, values in enumerate(zip(*cores, strict=True)):
        implementer, variant, part, revision = (int(value, 0) for value in values)
        midr = implementer << 24 | variant << 20 | 0xF << 16 | part << 4 | revision
        put(root, {f"{cpu}/cpu{number}/regs/identification/midr_el1": f"{midr:#018x}"})
        put(root, {f"{cpu}/cpu{number}/topology/{file}": value for file, value in _topology(number, count).items()})
    number = 0
    for many, low, high in board.clocks:
        clocks = {"governor": board.governor, "min_freq": low * 1000, "max_freq": high * 1000}
        for _ in range(many):
            put(root, {f"{cpu}/cpu{number}/cpufreq/scaling_{file}": value for file, value in clocks.items()})
            number += 1
    return root


_MIDR = ("CPU implementer", "CPU variant", "CPU part", "CPU revision")


def _topology(core: int, count: int) -> dict[str, object]:
    """Where a core is; without these files OpenVINO's library for it ends the process."""
    own, every = f"{1 << core:x}", f"{(1 << count) - 1:x}"
    alone = dict.fromkeys(("thread_siblings", "core_cpus"), own)
    alone |= dict.fromkeys(("thread_siblings_list", "core_cpus_list"), str(core))
    together = dict.fromkeys(("core_siblings", "package_cpus", "cluster_cpus"), every)
    together |= dict.fromkeys(("core_siblings_list", "package_cpus_list"), f"0-{count - 1}")
    return {"core_id": core, "physical_package_id": 0, "cluster_id": 0, **alone, **together}
