"""The imagefolder layout: what its metadata may say otherwise than it looks, and what of it is refused."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, imagefolder, picture, refusal, write


def test_a_label_in_both_unicode_forms_is_one(tmp_path):
    both = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    root = imagefolder(tmp_path, {"a.jpg": {"labels": [both[0]]}, "b.jpg": {"labels": [both[1], "dog"]}})
    check(load_dataset(root, "train"), [both[0], "dog"], ["a.jpg", "b.jpg"], [[1, 0], [1, 1]])


def test_a_0_or_1_for_each_label_is_not_read_as_numbers_of_labels(tmp_path):
    root = imagefolder(tmp_path, {"a.jpg": {"labels": [1, 0, 1]}, "b.jpg": {"labels": [0, 0, 1]}})
    write(root / "labels.txt", "cat", "dog", "sky")
    assert "line 1: labels [1, 0, 1] has the number 1 twice; expected the numbers of the labels" in refusal(
        root, "train"
    )


def test_names_in_one_text_are_refused_until_their_separator_is_given(tmp_path):
    rows = {"a.jpg": {"tags": "cat,dog"}, "b.jpg": {"tags": "dog"}, "c.jpg": {"tags": "cat"}, "d.jpg": {"tags": ""}}
    root = imagefolder(tmp_path, rows)
    assert "holds 'cat,dog', which commas would split into 'cat', 'dog'; give --separator ','" in refusal(root, "train")
    dataset = load_dataset(root, "train", separator=",")
    assert dataset.labels.names == ("cat", "dog")
    np.testing.assert_array_equal(dataset.targets, [[1, 1], [0, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize("key", ["split", "subset"])
def test_splits_within_one_file_are_never_read_as_train(tmp_path, key):
    rows = {"a.jpg": {"labels": ["cat", "dog"], key: "train"}, "b.jpg": {"labels": ["dog"], key: "test"}}
    said = refusal(imagefolder(tmp_path, rows, "."), "train")
    assert "names the splits test, train, and this file is the one split 'train'; put the pictures of each" in said
    for name, row in rows.items():  # a folder a split may say its own
        imagefolder(tmp_path / "apart", {name: row}, row[key])
    assert [len(load_dataset(tmp_path / "apart", split)) for split in ("train", "test")] == [1, 1]


def test_splits_within_a_csv_in_the_root_are_read_as_a_table(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(tmp_path / name)
    write(tmp_path / "metadata.csv", "file_name,labels,split", "a.jpg,cat,train", "b.jpg,dog,train", "c.jpg,cat,test")
    assert "--format csv reads metadata.csv as a table with a column for the split" in refusal(tmp_path, "train")
    check(load_dataset(tmp_path, "test", format="csv"), ["cat", "dog"], ["c.jpg"], [[1, 0]])


def test_two_files_that_name_the_labels_of_one_folder_are_refused(tmp_path):
    root = imagefolder(tmp_path, {"a.jpg": {"labels": ["cat"]}, "b.jpg": {"labels": []}})
    write(root / "train/metadata.csv", "file_name,labels", "a.jpg,dog")
    assert "train: both metadata.jsonl and metadata.csv name the labels of its pictures; keep one" in refusal(
        root, "train"
    )


def test_a_file_in_the_root_beside_those_of_the_splits_is_told(tmp_path):
    root = imagefolder(tmp_path, {"a.jpg": {"labels": ["cat"]}, "b.jpg": {"labels": []}})
    write(root / "metadata.jsonl", json.dumps({"file_name": "train/a.jpg", "labels": ["dog"]}))
    assert "metadata.jsonl in" in load_dataset(root, "train").notes[-1]
