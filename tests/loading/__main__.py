"""python -m tests.loading [--requests 10000] [--at-once 200] [--run FOLDER]: the demo under load.

`edgepress demo` runs as a process of its own, on a run's folder or on the engines of the smallest run, which is made
first. Clients, so many at once, each send a JPEG of 1280 x 960 pixels and ask for its answer; then a PNG of 12,000 x
10,000 pixels is sent once, and twenty times at once. Prints a line after each thousand and one JSON object at the end;
exit code 1 where anything failed: neither answered nor told that the server is busy.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgepress.deploy.machine.device import describe_machine
from tests.conftest import tiny_picture
from tests.loading.client import Client
from tests.loading.load import load
from tests.surviving.__main__ import Run


def main() -> None:
    """Serve, ask, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--run", type=Path, help="a run's folder with onnx-fp32 in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgepress-loading-") as name:
        folder = options.run or smallest_run(Path(name))
        with demo(folder) as (client, process, engines):
            record: dict[str, Any] = {
                "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "machine": asdict(describe_machine()),
                "run": "tests/micro.yaml" if options.run is None else str(options.run),
                "engines": engines,
            }
            record["load"] = load(
                client,
                process,
                photograph(),
                requests=options.requests,
                at_once=options.at_once,
                engine="onnx-fp32",
                tell=lambda row: print(told(row), file=sys.stderr, flush=True),
            )
            large = {"engine": "onnx-fp32", "name": "large.png"}
            for part, count in (("large", 1), ("large_twenty", 20)):
                record[part] = load(client, process, large_png(), requests=count, at_once=count, **large)
                print(told(record[part]["parts"][-1]), file=sys.stderr, flush=True)
    print(json.dumps(record, indent=2))
    sys.exit(any(record[part]["failed"] for part in ("load", "large", "large_twenty")))


def told(row: dict[str, Any]) -> str:
    """A part of a load in one line."""
    times = "p50 {answered_p50_ms:.0f} ms, p99 {answered_p99_ms:.0f} ms".format(**row) if row["answered"] else "-"
    return (
        f"{row['answered']} answered ({times}), {row['busy']} busy, {row['failed']} failed, {row['seconds']:.1f} s, "
        f"{row['resident_mb']:.0f} MB, at most {row['most_mb']:.0f} MB"
    )


def smallest_run(folder: Path) -> Path:
    """`tests/micro.yaml`, run; without the models of torch, which a device does not have."""
    run = Run(folder)
    process = run.start()
    error = process.communicate()[1]
    if process.returncode not in (0, 1):
        raise SystemExit(f"the smallest run failed: {error}")
    for name in ("teacher", "student"):
        shutil.rmtree(run.out / name)
    return run.out


@contextmanager
def demo(folder: Path) -> Iterator[tuple[Client, int, list[str]]]:
    """`edgepress demo` on a run's folder: whoever asks it, its process, and the engines that it opened."""
    command = [sys.executable, "-m", "edgepress", "--quiet", "demo", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:([0-9]+)/  \((.*); Ctrl-C", line)
        try:
            if found is None:
                raise SystemExit(f"the demo did not start: {line}")
            yield Client(int(found[1])), process.pid, found[2].split(", ")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def photograph() -> bytes:
    """A JPEG of 1280 x 960 pixels and about as many bytes as a camera gives it."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(tiny_picture(np.ones(5, bool), rng), (1280, 960), interpolation=cv2.INTER_CUBIC).astype(int)
    noisy = np.clip(picture + rng.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)
    return encoded(".jpg", noisy)


def large_png() -> bytes:
    """A PNG of 12,000 x 10,000 pixels, just within the bound, in few bytes."""
    return encoded(".png", np.zeros((10_000, 12_000, 3), np.uint8))


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    """A picture uint8 BGR as a file."""
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


if __name__ == "__main__":
    main()
