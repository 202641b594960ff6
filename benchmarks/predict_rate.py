"""`edgepress predict` on a folder against the rate that `bench` measures from JPEG bytes, and what its memory does.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/predict_rate.py RUN/onnx-int8-onnxruntime PICTURES \
        >> benchmarks/records/predict-rate-cpu.jsonl

PICTURES is a folder of pictures. Rates are in pictures a second, of batches of 8, in turn over the rounds: `predict` is
the verb in this process on 1,000 pictures (JSON lines to nowhere) less the same on one picture, which is mostly opening
the bundle; `predict_whole` has that in it; `bench` is the best of its two ways from bytes to logits. Memory is this
process's resident size after 1,000 and after 10,000 pictures, in MB.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from edgepress.cli.main import command_line_of
from edgepress.deploy.bench.latency import bench
from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets.files import PICTURE_SUFFIXES

BATCH = 8


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = sorted(path for path in options.pictures.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not found:
        raise SystemExit(f"{options.pictures}: no picture in it")
    with tempfile.TemporaryDirectory() as name:
        many = Path(name)
        for number, path in zip(range(10_000), itertools.cycle(found), strict=False):
            folder = many / f"{number // 1000}"
            folder.mkdir(exist_ok=True)
            (folder / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
        encoded = [path.read_bytes() for path in found[:200]]
        rounds = []
        for _ in range(options.rounds):
            cell = bench(Bundle.open(options.bundle), encoded, batches=(BATCH,), seconds=3.0).cells[0]
            assert cell.ahead is not None
            best = max(cell.ahead.images_per_second, cell.end_to_end.images_per_second)
            one, thousand = (predict(options.bundle, [path]) for path in (next((many / "0").iterdir()), many / "0"))
            rounds.append({"bench": best, "predict": 999 / (thousand - one), "predict_whole": 1000 / thousand})
        after_1000 = resident_mb()
        predict(options.bundle, [many / str(part) for part in range(10)])
        after_10000 = resident_mb()
    print(
        json.dumps(
            {
                "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "machine": asdict(describe_machine()),
                "bundle": Bundle.open(options.bundle).name,
                "pictures": len(found),
                "rounds": rounds,
                "share_median": statistics.median(row["predict"] / row["bench"] for row in rounds),
                "share_whole_median": statistics.median(row["predict_whole"] / row["bench"] for row in rounds),
                "resident_mb": {"after 1,000": after_1000, "after 10,000 more": after_10000},
                "growth_mb": after_10000 - after_1000,
            },
            indent=2,
        )
    )


def predict(bundle: Path, sources: list[Path]) -> float:
    """Seconds that the verb takes."""
    started = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        arguments = ["predict", str(bundle), *map(str, sources), "--json", "--batch", str(BATCH)]
        command_line_of(arguments)(args=arguments, standalone_mode=False)
    return time.perf_counter() - started


def resident_mb() -> float:
    """Of this process, now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


if __name__ == "__main__":
    main()
