"""Which releases of TensorRT-RTX read and build a run's graphs, each in an environment of its own, without a GPU.

    .venv/bin/python -m benchmarks.rtx_releases runs/quickstart --into /tmp/versions

Calls `edgepress compile --engine tensorrt` there for the run's graphs of fp32, fp16 and INT8: the parser reads the
graph, the network is compared with the contract, and an engine is built for SM86. Only a GPU could open it.
Takes minutes and a package registry (1 GB per release), so it is not part of the tests: `make versions`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from benchmarks.environments import make_environment, make_wheel, run_in

RELEASES = ("1.4", "1.5", "1.6", "1.7")
"""All that the registry has, from the first to the newest that was there when this was written."""
GRAPHS = ("onnx-fp32", "onnx-fp16", "onnx-int8-tensorrt")


def main() -> None:
    """Print a JSON object per release and graph: the engine's bytes, or why there is none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, as runs/quickstart")
    parser.add_argument("--into", type=Path, required=True, help="folder for the environments, which are kept")
    parser.add_argument("--release", action="append", help="this one instead of all, as 1.6; may be repeated")
    options = parser.parse_args()
    into = options.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    wheel = make_wheel(into)
    for release in options.release or RELEASES:
        print(f"tensorrt-rtx {release}", file=sys.stderr, flush=True)
        # Its libraries are in source packages, which hold them built.
        packages = [f"tensorrt-rtx=={release}.*"]
        python = make_environment(into / f"tensorrt-rtx-{release}", Path(sys.executable), wheel, packages)
        for graph in GRAPHS:
            row = {"release": release, "graph": graph, **_built(python, options.run / graph, into)}
            print(json.dumps(row), flush=True)


def _built(python: Path | str, bundle: Path, into: Path) -> dict[str, object]:
    if isinstance(python, str):
        return {"error": python}
    out = into / "plan"
    shutil.rmtree(out, ignore_errors=True)
    call = ["compile", str(bundle.resolve()), "--engine", "tensorrt", "--out", str(out), "--sm", "86"]
    done = run_in(python, into, "-m", "edgepress", *call)
    if done.returncode:
        said = " ".join(done.stderr.partition("edgepress: ")[2].split()) or done.stderr[-400:]
        return {"code": done.returncode, "error": said.replace(f"{bundle.resolve().parent}/", "")[:400]}
    return {"code": 0, "bytes": (out / "model.plan").stat().st_size}


if __name__ == "__main__":
    main()
