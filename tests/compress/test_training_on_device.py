"""Training beside a device: everything that a step touches is there. Not run on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices that are written in Python",
)
def test_every_training_keeps_its_tensors_on_the_device(tiny_data, tmp_path):
    command = [sys.executable, "-m", "tests.compress.on_device", str(tiny_data), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, cwd=root)
    assert done.stdout.splitlines() == [
        "taught",
        "distilled with every term",
        "distilled from kept answers",
        "distilled beside the teacher",
        "fine-tuned for INT8",
        "mixed tensors are refused: aten.add.Tensor: a tensor of the processor [3] beside one of the device",
    ], done.stderr[-2000:]
    assert done.returncode == 0
