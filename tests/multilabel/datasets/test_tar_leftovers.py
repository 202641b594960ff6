"""What others' tars hold beside pictures and labels: told, or refused where it may deny a label."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import refusal
from tests.multilabel.tars import encoded, write_tar


def sample(**more):
    return [("a.jpg", encoded(1)), ("a.json", {"labels": ["cat"], **more})]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("negative", ["dog"]),
        ("hard_negatives", ["dog"]),
        ("not", ["dog"]),
        ("difficult", ["cat"]),
        ("missing_labels", "dog"),
        ("absent", [2]),
        ("scores", [0.2]),
        ("confidence", 0.2),
        ("label_scores", [0.2]),
        ("exclude", True),
        ("ignored_labels", ["dog"]),
    ],
)
def test_keys_that_may_deny_labels_are_refused(foreign, key, value):
    write_tar(foreign / "train-0.tar", sample(**{key: value}))
    said = refusal(foreign, "train")
    assert f"train-0.tar: 'a.json': {key!r} is " in said
    assert "--label-columns labels takes 'labels' for yes" in said
    data = load_dataset(foreign, "train", label_columns="labels")
    assert data.notes == (f"keys in the shards' JSON that are no labels left out: {key}",)
    assert data.targets.sum() == 1


@pytest.mark.parametrize("key", ["ignored", "Ignore", "ignores"])
@pytest.mark.parametrize("value", [["dog"], "dog"])
def test_a_key_that_is_nearly_ignore_and_lists_labels_is_refused(foreign, key, value):
    write_tar(foreign / "train-0.tar", sample(**{key: value}))
    assert f"unknown key {key!r}; did you mean 'ignore'? (--label-columns labels leaves" in refusal(foreign, "train")
    data = load_dataset(foreign, "train", label_columns="labels")
    assert (data.targets.sum(), data.ignore.sum()) == (1, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filename", "000001.jpg"),
        ("ignored", False),
        ("ignored", [0, 0]),
        ("difficult", [0, 0]),
        ("difficult", ["easy"]),
        ("missing", "a wheel"),
        ("no", 17),
    ],
)
def test_a_key_that_only_looks_like_one_of_ours_is_told(foreign, key, value):
    write_tar(foreign / "train-0.tar", sample(**{key: value}))
    data = load_dataset(foreign, "train")
    assert data.notes == (f"keys in the shards' JSON that are no labels left out: {key}",)
    assert (data.targets.sum(), data.ignore.sum()) == (1, 0)


def test_other_keys_and_members_are_told(foreign):
    more = {"caption": "a cat", "url": "http://example.org/a.jpg", "score": 1, "negative": []}
    write_tar(foreign / "train-0.tar", [*sample(**more), ("a.txt", b"a cat"), ("a.cls", b"3"), ("b.npy", b"0")])
    assert load_dataset(foreign, "train").notes == (
        "keys in the shards' JSON that are no labels left out: caption, url, score, negative",
        "members of the shards that are not read: .txt, .cls, .npy",
    )
    write_tar(foreign / "train-0.tar", sample())
    assert load_dataset(foreign, "train").notes == ()


def test_another_key_for_labels_is_no_option(foreign):
    write_tar(foreign / "train-0.tar", sample())
    assert "shards list labels under 'labels' alone" in refusal(foreign, "train", label_columns="tags")
