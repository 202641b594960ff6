"""Where an engine's time goes: products in INT8, products in float, and all the rest, by the runtime's own profile.

    .venv/bin/python benchmarks/layer_times.py BUNDLE... [--calls 200] >> benchmarks/records/layer-times-cpu.jsonl

One picture a call, one thread. Prints a JSON object a bundle: microseconds a call by group and by kind of kernel.
ONNX Runtime's profile says of each kernel what it computes in by its first input; OpenVINO's says it by its execution
type. Kernels are summed, so what happens between them is left out.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from edgepress.multilabel.bundle import Bundle

_PRODUCT = re.compile(r"Conv|MatMul|Gemm|FullyConnected|Convolution")
_INT8 = re.compile(r"int8|_i8|_u8", re.IGNORECASE)


def main() -> None:
    """Profile every bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    for path in options.bundles:
        bundle = Bundle.open(path)
        measure = _openvino if bundle.manifest.kind == "openvino" else _onnxruntime
        kernels = measure(bundle, options.calls)
        groups: Counter[str] = Counter()
        for (kind, int8), microseconds in kernels.items():
            product = _PRODUCT.search(kind) is not None
            groups["products in INT8" if product and int8 else "products in float" if product else "rest"] += (
                microseconds
            )
        print(
            json.dumps(
                {
                    "bundle": f"{path.parent.name}/{path.name}",
                    "runtime": bundle.manifest.kind,
                    "microseconds": round(sum(kernels.values())),
                    "groups": {name: round(value) for name, value in sorted(groups.items())},
                    "kernels": [
                        {"kernel": kind, "int8": int8, "microseconds": round(value)}
                        for (kind, int8), value in kernels.most_common(8)
                    ],
                }
            ),
            flush=True,
        )


def _pictures(bundle: Bundle, count: int = 16) -> np.ndarray:
    size = bundle.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (count, 1, size, size, 3), np.uint8)


def _onnxruntime(bundle: Bundle, calls: int) -> Counter[tuple[str, bool]]:
    import onnxruntime as ort

    pictures = _pictures(bundle)
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = ort.InferenceSession(
            str(bundle.model_path),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["WeightBiasQuantization"],
        )
        for call in range(calls):
            session.run(None, {session.get_inputs()[0].name: pictures[call % len(pictures)]})
        events = json.loads(Path(session.end_profiling()).read_text())
    found: Counter[tuple[str, bool]] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            read = next((name for shape in event["args"]["input_type_shape"] for name in shape), "")
            found[event["args"]["op_name"], _INT8.search(read) is not None] += event["dur"] / calls
    return found


def _openvino(bundle: Bundle, calls: int) -> Counter[tuple[str, bool]]:
    import openvino as ov

    settings = {"PERF_COUNT": True, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(str(bundle.model_path), "CPU", settings).create_infer_request()
    found: Counter[tuple[str, bool]] = Counter()
    for picture in np.take(_pictures(bundle), range(calls), axis=0, mode="wrap"):
        request.infer([picture])
        for layer in request.get_profiling_info():
            int8 = _INT8.search(layer.exec_type) is not None
            found[layer.node_type, int8] += layer.real_time.total_seconds() * 1e6 / calls
    return found


if __name__ == "__main__":
    main()
