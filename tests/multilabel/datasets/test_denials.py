"""Columns and keys beside the labels: which may deny them, which do not, and what is said to do."""

from __future__ import annotations

import json
import shlex

import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.datasets.denials import denied_in_json
from tests.multilabel.layouts import check, picture, refusal, write, write_csv

TARGETS = [[1, 0], [0, 1], [1, 1]]
ROWS = ("a.jpg,cat", "b.jpg,dog", "c.jpg,cat;dog")


def table(root, column: str, *cells: str):
    rows = (f"{row},{cell}" for row, cell in zip(ROWS, cells, strict=True))
    return write_csv(root, f"image,labels,{column}", *rows)


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("No", ("A1", "A2", "A3")),
        ("missing", ("a wheel", "", "paint")),
        ("difficult", ("easy", "hard", "easy")),
        ("hard", ("very", "", "a little")),
        ("false", ("alarm", "", "")),
    ],
)
def test_words_that_also_name_a_property_deny_nothing(tmp_path, column, cells):
    data = load_dataset(table(tmp_path, column, *cells))
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], TARGETS)
    assert f"test.csv: columns that are no labels left out: {column}" in data.notes


@pytest.mark.parametrize("column", ["no", "not", "without", "missing", "difficult", "hard"])
@pytest.mark.parametrize("cell", ["dog", "cow;dog", '"[""dog""]"'])
def test_the_same_words_may_deny_where_they_list_labels(tmp_path, column, cell):
    said = refusal(root := table(tmp_path, column, cell, "", ""))
    assert f"column {column!r} may list labels that a picture does not have" in said
    check(load_dataset(root, label_columns="labels"), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], TARGETS)


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("polarity", ("positive", "negative", "positive")),
        ("review", ("accepted", "rejected", "")),
        ("status", ("Rejected", "Accepted", "accepted")),
        ("ground_truth", ("1", "0", "1")),
        ("is_there", ("True", "True", "False")),
        ("annotated", ("1", "1", "0")),
    ],
)
def test_answers_of_both_kinds_beside_a_label_are_refused_where_no_picture_repeats(tmp_path, column, cells):
    said = refusal(root := table(tmp_path, column, *cells))
    assert f"column {column!r} holds " in said
    assert "may say whether a picture has the label in 'labels'" in said
    check(load_dataset(root, label_columns="labels"), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], TARGETS)


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("review", ("done", "open", "done")),
        ("sentiment", ("positive", "negative", "negative")),
        ("er_status", ("positive", "negative", "negative")),
        ("indoor", ("1", "0", "1")),
    ],
)
def test_other_words_beside_a_label_are_left_out_with_a_line(tmp_path, column, cells):
    data = load_dataset(table(tmp_path, column, *cells))
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], TARGETS)
    assert f"test.csv: columns that are no labels left out: {column}" in data.notes


def test_answers_in_the_column_of_labels_are_asked_about_where_another_may_name_these(tmp_path):
    rows = ["a.jpg,cat,positive", "b.jpg,cat,negative", "c.jpg,dog,positive"]
    said = refusal(root := write_csv(tmp_path, "image,attribute,label", *rows))
    assert (
        "column 'label' holds words for yes and no alone, which may be answers about the labels in 'attribute'" in said
    )
    names = ["a.jpg", "b.jpg", "c.jpg"]
    check(load_dataset(root, label_columns="label"), ["negative", "positive"], names, [[0, 1], [1, 0], [0, 1]])
    check(load_dataset(root, label_columns="attribute"), ["cat", "dog"], names, [[1, 0], [1, 0], [0, 1]])


