"""MS-COCO: the text of a file, and what is refused before a picture is looked for."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset
from tests.multilabel.layouts import IMAGES, check, refusal, write_coco


@pytest.mark.parametrize("text", ["{", "[" * 200_000, "[]", "\xff", '{"a": ' + "9" * 5000 + "}"])
def test_coco_that_is_no_json_is_refused(tmp_path, text):
    write_coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").write_bytes(text.encode("latin-1"))
    assert "instances_val2017.json" in refusal(tmp_path, "val")


def test_one_file_whose_images_name_several_splits_is_refused(tmp_path):
    images = [{**image, "split": split} for image, split in zip(IMAGES, ("train", "restval", "val"), strict=True)]
    assert "its images say that they are of the splits restval, train, val; expected one file for each" in refusal(
        write_coco(tmp_path, images=images), "val"
    )
    assert len(load_dataset(write_coco(tmp_path, images=[{**image, "split": "val"} for image in IMAGES]), "val")) == 3


def test_the_segments_of_a_panoptic_file_are_labels_where_no_other_file_is(tmp_path):
    segments = [{"image_id": 2, "file_name": "a.png", "segments_info": [{"category_id": 17}, {"category_id": 90}]}]
    root = write_coco(tmp_path, annotations=segments)
    (root / "annotations" / "instances_val2017.json").rename(root / "annotations" / "panoptic_val2017.json")
    assert list_splits(root) == ["val2017"]
    data = load_dataset(root, "val")
    check(data, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [0, 1, 1], [0, 0, 0]])
    (root / "annotations" / "panoptic_val2017.json").rename(root / "annotations" / "instances_val2017.json")
    assert load_dataset(root, "val").targets.sum() == 2
    segments[0]["segments_info"].append(3)
    assert "annotations[2]: image_id is 'None'" in refusal(write_coco(tmp_path, annotations=segments), "val")
