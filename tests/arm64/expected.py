"""What is proven: every CPU engine of a run's default list on every processor; and what does not run, by name."""

from __future__ import annotations

from edgepress.deploy.engines.table import DEFAULT_ENGINES
from edgepress.deploy.engines.table import ENGINES as ALL
from tests.deploy.machine.boards import BOARDS

ENGINES = tuple(name for name in DEFAULT_ENGINES if not ALL[name].runtime.needs_sm)
PROCESSORS = tuple(name for name, board in BOARDS.items() if board.qemu is not None)
NOT_RUN = {("pi3", "openvino-int8"), ("pi4", "openvino-int8")}
"""OpenVINO's INT8 needs arithmetic in half precision, which Cortex-A53 and A72 lack."""
REFUSED = {("pi5", "openvino-int8"), ("graviton3", "openvino-int8")}
"""Where it has that, OpenVINO 2026.4.1 answers otherwise than on x86, and the golden check refuses the engine."""
NAMED = {
    "pi3": ("Cortex-A53 (Raspberry Pi 3 Model B Rev 1.2)", "ondemand", "unlocked"),
    "pi4": ("Cortex-A72 (Raspberry Pi 4 Model B Rev 1.1)", "ondemand", "unlocked"),
    "pi5": ("Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)", "ondemand", "unlocked"),
    "graviton3": ("Neoverse-V1", "unknown", "unknown"),
}
"""Processor, governor and clocks of each board, as its recorded files say."""
