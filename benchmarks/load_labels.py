"""How long a data set of 90,000 pictures with 80 labels takes to load, by this checkout and by another, in turns.

    python benchmarks/load_labels.py --other ../edgepress-before [--pictures 90000] [--turns 5]

Empty files stand for pictures: loading looks at names alone. Prints seconds of the processor, which other programs on
it change little, their ratio and the most memory.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
LOAD = """
import resource, sys, time
try:
    from edgepress.multilabel.datasets import load_dataset
except ImportError:  # before the package had one name
    from multilabel.datasets import load_dataset
started = time.process_time()
data = load_dataset(sys.argv[1], "train", format=sys.argv[2])
took = time.process_time() - started
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(data), int(data.targets.sum()))
"""


def write(root: Path, pictures: int) -> None:
    """The same labels as an imagefolder, as a table of columns and as a table of lists."""
    labels = [f"label{number:02d}" for number in range(80)]
    draw = random.Random(0)  # noqa: S311 # no secret
    rows = [(f"{number:06d}.jpg", sorted(draw.sample(range(80), 3))) for number in range(pictures)]
    for kind in ("imagefolder", "columns", "lists"):
        (root / kind / "train").mkdir(parents=True)
        for name, _ in rows:
            (root / kind / "train" / name).touch()
        (root / kind / "labels.txt").write_text("\n".join(labels) + "\n")
    with (root / "imagefolder" / "train" / "metadata.jsonl").open("w") as file:
        for name, columns in rows:
            file.write(json.dumps({"file_name": name, "labels": [labels[c] for c in columns]}) + "\n")
    with (root / "columns" / "train.csv").open("w") as file:
        file.write(",".join(["path", *labels]) + "\n")
        for name, columns in rows:
            file.write(",".join([name, *("1" if c in columns else "0" for c in range(80))]) + "\n")
    with (root / "lists" / "train.csv").open("w") as file:
        file.write("path,labels\n")
        for name, columns in rows:
            file.write(f"{name},{';'.join(labels[c] for c in columns)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, required=True, help="Another checkout.")
    parser.add_argument("--pictures", type=int, default=90_000)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, arguments.pictures)
        for kind, format in (("imagefolder", "imagefolder"), ("columns", "csv"), ("lists", "csv")):
            found: dict[Path, list[list[float]]] = {arguments.other: [], HERE: []}
            for _ in range(arguments.turns):
                for checkout, runs in found.items():
                    command = [sys.executable, "-c", LOAD, str(root / kind), format]
                    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
                    runs.append([float(word) for word in done.stdout.split()])
            before, now = found[arguments.other], found[HERE]
            assert before[0][2:] == now[0][2:], "both read the same"
            ratio = statistics.median(n[0] / b[0] for n, b in zip(now, before, strict=True))
            print(
                f"{kind}: {statistics.median(b[0] for b in before):.2f} s before, "
                f"{statistics.median(n[0] for n in now):.2f} s now, {ratio:.2f} times; most memory "
                f"{max(b[1] for b in before):.0f} MB before, {max(n[1] for n in now):.0f} MB now",
                flush=True,
            )


if __name__ == "__main__":
    main()
