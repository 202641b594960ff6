"""A data set of which a quarter of the training pictures keep their labels, to see what unlabelled pictures bring.

    .venv/bin/python benchmarks/quarter.py DATA OUT

Reads an imagefolder data set with the splits train, val and test, and writes OUT/data (train: every fourth picture of
a seeded order, with its labels; val and test as they are) and OUT/unlabelled (the other training pictures).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.pictures import read_bytes


def main() -> None:
    """Write both folders and print how many pictures each holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train = load_dataset(options.data, "train", format="imagefolder")
    order = np.random.default_rng(options.seed).permutation(len(train))
    kept, others = np.sort(order[: len(order) // 4]), np.sort(order[len(order) // 4 :])
    write(train.subset(kept), options.out / "data")
    for split in ("val", "test"):
        write(load_dataset(options.data, split, format="imagefolder"), options.out / "data")
    (options.out / "unlabelled").mkdir(parents=True)
    for index in others:
        path = train.paths[index]
        (options.out / "unlabelled" / f"{index:05d}-{path.name}").write_bytes(read_bytes(path))
    print(json.dumps({"labelled": len(kept), "unlabelled": len(others)}))


def write(data: MultiLabelDataset, root: Path) -> None:
    """One split as pictures and metadata.jsonl; labels.txt beside it."""
    folder = root / data.split
    folder.mkdir(parents=True)
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in data.labels.names))
    with (folder / "metadata.jsonl").open("w") as file:
        for number, (path, row, hidden) in enumerate(zip(data.paths, data.targets == 1, data.ignore, strict=True)):
            name = f"{number:05d}-{path.name}"
            (folder / name).write_bytes(read_bytes(path))
            item: dict[str, object] = {"file_name": name}
            for key, cells in (("labels", row & ~hidden), ("ignore", hidden)):
                item[key] = [data.labels.names[i] for i in np.flatnonzero(cells)]
            file.write(json.dumps(item) + "\n")


if __name__ == "__main__":
    main()
