"""What a picture costs in a training of two processes through torchrun, as a multiple of one process.

    edgepress shard examples/clipart-sample --out build/shards --shard-size 1
    .venv/bin/python -m benchmarks.two_processes build/shards >> benchmarks/records/two-processes-cpu.jsonl

A tf_efficientnet_lite0 at 64 px learns from the labels, one thread and a batch of 32 in each process. Trainings of
one epoch and of five take turns (A B B A), and their difference is of four epochs, without imports and set-up. Prints
a line of JSON for each turn, and at the end the ratios of processor seconds; two cores cannot be faster than 2 /
ratio. Seconds of a clock mean something on an idle machine alone.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.datasets import load_dataset

MODEL = ("--backbone", "tf_efficientnet_lite0", "--weights", "none", "--head", "linear", "--size", "64")
SHORT, LONG, BATCH = 1, 5, 32


def cost(data: Path, processes: int, epochs: int) -> tuple[float, float]:
    """Processor seconds of all processes, and seconds of a clock, of one training."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    with tempfile.TemporaryDirectory() as folder:
        verb = ("teach", str(data), "--out", f"{folder}/teacher", *MODEL, "--workers", "0", "--batch-size", str(BATCH))
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, *(launcher if processes > 1 else ()), "-m", "edgepress", *verb, "--epochs", str(epochs)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - started


def main(data: Path) -> None:
    """Print what each turn cost, and the ratios."""
    count = len(load_dataset(data, "train"))
    print(
        json.dumps({"machine": describe_machine().processor, "load": os.getloadavg()[0], "pictures": count}), flush=True
    )
    costs: dict[int, list[float]] = {1: [], 2: []}
    for processes in (1, 2, 2, 1):
        (short, first), (long, second) = cost(data, processes, SHORT), cost(data, processes, LONG)
        pictures = (LONG - SHORT) * (count // (BATCH * processes)) * BATCH * processes
        costs[processes].append(1000 * (long - short) / pictures)
        told = {"processes": processes, "cpu_ms_per_picture": round(costs[processes][-1], 2)}
        print(json.dumps({**told, "ms_per_picture": round(1000 * (second - first) / pictures, 2)}), flush=True)
    ratios = [round(two / one, 2) for one, two in zip(costs[1], costs[2], strict=True)]
    print(json.dumps({"ratios_of_processor_time": ratios, "median": round(statistics.median(ratios), 2)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