@pytest.mark.parametrize("beside", ["age", "view", "date", "source"])
def test_positive_and_negative_beside_what_names_no_labels_are_labels(tmp_path, beside):
    cells = {"age": "50.0", "view": "frontal", "date": "2020-03-01", "source": "clinic"}[beside]
    rows = (
        f"{name}.jpg,{cells},{answer}" for name, answer in zip("abc", ("positive", "negative", "positive"), strict=True)
    )
    root = write_csv(tmp_path, f"image,{beside},label", *rows)
    wanted = [[0, 1], [1, 0], [0, 1]]
    check(load_dataset(root), ["negative", "positive"], ["a.jpg", "b.jpg", "c.jpg"], wanted)


def test_a_label_of_labels_txt_alone_is_one_as_well(tmp_path):
    root = table(tmp_path, "missing", "cow", "", "")
    assert load_dataset(root).labels.names == ("cat", "dog")
    write(root / "labels.txt", "cat", "dog", "cow")
    assert "column 'missing' may list labels that a picture does not have" in refusal(root)


@pytest.mark.parametrize(
    ("key", "value", "denies"),
    [
        ("label_status", "Rejected", True),
        ("polarity", "positive", False),
        ("sentiment", "negative", False),
        ("test_result", "negative", False),
        ("annotated", False, True),
        ("annotated", True, False),
        ("difficult", [0, 0], False),
        ("difficult", 1, False),
        ("no", 17, False),
        ("no", "17-b", False),
        ("missing", "a wheel", False),
        ("ignored", [0, 0], False),
        ("ignored", [False], False),
        ("ignored", False, False),
        ("unknown", [0, 0, 0], False),
        ("unknown", [0], True),  # the number of a label
        ("absent", [2, 0], True),
        ("negative", [0, 1, 1], True),
        ("ignored", [False, True], True),
        ("missing", ["cow"], True),
        ("difficult", ["cow"], True),
        ("negative", "cow", True),
        ("no_labels", "cow", True),
    ],
)
def test_a_key_in_json_denies_only_where_it_may_list_labels(key, value, denies):
    assert denied_in_json(key, value) is denies


def test_of_known_labels_only_these_are_denied():
    assert not denied_in_json("missing", ["a wheel"], ("cat", "dog"))
    assert denied_in_json("missing", ["a wheel", "dog"], ("cat", "dog"))
    assert denied_in_json("missing", "dog", ("cat", "dog"))
    assert denied_in_json("not", "cow, dog", ("cat", "dog"))


def test_keys_beside_labels_that_say_nothing_of_them_are_told(tmp_path):
    picture(tmp_path / "train" / "a.jpg")
    picture(tmp_path / "train" / "b.jpg", 1)
    more = {"difficult": [0, 0], "no": 3, "missing": "a wheel"}
    rows = [{"file_name": "a.jpg", "labels": ["cat", "dog"], **more}, {"file_name": "b.jpg", "labels": ["dog"]}]
    write(tmp_path / "train" / "metadata.jsonl", *map(json.dumps, rows))
    data = load_dataset(tmp_path, "train")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 1], [0, 1]])
    assert data.notes == ("metadata.jsonl: keys that are no labels left out: difficult, no, missing",)


def test_all_further_columns_of_labels_are_in_one_option_that_works(tmp_path):
    rows = ("a.jpg,cat/dog,,", "b.jpg,dog,cat,", 'c.jpg,cat,,"dog"')
    root = write_csv(tmp_path, "image,label,label 2,label 3", *rows)
    said = refusal(root)
    assert "columns 'label 2', 'label 3' may list labels as well as 'label'; " in said
    together, alone = (shlex.split(part) for part in said.partition("; ")[2].split(", and "))
    assert together[:4] == ["--label-columns", "label,label 2,label 3", "--separator", "/"]
    assert alone[:4] == ["--label-columns", "label", "--separator", "/"]
    names = ["a.jpg", "b.jpg", "c.jpg"]
    check(load_dataset(root, label_columns=together[1], separator="/"), ["cat", "dog"], names, [[1, 1], [1, 1], [1, 1]])
    check(load_dataset(root, label_columns=alone[1], separator="/"), ["cat", "dog"], names, [[1, 1], [0, 1], [1, 0]])
