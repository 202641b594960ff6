"""Reading an ONNX model into OpenVINO's representation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from edgepress.multilabel.errors import InputError


def openvino_model(path: Path) -> Any:
    """Convert an ONNX file to an `openvino.Model`.

    `openvino.convert_model` sets the root logger to ERROR and adds a filter to it, and takes both back only if it
    succeeds (openvino 2026.4.1, openvino/tools/ovc/convert.py): after a model that it cannot read, no warning of the
    program would be seen any more.

    Raises:
        InputError: OpenVINO cannot read it.
    """
    import openvino as ov

    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        return ov.convert_model(str(path))
    except Exception as error:  # OpenVINO's frontends raise types of their own
        raise InputError(f"{path}: OpenVINO cannot read it: {' '.join(str(error).split())[:300]}") from error
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers
