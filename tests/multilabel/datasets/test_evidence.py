"""Tables that have a row for each picture and label, with or without an outline, a box or a number of objects."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, refusal, write_csv

FILLED = {
    "segmentation": ("28094 3 28358 7", ""),
    "EncodedPixels": ("1 5", "nan"),
    "rle": ("1 5", '"[]"'),
    "mask_path": ("m/1.png", ""),
    "bbox": ('"[1, 2, 3, 4]"', ""),
    "x_min": ("3", ""),
    "x1": ("17", ""),
    "num_objects": ("2", "0"),
    "area": ("31.5", "0.0"),
    "yes_votes": ("3", "0"),
}


@pytest.mark.parametrize("column", FILLED)
def test_a_label_that_has_a_trace_in_some_rows_alone_is_refused_until_it_is_named(tmp_path, column):
    there, nothing = FILLED[column]
    rows = [f"a.jpg,cat,{there}", f"b.jpg,cat,{nothing}", f"a.jpg,dog,{nothing}", f"b.jpg,dog,{there}"]
    root = write_csv(tmp_path, f"id,class,{column}", *rows, split="train")
    said = refusal(root, "train")
    assert f"column {column!r} holds something in some rows of 'class' 'cat' and nothing in others" in said
    assert "--label-columns class takes every row for a yes; otherwise empty the label's cell" in said
    data = load_dataset(root, "train", label_columns="class")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 1], [1, 1]])
    rows[1:3] = [f"b.jpg,,{nothing}", f"a.jpg,,{nothing}"]
    write_csv(root, f"id,class,{column}", *rows, split="train")
    check(load_dataset(root, "train"), ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])


def test_a_row_far_below_the_rows_that_say_what_columns_are_is_looked_at(tmp_path):
    rows = [f"{name}.jpg,cat,1 5" for name in ("a", "b") for _ in range(600)]
    root = write_csv(tmp_path, "id,class,rle", *rows, "a.jpg,cat,", split="train")
    assert "column 'rle' holds something in some rows of 'class' 'cat'" in refusal(root, "train")


def test_a_label_that_never_has_a_box_is_a_label(tmp_path):
    """As in the table of VinBigData, where `No finding` has no box."""
    rows = ["a.jpg,cat,1,2", "b.jpg,nothing here,,", "c.jpg,dog,5,0"]
    root = write_csv(tmp_path, "image_id,class_name,x_min,y_min", *rows, split="train")
    wanted = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    check(load_dataset(root, "train"), ["cat", "dog", "nothing here"], ["a.jpg", "b.jpg", "c.jpg"], wanted)


@pytest.mark.parametrize(
    ("column", "cells"),
    [("area", ("north", "", "south")), ("points", ("3", "", "7")), ("coordinates", ("1.5 2.5", "", "3 4"))],
)
def test_columns_of_something_else_with_such_a_name_are_left_out(tmp_path, column, cells):
    rows = [f"{name}.jpg,cat,{cell}" for name, cell in zip("aba", cells, strict=True)]
    root = write_csv(tmp_path, f"image,label,{column}", *rows, "c.jpg,dog,", split="train")
    assert load_dataset(root, "train").targets.sum() == 3


def test_a_mask_of_some_pictures_alone_denies_nothing_where_no_picture_repeats(tmp_path):
    root = write_csv(tmp_path, "image,label,mask", "a.jpg,cat,m/a.png", "b.jpg,cat,", "c.jpg,dog,", split="train")
    check(load_dataset(root, "train"), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [1, 0], [0, 1]])


def test_a_place_at_0_is_a_place(tmp_path):
    root = write_csv(tmp_path, "image,label,x_min", "a.jpg,cat,0", "b.jpg,cat,7", "c.jpg,dog,5", split="train")
    check(load_dataset(root, "train"), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [1, 0], [0, 1]])
