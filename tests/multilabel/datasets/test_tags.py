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


def texts(root, *lines):
    for shade, line in enumerate(lines):
        write(picture(root / f"{shade}.jpg", shade).with_suffix(".txt"), line)
    return root


@pytest.mark.parametrize("lines", [("animal sign", "animal", "sign"), ("animal sign", "sign car", "car animal")])
def test_spaces_between_known_tags_are_told(tmp_path, lines):
    root = texts(tmp_path, *lines)
    (said,) = load_dataset(root, "all", format="tags").notes
    assert (
        "'animal sign' is read as one label, and spaces would split it into 'animal', 'sign'; --separator ' '" in said
    )
    for separator in (" ", "none"):
        assert load_dataset(root, "all", format="tags", separator=separator).notes == ()


def test_spaces_within_tags_are_not_told(tmp_path):
    root = texts(tmp_path, "long hair, red eyes", "long legs, red hair", "long legs, blue eyes")
    assert load_dataset(root, "all", format="tags").notes == ()


def test_captions_are_told(tmp_path):
    root = texts(tmp_path, *(f"a photo of number {number}." for number in (16, 17)), "dog")
    (said,) = load_dataset(root, "all", format="tags").notes
    assert said.startswith("2 of 3 tags have 4 words or more and one picture each, such as 'a photo of number 16.'")


@pytest.mark.parametrize("tag", ["animal:0.1", "animal (0.1)", "(animal:1.2)", "((animal:1.2))", "animal=no"])
def test_weights_are_refused_until_labels_txt_lists_them(tmp_path, tag):
    root = texts(tmp_path, f"sign, {tag}", "animal, 16:9, :0, re:zero, (o)_(o)")
    told = refusal(root, "all", format="tags")
    assert f"0.txt: {tag!r} looks like a tag and its weight or score; expected the tags alone" in told
    write(root / "labels.txt", "animal", "sign")
    assert refusal(root, "all", format="tags") == told
    write(root / "labels.txt", "animal", "sign", tag)
    check(load_dataset(root, "all", format="tags"), ["animal", "sign", tag], ["0.jpg", "1.jpg"], [[0, 1, 1], [1, 0, 0]])
