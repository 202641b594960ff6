"""What the golden check adds to opening an engine: once it is proven, and the first time.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.opening runs/quickstart >> benchmarks/records/opening-cpu.jsonl

Every pair is a process of its own, because an engine that was proven in a process is known there without a file. After
one opening that loads the runtime, the process opens the bundle without the check and with it, in turn, and closes it
each time. The opening that is proven for the first time, in an empty cache, comes last. Prints one JSON object per
engine: medians in milliseconds, the difference to opening without the check with the 95 % interval of its median, and
the ratio. The difference is of processor time as well, which other processes do not lengthen.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edgepress.deploy.bench.against import median_interval
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.machine.state import disturbances, read_state
from edgepress.multilabel.bundle import Bundle

ENGINES = ("onnx-fp32", "onnx-int8-onnxruntime", "openvino-fp32", "openvino-int8")
_PAIR = """
import json, os, sys, time
from edgepress.deploy.engines import golden, open_engine

def timed(cache, unproven):
    os.environ["XDG_CACHE_HOME"] = cache
    golden._proven.clear()
    wall, own = time.perf_counter(), time.process_time()
    engine = open_engine(bundle, unproven=unproven)
    taken = 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - own)
    engine.close()
    return taken

bundle, proven, empty, swap = sys.argv[1:5]
timed(proven, False)
first, second = (False, True) if swap == "1" else (True, False)
found = {first: timed(proven, first), second: timed(proven, second)}
print(json.dumps({"without": found[True], "proven": found[False], "first": timed(empty, False)}))
"""


def main() -> None:
    """Measure each engine and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run's folder, as runs/quickstart")
    parser.add_argument("--pairs", type=int, default=31)
    options = parser.parse_args()
    for name in ENGINES:
        bundle = Bundle.open(options.run / name)
        before = read_state()
        with tempfile.TemporaryDirectory() as cache:
            rows = [_pair(bundle.path.resolve(), Path(cache), number) for number in range(options.pairs)]
        print(
            json.dumps(
                {
                    "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                    "machine": asdict(describe_machine()),
                    "engine": name,
                    "pairs": options.pairs,
                    "cautions": disturbances(before, read_state()),
                    **{what: _against_without(rows, what) for what in ("proven", "first")},
                }
            ),
            flush=True,
        )


def _pair(bundle: Path, cache: Path, number: int) -> dict[str, list[float]]:
    """Wall and processor time in milliseconds, by the way of opening."""
    empty = cache / f"empty-{number}"
    command = [sys.executable, "-c", _PAIR, str(bundle), str(cache / "proven"), str(empty), str(number % 2)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _against_without(rows: list[dict[str, list[float]]], what: str) -> dict[str, object]:
    wall, own = (np.array([[row["without"][place], row[what][place]] for row in rows]) for place in (0, 1))
    low, high = median_interval(len(rows))
    found: dict[str, object] = {"without_ms": float(np.median(wall[:, 0])), "ms": float(np.median(wall[:, 1]))}
    for name, values in (("more_ms", wall), ("more_processor_ms", own)):
        more = np.sort(values[:, 1] - values[:, 0])
        found[name] = [float(value) for value in (np.median(more), more[low], more[high])]
    found["ratio"] = float(np.median(wall[:, 1] / wall[:, 0]))
    return found


if __name__ == "__main__":
    main()
