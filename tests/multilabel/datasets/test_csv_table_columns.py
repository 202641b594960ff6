"""Tables: which columns are labels, the split, or may deny a label, and what is refused until it is told."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write, write_csv


@pytest.mark.parametrize("column", ["annotated", "is_annotated", "verified", "ground_truth"])
def test_a_column_about_the_work_is_no_label_by_itself(tmp_path, column):
    root = write_csv(tmp_path, f"path,cat,dog,{column}", "a.jpg,1,0,1", "b.jpg,0,1,0", split="table")
    assert f"column {column!r}" in refusal(root, "table")
    assert load_dataset(root, "table", label_columns=("cat", "dog")).labels.names == ("cat", "dog")


@pytest.mark.parametrize("column", ["is_valid", "evaluation", "fold", "patient_id", "PatientId", "split", "usage"])
def test_a_column_of_yes_and_no_that_is_named_like_no_label_is_refused_until_chosen(tmp_path, column):
    root = write_csv(tmp_path, f"path,cat,{column}", "a.jpg,1,0", "b.jpg,0,1", "c.jpg,1,0", split="table")
    message = refusal(root, "table")
    assert f"column {column!r}" in message
    assert f"--split-column '{column}'" in message
    assert "--label-columns 'cat'" in message
    chosen = {"split_column": column}
    assert list_splits(root, **chosen) == sorted([column, f"not {column}"])
    assert [path.name for path in load_dataset(root, column, **chosen).paths] == ["b.jpg"]
    assert load_dataset(root, "table", label_columns=("cat",)).labels.names == ("cat",)
    both = load_dataset(root, "table", label_columns=("cat", column))
    np.testing.assert_array_equal(both.targets, [[1, 0], [0, 1], [1, 0]])


def test_a_split_that_is_written_down_is_used(tmp_path):
    root = write_csv(tmp_path, "path,cat,where", "a.jpg,1,train", "b.jpg,0,val", "c.jpg,0,train", split="labels")
    assert list_splits(root) == ["train", "val"]
    check(load_dataset(root, "train"), ["cat"], ["a.jpg", "c.jpg"], [[1], [0]])
    assert refusal(root, "test").endswith("splits here: train, val")


def test_what_is_beside_labels_is_left_out_where_it_is_said(tmp_path):
    root = write_csv(
        tmp_path, ",Path,Sex,No Finding", "0,set/a.jpg,Male,1.0", "1,set/b.jpg,Female,", "2,set/c.jpg,Male,0"
    )
    assert "label 'Sex' is 'Male'" in (message := refusal(root))
    assert "if the labels are 'No Finding' alone: --label-columns 'No Finding'" in message
    read = load_dataset(root, label_columns="No Finding")
    check(read, ["No Finding"], ["a.jpg", "b.jpg", "c.jpg"], [[1], [0], [0]], [[0], [1], [0]])
    assert read.notes == (
        "test.csv: column 1 without a name left out",
        "3 names were read without their leading 'set', which is no folder here",
        "test.csv: columns that are no labels left out: Sex",
    )
    assert "no column 'Findings', which --label-columns names" in refusal(root, label_columns="Findings")
    assert "no column 'photo', which --picture-column names" in refusal(root, picture_column="photo", format="csv")


@pytest.mark.parametrize(("column", "cell"), [("present", "0"), ("Confidence", "0.1"), ("is_positive", "no")])
def test_a_column_that_may_deny_a_rows_label_is_refused_until_told(tmp_path, column, cell):
    root = write_csv(tmp_path, f"path,label,{column}", "a.jpg,cat,1", f"a.jpg,dog,{cell}", "b.jpg,dog,1")
    said = refusal(root)
    assert f"column {column!r} holds {cell!r}, and may say whether a picture has the label in 'label'" in said
    assert "--label-columns label takes every row for a yes" in said
    check(load_dataset(root, label_columns="label"), ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 1], [0, 1]])
    write_csv(tmp_path, f"path,label,{column}", "a.jpg,cat,1", "b.jpg,dog,1")  # what is always yes denies nothing
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])


def test_splits_that_differ_in_case_alone_are_refused(tmp_path):
    write_csv(tmp_path, "path,cat,split", "a.jpg,1,Train", "b.jpg,0,train", "c.jpg,1,val", split="all")
    assert "the column 'split' names the splits Train and train, which differ in case alone" in refusal(tmp_path)


def test_columns_that_name_the_same_pictures_are_one(tmp_path):
    root = write_csv(tmp_path, "image_id,image_path,cat", "a,a.jpg,1", "b,b.jpg,0")
    data = load_dataset(root)
    check(data, ["cat"], ["a.jpg", "b.jpg"], [[1], [0]])
    assert data.notes == ("test.csv: columns that are no labels left out: image_path",)


def test_several_columns_may_each_name_a_label(tmp_path):
    root = write_csv(tmp_path, "file,label1,label2,label3", "a.jpg,boat,dock,", "b.jpg,dock,,", "c.jpg,,,")
    assert "if 'label1', 'label2' and 1 more do: --label-columns 'label1,label2,label3'" in refusal(root)
    data = load_dataset(root, label_columns="label1,label2,label3")
    check(data, ["boat", "dock"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [0, 1], [0, 0]])
    assert [str(value) for value in data.values] == ["empty: 1 cell, taken for no"]


@pytest.mark.parametrize("column", ["is_valid", "test", "subset"])
def test_a_column_of_yes_and_no_beside_a_list_may_be_the_split(tmp_path, column):
    root = write_csv(tmp_path, f"fname,labels,{column}", "a.jpg,cat;dog,True", "b.jpg,cat,False")
    message = refusal(root)
    assert f"column {column!r} holds yes and no, and is named like no label; --split-column {column!r}" in message
    assert set(list_splits(root, split_column=column)) == {column, f"not {column}"}
    assert load_dataset(root, label_columns="labels").notes == (
        f"test.csv: columns that are no labels left out: {column}",
    )


def test_a_split_column_with_an_empty_cell_is_refused(tmp_path):
    root = write_csv(tmp_path, "path,labels,split", "a.jpg,cat;dog,train", "b.jpg,cat,")
    assert "test.csv, line 3: the split column is empty" in refusal(root, "train")


@pytest.mark.parametrize("name", ["usage", "ml_use", "data_split", "Subset"])
def test_other_names_of_a_split_column(tmp_path, name):
    root = write_csv(
        tmp_path, f"path,cat,dog,{name}", "a.jpg,1,0,Training", "b.jpg,0,1,PublicTest", "c.jpg,1,1,Training"
    )
    assert list_splits(root) == ["PublicTest", "Training"]
    check(load_dataset(root, "Training"), ["cat", "dog"], ["a.jpg", "c.jpg"], [[1, 0], [1, 1]])


@pytest.mark.parametrize(
    "column",
    ["width", "iscrowd", "difficult", "score", "total", "has_labels", "reviewed", "cat_pred", "a_conf", "sex"],
)
def test_a_column_that_says_nothing_of_the_content_is_no_label(tmp_path, column):
    root = write_csv(tmp_path, f"path,cat,{column}", "a.jpg,1,0", "b.jpg,0,1")
    assert f"column {column!r} holds yes and no, and is named like no label" in refusal(root)
    check(load_dataset(root, label_columns=f"cat,{column}"), ["cat", column], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])


def test_advice_never_makes_a_label_of_what_is_named_like_none(tmp_path):
    root = write_csv(tmp_path, "path,cat,reviewed,cat_pred", "a.jpg,1,1,0", "b.jpg,0,1,1", "c.jpg,1,0,0")
    assert "--label-columns 'cat' leaves it (and cat_pred) out" in refusal(root)


@pytest.mark.parametrize(
    ("column", "yes", "no"),
    [
        ("is_true", "1", "0"),
        ("exclude", "0", "1"),
        ("agree", "yes", "no"),
        ("type", "positive", "negative"),
        ("seen", "+", "-"),
    ],
)
def test_a_column_of_answers_beside_a_row_for_each_label_may_deny_it(tmp_path, column, yes, no):
    rows = ["a.jpg,cat", "a.jpg,dog", "b.jpg,cat", "c.jpg,dog"]
    root = write_csv(tmp_path, f"image,label,{column}", *(f"{row},{no if row == 'a.jpg,dog' else yes}" for row in rows))
    assert f"column {column!r} holds {no!r}, and may say whether a picture has the label in 'label'" in refusal(root)
    data = load_dataset(root, label_columns="label")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])
    root = write_csv(tmp_path, f"image,label,{column}", *(f"{row},{yes}" for row in rows))
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])


def test_a_denial_far_below_the_rows_that_say_what_columns_are(tmp_path):
    rows = [f"{name}.jpg,{label},1" for _ in range(400) for name, label in (("a", "cat"), ("b", "dog"), ("c", "cat"))]
    root = write_csv(tmp_path, "image,label,present", *rows, "b.jpg,cat,0")
    assert "column 'present' holds '0', and may say whether a picture has the label" in refusal(root)


def test_a_row_number_beside_a_label_denies_nothing(tmp_path):
    root = write_csv(tmp_path, "No,image,label", "0,a.jpg,cat", "1,a.jpg,dog", "2,b.jpg,cat", "3,c.jpg,dog")
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])


@pytest.mark.parametrize("column", ["negative_labels", "labels_neg", "unsure", "ignore", "no_tags"])
def test_a_second_list_may_be_of_labels_that_are_absent(tmp_path, column):
    root = write_csv(tmp_path, f"image,labels,{column}", "a.jpg,cat,dog", "b.jpg,dog,cat", "c.jpg,cat;dog,")
    assert f"column {column!r} may list labels that a picture does not have, or that nobody knows" in refusal(root)
    data = load_dataset(root, label_columns="labels")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize("column", ["difficult", "iscrowd", "IsOccluded", "is_truncated", "IsGroupOf"])
def test_properties_of_boxes_and_numbers_beside_a_label_deny_nothing(tmp_path, column):
    rows = ["a.jpg,cat,0", "a.jpg,dog,1", "b.jpg,cat,0", "c.jpg,dog,1"]
    data = load_dataset(write_csv(tmp_path, f"image,label,{column}", *rows))
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])
    assert f"test.csv: columns that are no labels left out: {column}" in data.notes


def test_yes_and_no_name_no_pictures_though_they_are_called_0_and_1(tmp_path):
    for shade in range(3):
        picture(tmp_path / "images" / f"{shade}.png", shade)
    write(tmp_path / "test.csv", "ID,cat,dog", "0,1,0", "1,0,0", "2,1,1")
    check(load_dataset(tmp_path), ["cat", "dog"], ["0.png", "1.png", "2.png"], [[1, 0], [0, 0], [1, 1]])
