"""Data sets that several tests of shards read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.multilabel.tars", "tests.multilabel.layouts")


@pytest.fixture
def source(tmp_path) -> Path:
    """An imagefolder data set: ten pictures in every format in `train`, in no order of the alphabet; two in `test`."""
    from tests.multilabel.tars import LABELS, NAMES, encoded

    root = tmp_path / "source"
    root.mkdir()
    (root / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    suffixes = {"wrong.png": ".jpg", "none": ".png", "f.GIF": ".gif"}
    for split, names in (("train", NAMES), ("test", ("b.jpg", "q.png"))):
        lines = []
        for number, name in enumerate(names):
            file = root / split / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(number + 100 * (split == "test"), suffixes.get(name, file.suffix)))
            row = {"file_name": name, "labels": [label for i, label in enumerate(LABELS) if number >> i & 1]}
            if number % 3 == 0:
                row["ignore"] = [label for label in LABELS if label not in row["labels"]][:1]
            lines.append(json.dumps(row))
        (root / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def out(source, tmp_path) -> Path:
    from tests.multilabel.tars import shard

    return shard(source, tmp_path / "out")


@pytest.fixture
def foreign(tmp_path) -> Path:
    root = tmp_path / "foreign"
    root.mkdir()
    (root / "labels.txt").write_text("dog\ncat\nsky\n")
    return root
