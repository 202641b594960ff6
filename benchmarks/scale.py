"""Time and peak memory of every step of a large data set, at two sizes, in folders and in shards.

    .venv/bin/python -m benchmarks.scale --sizes 50000,200000 >> benchmarks/records/scale-cpu.jsonl

Makes a data set of tiny JPEGs of two splits with 80 labels, three a picture (those of a run on disk in `--into`, which
is emptied). Each step is a process of its own with an empty cache of hashes but for `hash again`. Prints a line of JSON
for each step: processor seconds, seconds of a clock, most MB resident, and at the end the exponents with which seconds
grow from the first size to the last (1 is linear).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.datasets import load_dataset

LABELS = [f"label{number:02d}" for number in range(80)]
A_FOLDER = 1000
STEPS = ("load", "hash", "hash again", "look over", "split", "shard", "load shards", "read shards")


def make(root: Path, count: int) -> None:
    """Write `count` different JPEGs of 32 px in `train`, in folders of a thousand, with imagefolder's metadata."""
    draw = random.Random(0)  # noqa: S311 # no secret
    rng = np.random.default_rng(0)
    (root / "train").mkdir(parents=True)
    (root / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    with (root / "train" / "metadata.jsonl").open("w") as file:
        for number in range(count):
            name = f"{number // A_FOLDER:04d}/{number:07d}.jpg"
            if number % A_FOLDER == 0:
                (root / "train" / name).parent.mkdir()
                coarse = rng.integers(0, 256, (A_FOLDER, 16, 16, 3), dtype=np.uint8)
            picture = cv2.resize(coarse[number % A_FOLDER], (32, 32))
            (root / "train" / name).write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
            labels = draw.sample(LABELS, 3)
            file.write(json.dumps({"file_name": name, "labels": labels}) + "\n")


def load(root: Path) -> int:
    return len(load_dataset(root, "train"))


def digest(root: Path) -> int:
    data = load_dataset(root, "train")
    data.fingerprint()
    return len(data)


def look_over(root: Path) -> int:
    from edgepress.multilabel.inspection import inspect_dataset

    return inspect_dataset({"train": load_dataset(root, "train")}).splits["train"].pictures


def split(root: Path) -> int:
    return sum(len(load_dataset(root, part)) for part in ("train[:90%]", "train[90%:]"))


def shard(root: Path) -> int:
    from edgepress.multilabel.shards import write_shards

    data = load_dataset(root, "train")
    write_shards([data], shards_of(root), shard_bytes=64_000_000)
    return len(data)


def read_shards(root: Path) -> int:
    """One epoch of training batches, as one process without workers reads them."""
    from edgepress.compress.augmentation import Augmentation
    from edgepress.compress.loader import batches, make_loader
    from edgepress.multilabel.preprocess import Preprocess

    data = load_dataset(shards_of(root), "train")
    vary = Augmentation(augment="none", flip=0.5, cutout=0.0, seed=0)
    loader = make_loader(data, [Preprocess(size=32)], batch_size=256, workers=0, augmentation=vary)
    return sum(len(batch.index) for batch in batches(loader, 0, loader))


def shards_of(root: Path) -> Path:
    return root.with_name(f"{root.name}-shards")


WORK: dict[str, Callable[[Path], int]] = {
    "load": load,
    "hash": digest,
    "hash again": digest,
    "look over": look_over,
    "split": split,
    "shard": shard,
    "load shards": lambda root: load(shards_of(root)),
    "read shards": read_shards,
}


def measured(step: str, root: Path, cache: Path) -> dict[str, object]:
    """Run a step in a process of its own and tell what it took."""
    if step != "hash again":
        shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.scale", "--step", step, "--into", str(root)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        return {"step": step, "failed": done.stderr.splitlines()[-3:]}
    return {"step": step, **json.loads(done.stdout)}


def run_here(step: str, root: Path) -> None:
    """The body of a step's process: print what it took, without what the imports of this file took."""
    held = peak_mb()
    began, clock = time.process_time(), time.perf_counter()
    count = WORK[step](root)
    seconds, passed = time.process_time() - began, time.perf_counter() - clock
    told = {"pictures": count, "cpu_seconds": round(seconds, 2), "seconds": round(passed, 2)}
    print(json.dumps({**told, "peak_mb": round(peak_mb()), "of_it_imports_mb": round(held)}))


def peak_mb() -> float:
    """The most that this process held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Measure and print JSON lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="50000,200000", help="numbers of pictures")
    parser.add_argument("--into", type=Path, default=Path("scale-data"), help="an empty folder for the data sets")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--step", choices=list(WORK), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_here(options.step, options.into)
        return
    sizes = [int(word) for word in options.sizes.split(",")]
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    print(json.dumps({"when": when, "machine": asdict(describe_machine()), "sizes": sizes}), flush=True)
    took: dict[str, list[float]] = {}
    for size in sizes:
        root = options.into / f"pictures-{size}"
        make(root, size)
        for step in options.steps.split(","):
            line = measured(step, root, options.into / "cache")
            print(json.dumps({"size": size, **line}), flush=True)
            if isinstance(seconds := line.get("cpu_seconds"), float):
                took.setdefault(step, []).append(seconds)
        for made in (root, shards_of(root)):
            shutil.rmtree(made, ignore_errors=True)
    growth = math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else 0
    exponents = {step: round(math.log(s[-1] / s[0]) / growth, 2) for step, s in took.items() if growth and len(s) > 1}
    print(json.dumps({"exponents": exponents}), flush=True)


if __name__ == "__main__":
    main()
