"""Which versions of the runtimes open a run's engines and answer alike: each in a virtual environment of its own.

    .venv/bin/python -m benchmarks.versions runs/quickstart --data examples/clipart-sample --into /tmp/versions

Makes an environment for each version, with edgepress from this checkout and its base install, opens the run's engines
of that runtime there (with the golden check), answers the test split, and compares its logits with those of the newest
version.
Takes minutes and a package registry, so it is not part of the tests: `make versions`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.environments import WHEELS, Answered, answered, make_environment, make_wheel

VERSIONS = {
    "onnxruntime": ("1.20", "1.22", "1.24", "1.28", "1.31", "1.32"),
    "openvino": ("2025.0", "2025.2", "2025.4", "2026.0", "2026.2", "2026.4"),
    "ai-edge-litert": ("2.1", "2.2", "2.3"),
    "ncnn": ("1.0.20261020",),
}
"""From the declared lower bound to the newest that was there when this was written."""
ENGINES = {
    "onnxruntime": ("onnx-fp32", "onnx-fp16", "onnx-int8-onnxruntime"),
    "openvino": ("openvino-fp32", "openvino-fp16", "openvino-int8"),
    "ai-edge-litert": ("litert-fp32", "litert-fp16", "litert-int8"),
    "ncnn": ("ncnn-fp32", "ncnn-fp16"),
}


def main() -> None:
    """Print a JSON object per version and engine: its error, or its difference from the newest version and its time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, as runs/quickstart")
    parser.add_argument("--data", type=Path, required=True, help="the data set of its test split")
    parser.add_argument("--into", type=Path, required=True, help="folder for the environments, which are kept")
    parser.add_argument("--runtime", choices=VERSIONS, action="append", help="only this one; may be repeated")
    parser.add_argument("--version", action="append", help="these versions instead of the usual ones")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    wheel = make_wheel(options.into)
    for runtime in options.runtime or VERSIONS:
        found = {}
        for version in options.version or VERSIONS[runtime]:
            print(f"{runtime} {version}", file=sys.stderr, flush=True)
            folder = options.into / f"{runtime}-{version}"
            python = make_environment(folder, Path(sys.executable), wheel, [WHEELS, f"{runtime}=={version}.*"])
            for engine in ENGINES[runtime]:
                bundle = options.run / engine
                if bundle.is_dir():
                    found[version, engine] = answered(python, bundle, options.data, options.into)
        _print(runtime, found)


def _print(runtime: str, found: dict[tuple[str, str], Answered]) -> None:
    newest = {engine: one for (_, engine), one in found.items() if one.logits is not None}
    for (version, engine), one in found.items():
        row = {"runtime": runtime, "version": version, "engine": engine, "error": one.error, "ms": one.ms}
        row |= one.against(newest[engine]) if engine in newest else {}
        print(json.dumps({name: value for name, value in row.items() if value is not None}), flush=True)


if __name__ == "__main__":
    main()
