"""How long a data set of 90,000 pictures with 80 labels takes to load, by this checkout and by another, in turns.

    git worktree add ../edgepress-before eaf2a36
    .venv/bin/python benchmarks/load_labels.py --other ../edgepress-before [--only voc] > record.jsonl

The same labels stand in every format that the other checkout reads too. A turn is other, this, this, other, each in a
process of its own. Empty files stand for pictures: loading looks at names alone. Times are of the processor, which
other programs change less than those of a clock. Prints JSON lines: first the conditions, then a line for each reader
with the seconds and the most MB of every process, and the ratios of this checkout to the other: of seconds the median
over turns, of memory that of the largest.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
LABELS = [f"label{number:02d}" for number in range(80)]
LOAD = """
import re, sys, time
from pathlib import Path
try:
    from edgepress.multilabel.datasets import load_dataset
except ImportError:  # before the package had one name
    from multilabel.datasets import load_dataset
started = time.process_time()
data = load_dataset(sys.argv[1], "train", format=sys.argv[2])
took = time.process_time() - started
most = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(took, most, len(data), int(data.targets.sum()))
"""

Rows = list[tuple[str, list[int]]]
"""The name of every picture, and the columns of its labels."""


def touched(folder: Path, rows: Rows) -> Path:
    folder.mkdir(parents=True)
    for name, _ in rows:
        (folder / name).touch()
    return folder


def named(root: Path) -> None:
    (root / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))


def imagefolder(root: Path, rows: Rows) -> None:
    touched(root / "train", rows)
    named(root)
    with (root / "train" / "metadata.jsonl").open("w") as file:
        for name, columns in rows:
            file.write(json.dumps({"file_name": name, "labels": [LABELS[c] for c in columns]}) + "\n")


def columns(root: Path, rows: Rows) -> None:
    touched(root / "train", rows)
    named(root)
    with (root / "train.csv").open("w") as file:
        file.write(",".join(["path", *LABELS]) + "\n")
        for name, own in rows:
            file.write(",".join([name, *("1" if c in own else "0" for c in range(80))]) + "\n")


def lists(root: Path, rows: Rows) -> None:
    touched(root / "train", rows)
    named(root)
    with (root / "train.csv").open("w") as file:
        file.write("path,labels\n")
        for name, own in rows:
            file.write(f"{name},{';'.join(LABELS[c] for c in own)}\n")


def folders(root: Path, rows: Rows) -> None:
    """One label a picture, because a file in three folders is three files."""
    for label in LABELS:
        (root / "train" / label).mkdir(parents=True)
    for name, own in rows:
        (root / "train" / LABELS[own[0]] / name).touch()


def voc(root: Path, rows: Rows) -> None:
    touched(root / "JPEGImages", rows)
    (root / "Annotations").mkdir()
    for name, own in rows:
        objects = "".join(
            f"<object><name>{LABELS[c]}</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
            "<ymax>9</ymax></bndbox></object>"
            for c in own
        )
        text = f"<annotation><filename>{name}</filename>{objects}</annotation>"
        (root / "Annotations" / f"{name[:-4]}.xml").write_text(text)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{name[:-4]}\n" for name, _ in rows))


def coco(root: Path, rows: Rows) -> None:
    touched(root / "train2017", rows)
    (root / "annotations").mkdir()
    images = [{"id": number, "file_name": name} for number, (name, _) in enumerate(rows)]
    categories = [{"id": number, "name": label} for number, label in enumerate(LABELS)]
    annotations = [
        {"id": 3 * number + place, "image_id": number, "category_id": c, "bbox": [1, 1, 8, 8],
         "segmentation": [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]}
        for number, (_, own) in enumerate(rows)
        for place, c in enumerate(own)
    ]  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))


def nuswide(root: Path, rows: Rows) -> None:
    touched(root / "Flickr", rows)
    for folder in ("ImageList", "ConceptsList", "TrainTestLabels"):
        (root / folder).mkdir()
    (root / "ConceptsList" / "Concepts81.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (root / "ImageList" / "TrainImagelist.txt").write_text("".join(f"{name}\n" for name, _ in rows))
    for column, label in enumerate(LABELS):
        values = "".join(f"{int(column in own)}\n" for _, own in rows)
        (root / "TrainTestLabels" / f"Labels_{label}_Train.txt").write_text(values)


def webdataset(root: Path, rows: Rows) -> None:
    root.mkdir()
    named(root)
    with tarfile.open(root / "train-000000.tar", "w") as tar:
        for name, own in rows:
            text = json.dumps({"labels": [LABELS[c] for c in own], "file_name": name}).encode()
            for member, data in ((name, b"x"), (f"{name[:-4]}.json", text)):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


KINDS: dict[str, tuple[str, Callable[[Path, Rows], None]]] = {
    "imagefolder": ("imagefolder", imagefolder),
    "csv, a column a label": ("csv", columns),
    "csv, lists": ("csv", lists),
    "folders": ("folders", folders),
    "voc": ("voc", voc),
    "coco": ("coco", coco),
    "nuswide": ("nuswide", nuswide),
    "webdataset": ("webdataset", webdataset),
}


def measured(other: Path, root: Path, format: str, turns: int) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {"before": [], "now": []}
    for _ in range(turns):
        for name in ("before", "now", "now", "before"):
            checkout = other if name == "before" else HERE
            command = [sys.executable, "-c", LOAD, str(root), format]
            done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
            found[name].append([float(word) for word in done.stdout.split()])
    read = {tuple(run[2:]) for runs in found.values() for run in runs}
    assert len(read) == 1, f"both read the same: {read}"
    return found


def line(kind: str, found: dict[str, list[list[float]]]) -> dict[str, object]:
    seconds = {name: [run[0] for run in runs] for name, runs in found.items()}
    memory = {name: [run[1] for run in runs] for name, runs in found.items()}
    pairs = [
        sum(seconds["now"][i : i + 2]) / sum(seconds["before"][i : i + 2]) for i in range(0, len(seconds["now"]), 2)
    ]
    return {
        "reader": kind,
        "seconds": {name: [round(one, 3) for one in values] for name, values in seconds.items()},
        "most_mb": {name: [round(one, 1) for one in values] for name, values in memory.items()},
        "seconds_ratio": round(statistics.median(pairs), 3),
        "most_mb_ratio": round(max(memory["now"]) / max(memory["before"]), 3),
    }


def commit(checkout: Path) -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, required=True, help="Another checkout.")
    parser.add_argument("--pictures", type=int, default=90_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", choices=list(KINDS), help="One reader alone.")
    arguments = parser.parse_args()
    draw = random.Random(0)  # noqa: S311 # no secret
    rows = [(f"{number:06d}.jpg", sorted(draw.sample(range(80), 3))) for number in range(arguments.pictures)]
    conditions = {
        "before": commit(arguments.other), "now": commit(HERE), "pictures": arguments.pictures, "labels": len(LABELS),
        "turns": arguments.turns, "python": platform.python_version(), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    print(json.dumps(conditions), flush=True)
    for kind, (format, write) in KINDS.items():
        if arguments.only in (None, kind):
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder) / "data", rows)
                print(json.dumps(line(kind, measured(arguments.other, Path(folder) / "data", format, arguments.turns))),
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
