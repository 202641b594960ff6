"""FiftyOne's classification exports: labels.json and data/, with one label a picture or several."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal

CLASSES = ["boat", "dock", "crane"]
SEVERAL = {"b": ["crane", "boat"], "a": None, "c": ["dock"]}
TARGETS = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
NULL = [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
"""Nobody knows the labels of a picture whose value is null."""


def export(root, labels: dict, classes: list[str] | None = CLASSES):
    root.mkdir(exist_ok=True)
    (root / "labels.json").write_text(json.dumps({"classes": classes, "labels": labels}))
    for shade, name in enumerate("abc"):
        picture(root / "data" / f"{name}.jpg", shade)
    return root


@pytest.mark.parametrize(
    ("labels", "ignore"),
    [
        (SEVERAL, NULL),
        ({"b": [2, 0], "a": [], "c": [1]}, None),
        (
            {
                "b": [{"label": "crane", "confidence": 1.0}, {"label": "boat"}, {"label": "dock", "confidence": 0}],
                "a": {"label": None},
                "c": [{"label": "dock", "confidence": None}],
            },
            NULL,
        ),
    ],
)
def test_several_labels_a_picture(tmp_path, labels, ignore):
    root = export(tmp_path, labels)
    assert (detect_format(root), list_splits(root)) == ("fiftyone", ["train"])
    data = load_dataset(root, "train")
    check(data, CLASSES, ["b.jpg", "a.jpg", "c.jpg"], TARGETS, ignore)
    assert any("1 picture has null in place of labels" in note for note in data.notes) == (ignore is not None)


@pytest.mark.parametrize("labels", [{"b": "crane", "a": None, "c": "dock"}, {"b": 2, "a": None, "c": 1}])
def test_one_label_a_picture(tmp_path, labels):
    root = export(tmp_path, labels)
    check(load_dataset(root, "train"), CLASSES, ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 1], [0, 0, 0], [0, 1, 0]], NULL)


def test_an_export_a_split_and_classes_that_are_not_listed(tmp_path):
    for split in ("train", "val"):
        export(tmp_path / split, SEVERAL, None)
    assert list_splits(tmp_path) == ["train", "val"]
    assert load_dataset(tmp_path, "val").labels.names == ("boat", "crane", "dock")
    export(tmp_path / "val", {"b": [{"label": "boat"}, {"label": "crane"}], "a": None, "c": {"label": "dock"}}, None)
    check(load_dataset(tmp_path, "val"), ["boat", "crane", "dock"], ["b.jpg", "a.jpg", "c.jpg"],
          [[1, 1, 0], [0, 0, 0], [0, 0, 1]], NULL)  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"b": ["buoy"]}, """labels['b']: label "buoy" is not in classes"""),
        ({"b": [3]}, "labels['b']: label 3 is not in classes"),
        ({"gone": ["boat"]}, "gone: no such file"),
        ({"b": {"label": "boat", "confidence": 0.2}}, "labels['b'], confidence: score is '0.2'; expected 1 (yes), 0"),
        ({"b": [{"label": "boat", "confidence": 0.2}]}, "what a machine guessed is no label"),
        ({"b": {"classifications": []}}, "labels['b']: an object with classifications; expected one with label"),
        ({"b": [1, 0, 1]}, "labels['b']: [1, 0, 1] has a number twice; expected the numbers of the labels"),
        ({}, "the split 'train' is empty"),
    ],
)
def test_what_is_refused(tmp_path, labels, said):
    assert said in refusal(export(tmp_path, labels), "train")


def test_what_else_is_said_of_labels_is_told(tmp_path):
    labels = {
        "a": [{"label": "dock", "tags": ["mistake"], "attributes": {"hidden": True, "old": False}}],
        "b": {"label": "boat", "confidence": 1.0, "tags": [], "verified": False, "attributes": {"present": 0}},
        "c": [],
    }
    data = load_dataset(export(tmp_path, labels), "train")
    check(data, CLASSES, ["a.jpg", "b.jpg", "c.jpg"], [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert data.notes == ("labels.json: keys of labels that are not read: tags, hidden, verified, present",)
