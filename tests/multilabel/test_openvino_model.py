"""What OpenVINO cannot read is refused by name, and the program's logging is left as it was."""

from __future__ import annotations

import logging

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
