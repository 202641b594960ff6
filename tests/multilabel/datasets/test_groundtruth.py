"""Ground Truth's manifests: a JSON object a line, with the numbers of labels and their names."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

NAMES = {"0": "boat", "1": "crane", "2": "dock"}


def line(name: str, value: object, kind: str = "image-classification-multilabel", job: str = "tags", **about) -> str:
    numbers = value if isinstance(value, list) else []
    about = {"class-map": {str(n): NAMES[str(n)] for n in numbers}, "type": f"groundtruth/{kind}", **about}
    return json.dumps({"source-ref": f"s3://bucket/pictures/{name}", job: value, f"{job}-metadata": about})


ROWS = [line("a.jpg", [2, 0]), line("b.jpg", []), line("c.jpg", [1])]


@pytest.fixture
def root(tmp_path):
    for shade, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        picture(tmp_path / "pictures" / name, shade)
    write(tmp_path / "output.manifest", *ROWS)
    return tmp_path


def test_labels_are_named_by_the_map_of_each_line(root):
    assert (detect_format(root), list_splits(root)) == ("groundtruth", ["train"])
    data = load_dataset(root, "train")
    check(data, ["boat", "crane", "dock"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_a_manifest_a_split_and_labellings_that_failed(root):
    write(root / "validation.manifest", line("a.jpg", [1]), line("b.jpg", [], **{"failure-reason": "ClientError"}))
    assert list_splits(root) == ["output", "validation"]
    data = load_dataset(root, "validation")
    check(data, ["boat", "crane", "dock"], ["a.jpg"], [[0, 1, 0]])
    assert data.notes == ("validation.manifest: 1 picture whose labelling failed is left out",)


def test_one_label_a_picture_and_boxes(root):
    one = {"class-name": "crane", "confidence": 0.9}
    write(
        root / "train.manifest",
        line("a.jpg", 1, "image-classification", **one),
        line("b.jpg", 0, **{"class-name": "boat"}),
    )
    (root / "output.manifest").unlink()
    check(load_dataset(root, "train"), ["boat", "crane"], ["a.jpg", "b.jpg"], [[0, 1], [1, 0]])
    boxes = {"annotations": [{"class_id": 2, "left": 1}, {"class_id": 0}], "image_size": [{"width": 8}]}
    write(root / "train.manifest", line("a.jpg", boxes, **{"class-map": NAMES}), line("b.jpg", [1]))
    check(load_dataset(root, "train"), ["boat", "crane", "dock"], ["a.jpg", "b.jpg"], [[1, 0, 1], [0, 1, 0]])


def test_several_jobs_are_refused_until_one_is_chosen(root):
    both = {**json.loads(line("a.jpg", [0])), **json.loads(line("a.jpg", [1], job="check"))}
    write(
        root / "output.manifest", json.dumps(both), ROWS[1].replace("tags", "check"), ROWS[2].replace("tags", "check")
    )
    assert "line 1: 2 jobs' labels (tags, check); expected one; --label-columns" in refusal(root, "train")
    data = load_dataset(root, "train", label_columns="check")
    check(data, ["crane"], ["a.jpg", "b.jpg", "c.jpg"], [[1], [0], [1]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"source-ref": 1}', "line 4: no source-ref"),
        ('{"source-ref": "s3://b/a.jpg", "tags": [1]}', "line 4: 0 jobs' labels (none)"),
        (line("a.jpg", [0], **{"class-map": {}}), "line 4: label '0' has no name in class-map"),
        ("[]", "line 4: holds no object"),
    ],
)
def test_what_is_wrong_is_named(root, text, said):
    write(root / "output.manifest", *ROWS, text)
    assert said in refusal(root, "train")


def test_what_a_machine_labelled_is_told(root):
    write(root / "output.manifest", ROWS[0], ROWS[1], line("c.jpg", [1], **{"human-annotated": "no"}))
    data = load_dataset(root, "train")
    check(data, ["boat", "crane", "dock"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    assert data.notes[-1] == "output.manifest: a machine labelled 1 of the pictures (human-annotated: no)"
