"""ONNX Runtime on the CPU, opened alike everywhere: within this process's cores, and true to the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from edgepress.multilabel.cores import thread_limit

FLOAT_STAYS = ("WeightBiasQuantization",)
"""The optimisation to switch off: from ORT_ENABLE_BASIC on it quantises products that a Q/DQ graph leaves in float
(`findings/onnxruntime-float-convolution-between-qdq.sh`)."""
Optimised = Literal["all", "basic", "nothing"]


def session_options(threads: int | None = None) -> Any:
    """Options of a quiet session, whose errors are raised and not printed as well.

    Args:
        threads: by default what this process may use; ONNX Runtime itself counts the machine's cores.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    limit = threads or thread_limit()
    if limit is not None:
        options.intra_op_num_threads = limit
    return options


def cpu_session(model: bytes | Path, optimised: Optimised = "all") -> Any:
    """Open an `onnxruntime.InferenceSession`.

    Args:
        model: a serialised graph, or its file.
        optimised: `basic` fuses no Q/DQ pairs, so every tensor has the value that the graph defines; with `nothing`
            every tensor is still there.

    Raises:
        Exception: ONNX Runtime refuses the graph; its exception types share no base class.
    """
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    options = session_options()
    options.graph_optimization_level = {
        "all": levels.ORT_ENABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "nothing": levels.ORT_DISABLE_ALL,
    }[optimised]
    given = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(
        given, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(FLOAT_STAYS)
    )
