"""Roboflow's export "Multi-Label Classification": a folder a split, each with _classes.csv beside its pictures."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

A, B, C = (f"{name}_jpg.rf.{number * 32}.jpg" for name, number in (("a", "0"), ("b", "1"), ("c", "2")))


@pytest.fixture
def root(tmp_path):
    """A space follows every comma, and notes lie beside the splits, as in the export."""
    write(tmp_path / "README.roboflow.txt", "harbour - v1", "The dataset includes 3 images.")
    write(tmp_path / "README.dataset.txt", "# harbour > 2026-11-29", "Provided by a Roboflow user")
    for split, rows in {"train": [f"{B}, 1, 0, 1", f"{A}, 0, 0, 0"], "valid": [f"{C}, 0, 1, 0"]}.items():
        write(tmp_path / split / "_classes.csv", "filename, boat, dock, crane", *rows)
        for row in rows:
            picture(tmp_path / split / row.split(",")[0], ord(row[0]))
    return tmp_path


def test_a_table_a_split(root):
    assert (detect_format(root), list_splits(root)) == ("roboflow", ["train", "valid"])
    labels = ["boat", "dock", "crane"]
    check(load_dataset(root, "train"), labels, [B, A], [[1, 0, 1], [0, 0, 0]])
    check(load_dataset(root, "valid"), labels, [C], [[0, 1, 0]])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"{A}, 1, 2, 0", "_classes.csv, line 2: label 'dock' is '2'; expected 1, 0"),
        ("gone.jpg, 1, 0, 0", "gone.jpg: no such file"),
    ],
)
def test_what_a_table_is_refused_for(root, row, said):
    write(root / "train" / "_classes.csv", "filename, boat, dock, crane", row)
    assert said in refusal(root, "train")


def test_a_split_that_is_not_there(root):
    assert refusal(root, "test").endswith("splits here: train, valid")
