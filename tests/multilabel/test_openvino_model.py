"""OpenVINO leaves logging and the signal stack of the program as they were."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.openvino_model import openvino_model

pytest.importorskip("openvino", reason="openvino is not installed (pip install 'edgepress[openvino]')")


def test_a_model_that_it_cannot_read_leaves_the_programs_logging_as_it_was(tmp_path):
    root, broken = logging.getLogger(), tmp_path / "model.onnx"
    broken.write_bytes(b"no graph")
    root.setLevel(logging.INFO)
    try:
        before = root.filters[:], root.handlers[:]
        with pytest.raises(InputError, match=r"model\.onnx: OpenVINO cannot read it: "):
            openvino_model(broken)
        assert (root.level, (root.filters, root.handlers)) == (logging.INFO, before)
    finally:
        root.setLevel(logging.WARNING)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_the_thread_that_loads_the_cpu_plugin_keeps_its_signal_stack():
    program = """
import openvino as ov
from edgepress.multilabel.openvino_model import SignalStack, own_signal_stack
before = SignalStack.of_this_thread()
with own_signal_stack():
    ov.Core().get_property("CPU", "FULL_DEVICE_NAME")
after = SignalStack.of_this_thread()
print((before.address, before.size, before.flags) == (after.address, after.size, after.flags))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
