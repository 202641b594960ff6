"""metadata.parquet beside the pictures: the same rows as metadata.jsonl, as pyarrow and pandas write them."""

from __future__ import annotations

import sys

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

ROWS = {"file_name": ["b.jpg", "more/a.jpg", "c.jpg"], "labels": [["sky", "boat"], [], ["dock"]]}
NAMES = ["b.jpg", "a.jpg", "c.jpg"]


def pyarrow():
    return pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow: pip install 'edgepress[parquet]'")


def export(folder, **columns) -> None:
    pyarrow()
    from pyarrow import parquet, table

    for shade, name in enumerate(ROWS["file_name"]):
        picture(folder / name, shade)
    parquet.write_table(table(columns), folder / "metadata.parquet")


def test_lists_of_names_and_what_is_unknown(tmp_path):
    export(tmp_path / "train", **ROWS, ignore=[[], ["dock"], None])
    export(tmp_path / "test", file_name=["c.jpg"], labels=[["crane"]])
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("imagefolder", ["test", "train"])
    targets = [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]
    unknown = [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    check(load_dataset(tmp_path, "train"), ["boat", "crane", "dock", "sky"], NAMES, targets, unknown)


def test_numbers_in_the_root_with_the_names_of_labels_txt(tmp_path):
    export(tmp_path, file_name=ROWS["file_name"], labels=[[2, 0], [], [1]])
    said = "line 1: label 2 is a number, and nothing says its name; expected labels.txt"
    assert said in refusal(tmp_path, "train")
    write(tmp_path / "labels.txt", "boat", "dock", "sky")
    check(load_dataset(tmp_path, "train"), ["boat", "dock", "sky"], NAMES, [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_a_file_that_is_not_parquet(tmp_path):
    export(tmp_path / "train", **ROWS)
    write(tmp_path / "train" / "metadata.parquet", "file_name,labels")
    assert "metadata.parquet: not Parquet" in refusal(tmp_path, "train")


def test_without_pyarrow_the_message_names_the_extra(tmp_path, monkeypatch):
    picture(tmp_path / "train" / "a.jpg")
    (tmp_path / "train" / "metadata.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refusal(tmp_path, "train").endswith("Parquet is read by pyarrow: pip install 'edgepress[parquet]'")
