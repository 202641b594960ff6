"""Vertex AI's import files: a table without a header whose pictures lie in a bucket, and JSON lines."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

ROWS = [
    "training,gs://my-bucket/photos/a.jpg,daisy,rose",
    "TRAIN,gs://my-bucket/photos/b.jpg,tulip",
    "validation,gs://my-bucket/photos/more/a.jpg,rose",
    "test,gs://my-bucket/photos/#c.jpg",
]


@pytest.fixture
def root(tmp_path):
    for shade, name in enumerate(("a.jpg", "b.jpg", "more/a.jpg", "#c.jpg")):
        picture(tmp_path / "photos" / name, shade)
    write(tmp_path / "import.csv", *ROWS)
    return tmp_path


def test_the_use_is_the_split_and_every_further_cell_a_label(root):
    assert (detect_format(root), list_splits(root)) == ("vertex", ["test", "train", "val"])
    labels = ["daisy", "rose", "tulip"]
    check(load_dataset(root, "train"), labels, ["a.jpg", "b.jpg"], [[1, 1, 0], [0, 0, 1]])
    data = load_dataset(root, "val")
    check(data, labels, ["a.jpg"], [[0, 1, 0]])
    assert data.paths[0].parent.name == "more"
    check(load_dataset(root, "test"), labels, ["#c.jpg"], [[0, 0, 0]])


def test_without_uses_there_is_one_split_and_rows_of_a_picture_are_united(root):
    write(root / "import.csv", "gs://b/photos/a.jpg,daisy", "gs://b/photos/b.jpg,rose", "gs://b/photos/a.jpg,rose")
    assert list_splits(root) == ["train"]
    data = load_dataset(root, "train")
    check(data, ["daisy", "rose"], ["a.jpg", "b.jpg"], [[1, 1], [0, 1]])
    assert data.notes == ("import.csv: 1 entries name a picture again; the entries of one picture are united",)


def test_the_corners_of_a_box_are_no_labels(root):
    write(root / "import.csv", "TRAIN,gs://b/photos/a.jpg,daisy,0.1,0.1,,,0.3,0.3,,", "TRAIN,gs://b/photos/b.jpg,,,,,,,,,",
          "UNASSIGNED,gs://b/photos/more/a.jpg,rose,0.1,.1,0.2,0.1,0.2,0.3,0.1,1")  # fmt: skip
    check(load_dataset(root, "train"), ["daisy", "rose"], ["a.jpg", "b.jpg"], [[1, 0], [0, 0]])
    check(load_dataset(root, "unassigned"), ["daisy", "rose"], ["a.jpg"], [[0, 1]])


def test_json_lines(root):
    (root / "import.csv").unlink()
    use = {"dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "validation"}}
    both = [{"displayName": "rose"}, {"displayName": "daisy"}]
    rows = [
        {"imageGcsUri": "gs://b/photos/a.jpg", "classificationAnnotations": both},
        {"imageGcsUri": "gs://b/photos/b.jpg", "classificationAnnotation": both[0], **use},
    ]
    write(root / "import.jsonl", *map(json.dumps, rows))
    assert (detect_format(root), list_splits(root)) == ("vertex", ["unassigned", "val"])
    check(load_dataset(root, "unassigned"), ["daisy", "rose"], ["a.jpg"], [[1, 1]])
    check(load_dataset(root, "val"), ["daisy", "rose"], ["b.jpg"], [[0, 1]])


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("import.csv", "holdout,gs://b/photos/a.jpg,rose", "import.csv, line 5: the use 'holdout'"),
        ("import.csv", "training,photos/a.jpg,rose", "line 5: 'training,photos/a.jpg,rose'; expected a picture"),
        ("import.csv", "training,gs://b/photos/gone.jpg,rose", "gone.jpg: no such file"),
        ("import.jsonl", '{"imageGcsUri": 3}', "import.jsonl, line 1: no imageGcsUri"),
        ("import.jsonl", '{"imageGcsUri": "gs://b/a.jpg", "classificationAnnotations": [{}]}', "without a displayName"),
        ("import.jsonl", '{"imageGcsUri"', "import.jsonl, line 1: not JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(root, name, line, said):
    with (root / name).open("a") as file:
        file.write(f"{line}\n")
    assert said in refusal(root, "train")
