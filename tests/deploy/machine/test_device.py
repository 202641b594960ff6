"""The machine as a measurement's record has it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict

from pydantic import TypeAdapter

from edgepress.deploy.machine import device
from edgepress.deploy.machine.device import Machine, describe_machine, processor


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
