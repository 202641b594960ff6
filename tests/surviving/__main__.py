"""python -m tests.surviving [--kills 100] [--full-disks 10] [--seed 0]: does a run survive what befalls it?

The smallest run (`tests/micro.yaml`) is killed (SIGKILL) at random moments, and started again with the same command; a
run that finished must be the undisturbed one, and the next begins in an empty folder, until there were so many kills.
Then its disk is full at ten sizes of file (RLIMIT_FSIZE stands for the disk). After every fault each bundle must be
whole or absent and report.json whole or absent. Prints one JSON object; exit code 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from edgepress.deploy.machine.device import describe_machine
from edgepress.multilabel.bundle import MANIFEST, Bundle, file_sha256
from edgepress.multilabel.errors import InputError
from tests.conftest import write_tiny_data

_MICRO = Path(__file__).parents[1] / "micro.yaml"


class Run:
    """One command on one folder, started as often as it takes."""

    def __init__(self, folder: Path) -> None:
        self.out, self.recipe = folder / "run", folder / "recipe.yaml"
        data = write_tiny_data(folder / "data")
        settings = yaml.safe_load(_MICRO.read_text()) | {"data": str(data), "out": str(self.out)}
        self.recipe.write_text(yaml.safe_dump(settings))

    def start(self, file_bytes: int | None = None) -> subprocess.Popen[str]:
        """The command, in a process group of its own; with a bound on the size of any file that it writes."""

        def bound() -> None:
            if file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        return subprocess.Popen(
            [sys.executable, "-B", "-m", "edgepress", "--quiet", "run", "--recipe", str(self.recipe)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=bound,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def corrupt(self) -> list[str]:
        """What is neither whole nor absent."""
        found = []
        for manifest in sorted(self.out.glob(f"[!.]*/{MANIFEST}")):
            try:
                Bundle.open(manifest.parent)
            except InputError as error:
                found.append(str(error))
        report = self.out / "report.json"
        if report.exists():
            try:
                json.loads(report.read_text())
            except ValueError as error:
                found.append(f"{report}: {error}")
        return found

    def result(self) -> dict[str, Any]:
        """What must be the same whatever befell the run: weights, mAPs, verdicts without what depends on time."""
        report = json.loads((self.out / "report.json").read_text())
        rows = {
            row["engine"]: [
                row.get("mAP"),
                row.get("flip_rate"),
                sorted(reason for reason in row.get("reasons", []) if not reason.startswith("slower than")),
            ]
            for row in report["engines"]
        }
        weights = {name: file_sha256(Bundle.open(self.out / name).model_path) for name in ("teacher", "student")}
        left = [path.name for path in self.out.parent.rglob(".*")]
        return {"weights": weights, "rows": rows, "complete": report["verdict"] != "incomplete", "left": left}


def main() -> None:
    """Run, kill, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--full-disks", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgepress-surviving-") as name:
        run = Run(Path(name))
        started = time.monotonic()
        process = run.start()
        error = process.communicate()[1]
        took = time.monotonic() - started
        if process.returncode not in (0, 1):
            raise SystemExit(f"the undisturbed run failed: {error}")
        expected = run.result()
        sizes = sorted({path.stat().st_size for path in run.out.rglob("*") if path.is_file()})
        record: dict[str, Any] = {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": asdict(describe_machine()),
            "undisturbed_seconds": took,
            "kills": killed(run, options.kills, took, expected, random.Random(options.seed)),
            "full_disks": full_disks(run, options.full_disks, sizes, expected),
        }
    print(json.dumps(record, indent=2))
    sys.exit(bool(record["kills"]["wrong"] or record["full_disks"]["wrong"]))


def killed(run: Run, kills: int, took: float, expected: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Kill and start again; how many were killed, how many finished after, and what was wrong."""
    done, finished, wrong = 0, 0, []
    shutil.rmtree(run.out)
    while True:
        process = run.start()
        try:
            error = process.communicate(timeout=rng.uniform(0, took) if done < kills else None)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            done += 1
            wrong += run.corrupt()
            continue
        finished += 1
        wrong += run.corrupt()
        if process.returncode not in (0, 1):
            wrong.append(f"exit code {process.returncode}: {error}")
        elif (result := run.result()) != expected:
            wrong.append(f"not the undisturbed run: {result} for {expected}")
        print(f"{done} kills, {finished} runs finished, {len(wrong)} wrong", file=sys.stderr, flush=True)
        shutil.rmtree(run.out, ignore_errors=True)
        if done >= kills:
            return {"kills": done, "finished_after": finished, "wrong": wrong}


def full_disks(run: Run, count: int, sizes: list[int], expected: dict[str, Any]) -> dict[str, Any]:
    """Bound the size of files just below `count` sizes that the run writes, spread over all of them."""
    wrong, codes = [], []
    places = [sizes[round(place * (len(sizes) - 1) / max(count - 1, 1))] - 1 for place in range(count)]
    for place in places:
        shutil.rmtree(run.out, ignore_errors=True)
        process = run.start(max(place, 1))
        error = process.communicate()[1]
        codes.append(process.returncode)
        wrong += run.corrupt()
        said = error.splitlines()
        if process.returncode != 2 or "Traceback" in error or not (said and said[-1].startswith("edgepress: ")):
            wrong.append(f"files of at most {place} bytes: exit code {process.returncode}: {error[-1000:]}")
        again = run.start()
        error = again.communicate()[1]
        if again.returncode not in (0, 1):
            wrong.append(f"after files of at most {place} bytes: exit code {again.returncode}: {error[-1000:]}")
        elif (result := run.result()) != expected:
            wrong.append(f"after files of at most {place} bytes: {result} for {expected}")
        print(f"files of at most {place} bytes: {process.returncode}, {len(wrong)} wrong", file=sys.stderr, flush=True)
    return {"bytes": places, "exit_codes": codes, "wrong": wrong}


if __name__ == "__main__":
    main()
