"""What a processor and a board are called, from files that were recorded on real ones (recorded/README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepress.deploy.machine.processor import board_model, machine_key, processor, read_system
from tests.deploy.machine.boards import BOARDS, board_tree
from tests.deploy.machine.jetson import put


@pytest.mark.parametrize(
    ("board", "named"),
    [
        ("pi3", "Cortex-A53 (Raspberry Pi 3 Model B Rev 1.2)"),
        ("pi4", "Cortex-A72 (Raspberry Pi 4 Model B Rev 1.1)"),
        ("pi5", "Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)"),
        # /proc/cpuinfo lists the small cores first: they alone would say that this board is as slow as a Cortex-A55.
        ("rock5b", "4x Cortex-A55, 4x Cortex-A76 (Radxa ROCK 5B)"),
        ("phone", "3x Cortex-A510, 2x Cortex-A715, 2x Cortex-A710, 1x Cortex-X3"),
        ("graviton3", "Neoverse-V1"),
    ],
)
def test_a_recorded_board_has_a_name_of_its_own(tmp_path, board, named):
    """`aarch64` is what every ARM board calls its processor: what is recorded of one would be taken for another's."""
    assert processor(board_tree(tmp_path, board)) == named


def test_recorded_machines_are_told_apart(tmp_path):
    keys = {machine_key(board_tree(tmp_path / name, name)) for name in BOARDS}
    assert len(keys) == len(BOARDS)
    assert all(key.instructions for key in keys)


def test_machines_of_one_part_are_told_apart_by_instructions(tmp_path):
    root = board_tree(tmp_path, "pi4")
    before = machine_key(root)
    put(root, {"proc/cpuinfo": (root / "proc/cpuinfo").read_text().replace("crc32", "crc32 aes")})
    assert machine_key(root) != before


def test_a_raspberry_pi_in_a_container_has_its_name_from_its_kernel(tmp_path):
    root = board_tree(tmp_path, "pi5")
    (root / "proc/device-tree/model").unlink()  # Docker hides /sys/firmware, to which it is a link
    assert board_model(root) == BOARDS["pi5"].model
    assert processor(root) == "Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)"


@pytest.mark.parametrize(
    ("cpuinfo", "named"),
    [
        ("model name\t: Intel(R) N100\nmodel\t\t: 190\nflags\t: avx_vnni\n", "Intel(R) N100"),
        ("model name\t: ARMv7 Processor rev 3 (v7l)\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n", "Cortex-A72"),
        ("CPU implementer\t: 0x99\nCPU part\t: 0x123\n", "implementer 0x99 part 0x123"),
    ],
)
def test_other_processors_are_named(tmp_path, cpuinfo, named):
    put(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert processor(tmp_path).endswith(named)
    assert board_model(tmp_path) is None


def test_a_machine_without_such_files_still_has_a_name(tmp_path):
    assert processor(tmp_path)
    assert machine_key(tmp_path).instructions == ""


def test_what_cannot_be_read_or_is_empty_is_none(tmp_path: Path):
    put(tmp_path, {"empty": "", "zeros": "\0\0", "name": "a board\0"})
    assert read_system(tmp_path / "empty") is None
    assert read_system(tmp_path / "zeros") is None
    assert read_system(tmp_path / "missing") is None
    assert read_system(tmp_path) is None  # a folder
    assert read_system(tmp_path / "name") == "a board"
