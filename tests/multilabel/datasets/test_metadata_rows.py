"""A row of metadata.jsonl: which key lists the labels, and which keys may hold something else."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, imagefolder, picture, refusal, write


@pytest.mark.parametrize(
    ("key", "asked"), [("lables", " (is 'lables' misspelt?)"), ("labels_", " (is 'labels_' misspelt?)"), ("mine", "")]
)
def test_a_key_that_is_nearly_labels_is_asked_about(tmp_path, key, asked):
    said = refusal(imagefolder(tmp_path, {"a.jpg": {key: ["cat"], "width": 9}}), "train")
    assert f"no key 'labels' among {', '.join(sorted([key, 'width']))}{asked}; --label-columns says which" in said


TABLE = "is 0 or 1; a yes or no for each label is read from metadata.csv with a column for each"


@pytest.mark.parametrize(("tags", "also"), [(["cat"], ""), ("cat", f"; verified {TABLE}")])
def test_an_answer_beside_a_list_of_another_name_is_no_reason_for_a_table(tmp_path, tags, also):
    rows = {"a.jpg": {"my_tags": tags, "verified": True}, "b.jpg": {"my_tags": ["dog", "cat"], "verified": True}}
    said = refusal(imagefolder(tmp_path, rows), "train")
    assert said.endswith(f"no key 'labels' among my_tags, verified; --label-columns says which lists labels{also}")
    data = load_dataset(tmp_path, "train", label_columns="my_tags")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [1, 1]])


def test_the_keys_of_a_line_without_a_file_name_are_told(tmp_path):
    write(tmp_path / "train" / "metadata.jsonl", '{"image": "a.jpg", "labels": ["cat"]}')
    assert "line 1: no file_name among image, labels; expected" in refusal(tmp_path, "train")


@pytest.mark.parametrize(
    "more",
    [{"negative": ["dog"]}, {"not_labels": "dog"}, {"confidence": [0.2]}, {"verified": False}, {"skip": True}],
)
def test_a_key_that_may_deny_the_labels_is_refused_until_they_are_named(tmp_path, more):
    for shade, name in enumerate("ab"):
        picture(tmp_path / "train" / f"{name}.jpg", shade)
    lines = [{"file_name": "a.jpg", "labels": ["cat"], **more}, {"file_name": "b.jpg", "labels": ["dog"]}]
    write(tmp_path / "train" / "metadata.jsonl", *map(json.dumps, lines))
    (name,) = more
    assert f"line 1: {name!r} is " in (said := refusal(tmp_path, "train"))
    assert "--label-columns labels takes 'labels' for yes" in said
    data = load_dataset(tmp_path, "train", label_columns="labels")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])
    assert data.notes == (f"metadata.jsonl: keys that are no labels left out: {name}",)


def test_numbers_of_labels_that_a_picture_does_not_have_are_refused(tmp_path):
    write(tmp_path / "labels.txt", "cat", "dog")
    picture(tmp_path / "train" / "a.jpg")
    write(tmp_path / "train" / "metadata.jsonl", '{"file_name": "a.jpg", "labels": [0], "negative": [1]}')
    assert "line 1: 'negative' is '[1]'" in refusal(tmp_path, "train")


def test_keys_that_deny_nothing_are_left_out_and_told(tmp_path):
    for shade, name in enumerate("ab"):
        picture(tmp_path / "train" / f"{name}.jpg", shade)
    more = {"width": 8, "confidence": 1.0, "verified": [True], "skip": False, "negative": [], "caption": "a cat"}
    lines = [{"file_name": "a.jpg", "labels": ["cat"], **more}, {"file_name": "b.jpg", "labels": ["dog"]}]
    write(tmp_path / "train" / "metadata.jsonl", *map(json.dumps, lines))
    left = "width, confidence, verified, skip, caption"
    assert load_dataset(tmp_path, "train").notes == (f"metadata.jsonl: keys that are no labels left out: {left}",)


def test_a_yes_or_no_for_each_label_is_told_to_be_a_table(tmp_path):
    picture(tmp_path / "train" / "a.jpg")
    write(tmp_path / "train" / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "cat": 1, "dog": 0}))
    said = refusal(tmp_path, "train")
    assert "no key 'labels', and cat, dog are 0 or 1; a yes or no for each label is read from metadata.csv" in said
    assert "names cat, dog; expected the one key" in refusal(tmp_path, "train", label_columns="cat,dog")
    write(tmp_path / "labels.txt", "cat", "dog")  # the 1 under cat would be dog
    said = refusal(tmp_path, "train", label_columns="cat")
    assert (
        "line 1: cat, dog are 0 or 1, and a number under 'cat' would be that of a label; a yes or no for each" in said
    )
    assert "line 1: no key 'bird', which --label-columns names; keys: " in refusal(
        tmp_path, "train", label_columns="bird"
    )


def test_a_second_list_of_labels_is_not_left_out_by_itself(tmp_path):
    for shade, name in enumerate("ab"):
        picture(tmp_path / "train" / f"{name}.jpg", shade)
    lines = [
        {"file_name": "a.jpg", "label": "cat", "label2": "dog"},
        {"file_name": "b.jpg", "label": "dog", "label2": None},
    ]
    write(tmp_path / "train" / "metadata.jsonl", *map(json.dumps, lines))
    said = refusal(tmp_path, "train")
    assert "line 1: 'label2' is 'dog', and may list labels as well as 'label': join them into one list" in said
    assert load_dataset(tmp_path, "train", label_columns="label").targets.sum() == 2


@pytest.mark.parametrize("more", [{"filename": "IMG_1.jpg"}, {"ignored": False}, {"ignores": 0}, {"Ignore": ""}])
def test_a_key_that_is_nearly_one_of_ours_and_holds_no_labels_is_left_out(tmp_path, more):
    data = load_dataset(imagefolder(tmp_path, {"a.jpg": {"labels": ["cat"], **more}, "b.jpg": {"labels": []}}), "train")
    check(data, ["cat"], ["a.jpg", "b.jpg"], [[1], [0]])
    assert data.notes == (() if more == {"Ignore": ""} else (
        f"metadata.jsonl: keys that are no labels left out: {next(iter(more))}",))  # fmt: skip


@pytest.mark.parametrize("value", [["dog"], "dog", [1]])
def test_a_key_that_is_nearly_ignore_and_lists_labels_is_refused_until_it_is_left_out(tmp_path, value):
    root = imagefolder(tmp_path, {"a.jpg": {"labels": ["cat"], "ignores": value}, "b.jpg": {"labels": ["dog"]}})
    said = refusal(root, "train")
    assert said.endswith("unknown key 'ignores'; did you mean 'ignore'? (--label-columns labels leaves it out)")
    data = load_dataset(root, "train", label_columns="labels")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])
