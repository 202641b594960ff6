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
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = {
    "onnxruntime": ("1.20", "1.22", "1.24", "1.28", "1.31", "1.32"),
    "openvino": ("2025.0", "2025.2", "2025.4", "2026.0", "2026.2", "2026.4"),
}
"""From the declared lower bound to the newest that was there when this was written."""
ENGINES = {
    "onnxruntime": ("onnx-fp32", "onnx-fp16", "onnx-int8-onnxruntime"),
    "openvino": ("openvino-fp32", "openvino-fp16", "openvino-int8"),
}
_ANSWER = """
import json, sys, time
import numpy as np
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.datasets import load_dataset
bundle, data, out = sys.argv[1:4]
try:
    with open_engine(bundle, threads=1) as engine:
        pictures = load_dataset(data, "test")
        pixels = np.stack([engine.preprocess(pictures.picture(row)) for row in range(len(pictures))])
        times, parts = [], []
        for at in range(len(pixels)):
            started = time.process_time()  # other processes do not count
            parts.append(engine(pixels[at : at + 1]))
            times.append(time.process_time() - started)
        logits = np.concatenate(parts)
        np.savez(out, logits=logits, decisions=engine.bundle.decisions.decide(logits))
    print(json.dumps({"ms": 1e3 * float(np.median(times))}))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}))
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one version made of one engine."""

    runtime: str
    version: str
    engine: str
    error: str | None = None
    """Why it does not open or run."""
    difference: float | None = None
    """Largest difference of a logit from the newest version's."""
    changed: int | None = None
    """Decisions that differ from the newest version's."""
    ms: float | None = None
    """Median processor time of a call at batch 1, with one thread."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, as runs/quickstart")
    parser.add_argument("--data", type=Path, required=True, help="the data set of its test split")
    parser.add_argument("--into", type=Path, required=True, help="folder for the environments, which are kept")
    parser.add_argument("--runtime", choices=VERSIONS, action="append", help="only this one; may be repeated")
    parser.add_argument("--version", action="append", help="these versions instead of the usual ones")
    options = parser.parse_args()
    for runtime in options.runtime or VERSIONS:
        found = {}
        for version in options.version or VERSIONS[runtime]:
            print(f"{runtime} {version}", file=sys.stderr, flush=True)
            python = _environment(options.into, runtime, version)
            for engine in ENGINES[runtime]:
                bundle = options.run / engine
                if bundle.is_dir():
                    found[version, engine] = _answered(python, bundle, options.data, options.into)
        for row in _rows(runtime, found):
            print(json.dumps({name: value for name, value in vars(row).items() if value is not None}), flush=True)


def _environment(into: Path, runtime: str, version: str) -> Path | str:
    """The interpreter of an environment with this version, or why there is none."""
    folder = into / f"{runtime}-{version}"
    python = folder / "bin/python"
    if not (folder / ".complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command = [*pip, str(ROOT), f"{runtime}=={version}.*"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
        (folder / ".complete").touch()
    return python


@dataclass(frozen=True, eq=False)
class _Answered:
    error: str | None = None
    ms: float | None = None
    logits: np.ndarray | None = None
    decisions: np.ndarray | None = None


def _answered(python: Path | str, bundle: Path, data: Path, into: Path) -> _Answered:
    if isinstance(python, str):
        return _Answered(error=python)
    out = into / "answers.npz"
    environment = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(into / "cache"), "ORT_DISABLE_TELEMETRY": "1"}
    command = [str(python), "-c", _ANSWER, str(bundle.resolve()), str(data.resolve()), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=into, env=environment)
    if done.returncode:
        return _Answered(error=f"ended with {done.returncode}: {' '.join(done.stderr.split())[-200:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if "error" in said:
        return _Answered(error=said["error"])
    with np.load(out, allow_pickle=False) as file:
        return _Answered(ms=said["ms"], logits=file["logits"], decisions=file["decisions"])


def _rows(runtime: str, found: dict[tuple[str, str], _Answered]) -> list[Row]:
    newest: dict[str, _Answered] = {}
    for (_, engine), one in found.items():
        if one.logits is not None:
            newest[engine] = one
    rows = []
    for (version, engine), one in found.items():
        row = Row(runtime=runtime, version=version, engine=engine, error=one.error, ms=one.ms)
        if one.logits is not None:
            last = newest[engine]
            difference = float(np.abs(one.logits - last.logits).max())
            row = replace(row, difference=difference, changed=int(np.sum(one.decisions != last.decisions)))
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
