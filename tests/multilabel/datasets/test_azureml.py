"""Azure Machine Learning's labels: a JSON object a line, with image_url and label."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write


def line(name: str, label: object, *sure: float) -> str:
    row = {"image_url": f"AmlDatastore://store/upload/{name}", "image_details": {"format": "jpg"}, "label": label}
    return json.dumps({**row, "label_confidence": list(sure)} if sure else row)


@pytest.fixture
def root(tmp_path):
    for shade, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        picture(tmp_path / "upload" / name, shade)
    write(
        tmp_path / "labels.jsonl", line("a.jpg", ["dock", "boat"], 1.0, 1.0), line("b.jpg", []), line("c.jpg", ["dock"])
    )
    return tmp_path


def test_a_list_of_names_is_a_pictures_labels(root):
    assert (detect_format(root), list_splits(root)) == ("azureml", ["train"])
    check(load_dataset(root, "train"), ["boat", "dock"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [0, 0], [0, 1]])


def test_one_name_boxes_and_a_file_a_split(root):
    (root / "labels.jsonl").unlink()
    write(root / "train.jsonl", line("a.jpg", "boat"), line("b.jpg", [{"label": "crane", "topX": 0.1}]))
    write(root / "val.jsonl", line("c.jpg", "dock"))
    assert list_splits(root) == ["train", "val"]
    check(load_dataset(root, "train"), ["boat", "crane", "dock"], ["a.jpg", "b.jpg"], [[1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (line("a.jpg", ["boat"], 0.8), "line 1: score is '0.8'; expected 1 (yes), 0 (verified no)"),
        (line("a.jpg", [3]), "line 1: label '3' is no name"),
        (line("gone.jpg", ["boat"]), "gone.jpg: no such file"),
        ('{"image_url": "a.jpg", "label": ["boat"]', "line 1: not JSON"),
    ],
)
def test_what_is_wrong_is_named(root, text, said):
    write(root / "labels.jsonl", text)
    assert said in refusal(root, "train")


def test_null_is_no_verified_no(root):
    write(root / "labels.jsonl", line("a.jpg", ["dock"]), line("b.jpg", None), line("c.jpg", []))
    data = load_dataset(root, "train")
    check(data, ["dock"], ["a.jpg", "c.jpg"], [[1], [0]])
    assert "labels.jsonl: 1 picture that nobody labelled is left out" in data.notes
