"""Telemetry of the libraries underneath: off, before any of them is imported, unless the user turns it on.

ONNX Runtime from 1.29 on reports to its maker and keeps a device's number and an event store in HOME; OpenVINO and NNCF
report each import, conversion and quantisation; Gradio and huggingface_hub report what they are used for. In CI they
keep quiet by themselves, so that no test sees it.

Whoever wants one on sets its variable before edgepress is imported: ORT_DISABLE_TELEMETRY=0,
GRADIO_ANALYTICS_ENABLED=True, HF_HUB_DISABLE_TELEMETRY=0; OpenVINO and NNCF, which have none, ask for
EDGEPRESS_OPENVINO_TELEMETRY=1.
"""

from __future__ import annotations

import os
import sys

OFF = {"ORT_DISABLE_TELEMETRY": "1", "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Variables that processes started from here inherit."""
OPENVINO_ON = "EDGEPRESS_OPENVINO_TELEMETRY"


def turn_off() -> None:
    """Set what is not set. OpenVINO and NNCF do without `openvino_telemetry` where it cannot be imported."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
    if os.environ.get(OPENVINO_ON) != "1":
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # so Python refuses to import it
