"""Our engine call against a bare runtime loop on the same file, interleaved call by call (A B A B).

    .venv/bin/python benchmarks/engine_overhead.py runs/quickstart/onnx-fp32 runs/quickstart/openvino-fp32

Prints one JSON object a bundle: the medians, their ratio and the overhead of a call in microseconds. The bare loop has
the runtime's own session on the same model file with the same options.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from deploy import open_engine
from multilabel.bundle import Bundle


def main() -> None:
    """Time every bundle named and print its record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    for path in options.bundles:
        bundle = Bundle.open(path)
        size = bundle.preprocess.size
        images = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
        bare = _bare(bundle)
        with open_engine(bundle) as engine:
            ours, theirs = [], []
            for turn in range(options.calls + 50):
                a, b = _seconds(engine, images), _seconds(bare, images)
                if turn >= 50:
                    ours.append(a)
                    theirs.append(b)
            record = {
                "engine": bundle.name,
                "ran": engine.ran,
                "calls": options.calls,
                "p50_ms": 1e3 * statistics.median(ours),
                "bare_p50_ms": 1e3 * statistics.median(theirs),
                "ratio": statistics.median(ours) / statistics.median(theirs),
                "overhead_us": 1e6 * (statistics.median(ours) - statistics.median(theirs)),
            }
        print(json.dumps(record, indent=2))


def _bare(bundle: Bundle) -> Callable[[np.ndarray], object]:
    if bundle.manifest.kind == "onnx":
        import onnxruntime as ort

        session = ort.InferenceSession(str(bundle.model_path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})
    if bundle.manifest.kind == "openvino":
        import openvino as ov

        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        request = ov.Core().compile_model(str(bundle.model_path), "CPU", options).create_infer_request()
        return lambda images: request.infer([images], share_inputs=True, share_outputs=True)
    raise SystemExit(f"{bundle.path}: kind {bundle.manifest.kind}; expected onnx or openvino")


def _seconds(call: Callable[[np.ndarray], object], images: np.ndarray) -> float:
    started = time.perf_counter()
    call(images)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
