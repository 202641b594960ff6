"""What the comparison of `verify` costs in this checkout against another one, in turns (A B B A) in one run.

    git worktree add /tmp/before COMMIT
    OMP_NUM_THREADS=1 python -m benchmarks.verify_cost --before /tmp/before > benchmarks/records/verify-cost-cpu.jsonl

Each turn is a process of its own that makes 5,000 pictures of 80 labels, answers by an INT8 engine's noise, and times
`compare` (everything that verify computes after the engine has answered) by the processor's clock. Prints the seconds
of every turn and the ratio of the two means.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

TURN = """
import dataclasses, json, sys, tempfile, time
from pathlib import Path
import numpy as np
import edgepress
from edgepress.deploy.engines.base import Ran
from edgepress.deploy.verify.verification import compare
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess

pictures, labels = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
names = tuple(f"label{column}" for column in range(labels))
targets = (rng.random((pictures, labels)) < 0.04).astype(np.uint8)
reference = (3.0 * targets - 3 + rng.normal(size=targets.shape)).astype(np.float32)
logits = reference + 0.15 * rng.normal(size=targets.shape).astype(np.float32)
nothing = np.zeros(targets.shape, bool)
paths = [Path(str(row)) for row in range(pictures)]
data = MultiLabelDataset(
    root=Path("made"), split="test", labels=LabelSpace(names), paths=paths, targets=targets, ignore=nothing
)
with tempfile.TemporaryDirectory() as folder:
    given = dict(labels=names, preprocess=Preprocess(size=32, mean=(0.5,) * 3, std=(0.5,) * 3))
    with write_bundle(Path(folder) / "b", kind="onnx", precision="int8", model="m", **given) as at:
        (at / "m").write_bytes(b"0")
    bundle = Bundle.open(Path(folder) / "b")
ran = Ran(runtime="r", version="1", provider="p", precision="int8")
same = dict(reference_name="r", reference_targets=targets, reference_ignore=nothing, budget=None, ran=ran)
started = time.process_time()
found = compare(bundle, logits, reference, data, **same)
print(json.dumps({"seconds": time.process_time() - started, "place": str(Path(edgepress.__file__).parents[1])}))
"""


def main() -> None:
    """Time both checkouts in turns and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="the other checkout")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=1, help="how often A B B A")
    options = parser.parse_args()
    places = {"before": options.before.resolve(), "now": Path.cwd()}
    seconds: dict[str, list[float]] = {name: [] for name in places}
    for name in ("before", "now", "now", "before") * options.rounds:
        command = [sys.executable, "-c", TURN, str(options.pictures), str(options.labels)]
        paths = {**os.environ, "PYTHONPATH": str(places[name]), "PYTHONSAFEPATH": "1"}
        made = subprocess.run(command, env=paths, cwd=places[name], capture_output=True, text=True, check=True)
        turn = json.loads(made.stdout)
        assert Path(turn["place"]) == places[name], "another checkout answered"
        seconds[name].append(round(turn["seconds"], 3))
    ratio = mean(seconds["now"]) / mean(seconds["before"])
    print(json.dumps({"pictures": options.pictures, "labels": options.labels, **seconds, "ratio": round(ratio, 3)}))


if __name__ == "__main__":
    main()
