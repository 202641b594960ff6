"""The machine as a measurement's record has it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict

from pydantic import TypeAdapter

from edgepress.deploy.machine import device
from edgepress.deploy.machine.device import Machine, describe_machine
from edgepress.deploy.machine.processor import processor
from tests.deploy.machine.boards import BOARDS, board_tree
from tests.deploy.machine.jetson import put


def test_this_machine_is_described_and_read_again():
    found = describe_machine()
    assert (found.processor, found.architecture, found.python) == (
        processor(),
        platform.machine(),
        platform.python_version(),
    )
    assert found.cores >= 1
    record = json.loads(json.dumps(asdict(found)))
    assert list(record) == ["processor", "cores", "architecture", "system", "python", "governor", "model", "gpu"]
    assert TypeAdapter(Machine).validate_python(record) == found


def test_a_gpu_is_named_by_its_compute_capability(monkeypatch):
    for capability, named in (((8, 7), "SM87"), ((12, 0), "SM120"), (None, None)):
        monkeypatch.setattr(device, "cuda_compute_capability", lambda capability=capability: capability)
        assert describe_machine().gpu == named


def test_a_board_of_two_kinds_of_cores_is_described(tmp_path):
    root = board_tree(tmp_path, "rock5b")
    found = describe_machine(root)
    assert (found.processor, found.model) == ("4x Cortex-A55, 4x Cortex-A76 (Radxa ROCK 5B)", BOARDS["rock5b"].model)
    assert found.governor == "ondemand"
    put(root, {"sys/devices/system/cpu/cpu6/cpufreq/scaling_governor": "performance"})
    assert describe_machine(root).governor == "ondemand, performance"  # not that of the first core


def test_a_board_in_a_container_keeps_to_its_quota(tmp_path):
    root = board_tree(tmp_path, "pi4")
    assert describe_machine(root).cores >= 1
    put(root, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"})
    assert describe_machine(root).cores == 1


def test_a_machine_whose_files_are_hidden_says_so(tmp_path):
    found = describe_machine(tmp_path)
    assert (found.governor, found.model) == ("unknown", None)
