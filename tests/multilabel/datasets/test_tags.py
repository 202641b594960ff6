"""Texts of tags beside the pictures, which are read on request alone."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

TAGS = {"train/a": ["1girl, solo", ">_<, long hair"], "train/10_more/b": [], "val/c": ["solo", "no tail"]}


@pytest.fixture
def root(tmp_path):
    for shade, (name, lines) in enumerate(TAGS.items()):
        write(picture(tmp_path / f"{name}.jpg", shade).with_suffix(".txt"), *lines)
    return tmp_path


def test_commas_and_lines_separate_tags_and_folders_are_splits(root):
    assert list_splits(root, format="tags") == ["train", "val"]
    names = ["1girl", ">_<", "long hair", "no tail", "solo"]
    check(load_dataset(root, "train", format="tags"), names, ["b.jpg", "a.jpg"], [[0, 0, 0, 0, 0], [1, 1, 1, 0, 1]])
    check(load_dataset(root, "val", format="tags"), names, ["c.jpg"], [[0, 0, 0, 1, 1]])


def test_they_are_not_read_without_being_asked_for(root):
    assert "--format tags reads tags with commas between them" in refusal(root, "train")


def test_folders_that_name_no_split_are_one_and_a_text_may_have_the_pictures_whole_name(tmp_path):
    for shade, name in enumerate(("5_cats/a.png", "b.png")):
        write(picture(tmp_path / name, shade).with_name(f"{name.rpartition('/')[2]}.txt"), "cat dog", "x" * shade)
    data = load_dataset(tmp_path, "all", format="tags", separator=" ")
    check(data, ["cat", "dog", "x"], ["a.png", "b.png"], [[1, 1, 0], [1, 1, 1]])


def test_each_line_may_be_one_tag(root):
    write(root / "train" / "a.txt", "cat, dog", "none")
    data = load_dataset(root, "train", format="tags", separator="none")
    check(data, ["cat, dog", "no tail", "none", "solo"], ["b.jpg", "a.jpg"], [[0, 0, 0, 0], [1, 0, 1, 0]])


def test_tags_that_labels_txt_does_not_name_are_told(root):
    write(root / "labels.txt", "solo", "1girl")
    data = load_dataset(root, "train", format="tags")
    check(data, ["solo", "1girl"], ["b.jpg", "a.jpg"], [[0, 0], [1, 1]])
    assert data.notes == ("tags that labels.txt does not name are left out: >_<, long hair",)


def test_what_is_wrong_is_named(root):
    write(root / "train" / "a.txt", "0 0.5 0.5 0.1 0.2")
    for separator in (None, " "):
        told = refusal(root, "train", format="tags", separator=separator)
        assert "a.txt: '0 0.5 0.5 0.1 0.2' looks like a box" in told
    (root / "train" / "a.txt").unlink()
    assert "a.jpg: no a.txt beside it; expected its tags there" in refusal(root, "train", format="tags")
    assert "splits here: train, val" in refusal(root, "test", format="tags")
