"""A Jetson's files, made from what was recorded on real ones by others (recorded/README.md)."""

from __future__ import annotations

import re
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def put(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def clocks_tree(root: Path, shown: str) -> Path:
    """The files below /sys whose numbers `jetson_clocks --show` printed."""
    cpu = re.compile(r"cpu(\d+): +Online=(\d) Governor=(\w+) MinFreq=(\d+) MaxFreq=(\d+)")
    for number, online, governor, low, high in cpu.findall(shown):
        folder = f"sys/devices/system/cpu/cpu{number}"
        files = {"scaling_governor": governor, "scaling_min_freq": low, "scaling_max_freq": high}
        put(root, {f"{folder}/cpufreq/{name}": text for name, text in files.items()})
        put(root, {f"{folder}/online": online})
    (low, high), *_ = re.findall(r"GPU MinFreq=(\d+) MaxFreq=(\d+)", shown)
    gpu, other = "sys/class/devfreq/17000000.gpu", "sys/class/devfreq/15340000.vic"
    put(root, {f"{gpu}/min_freq": low, f"{gpu}/max_freq": high, f"{other}/min_freq": 1, f"{other}/max_freq": 2})
    return root
