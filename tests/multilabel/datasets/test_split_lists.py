"""A table whose splits are text files beside it, as NIH ChestX-ray14 is released."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

LABELS = ["Cardiomegaly", "Effusion", "No Finding"]
ROWS = ["1_000.png,Cardiomegaly|Effusion,0,58,", "1_001.png,No Finding,1,59,", "2_000.png,Effusion,0,60,"]


@pytest.fixture
def root(tmp_path):
    for shade, row in enumerate(ROWS):
        picture(tmp_path / f"images_00{shade + 1}" / "images" / row.split(",")[0], shade)
    write(tmp_path / "Data_Entry_2017.csv", "Image Index,Finding Labels,Follow-up #,Patient Age,", *ROWS)
    write(tmp_path / "train_val_list.txt", "1_000.png", "1_001.png")
    write(tmp_path / "test_list.txt", "2_000.png")
    write(tmp_path / "README.txt", "This data set has 3 pictures.")
    return tmp_path


def test_lists_of_pictures_are_the_splits_of_the_table(root):
    assert list_splits(root) == ["test", "train_val"]
    data = load_dataset(root, "train_val")
    check(data, LABELS, ["1_000.png", "1_001.png"], [[1, 1, 0], [0, 0, 1]])
    assert "Data_Entry_2017.csv: columns that are no labels left out: Follow-up #, Patient Age" in data.notes
    check(load_dataset(root, "test"), LABELS, ["2_000.png"], [[0, 1, 0]])


def test_a_list_may_lack_suffixes_where_its_name_says_a_split(root):
    (root / "test_list.txt").unlink()
    write(root / "test.txt", "2_000")
    write(root / "notes.txt", "2_000")
    assert list_splits(root) == ["test", "train_val"]
    assert len(load_dataset(root, "test")) == 1


def test_a_picture_that_the_table_lacks_is_refused(root):
    write(root / "test_list.txt", "2_000.png", "", "9_000.png")
    assert "test_list.txt, line 3: '9_000' is not among the pictures of Data_Entry_2017.csv" in refusal(root, "test")


def test_lists_beside_tables_that_say_their_split_are_named(root):
    (root / "Data_Entry_2017.csv").rename(root / "train.csv")
    assert list_splits(root) == ["train"]
    said = "lists of pictures from which no split is read: test_list.txt, train_val_list.txt"
    assert said in load_dataset(root, "train").notes


def test_a_column_of_splits_comes_first(root):
    rows = [f"{row.split(',')[0]},{row.split(',')[1]},{split}" for row, split in zip(ROWS, ("train", "val", "val"), strict=True)]  # fmt: skip  # noqa: E501
    write(root / "Data_Entry_2017.csv", "Image Index,Finding Labels,split", *rows)
    assert list_splits(root) == ["train", "val"]
    assert len(load_dataset(root, "val")) == 2
