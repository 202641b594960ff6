"""MS-COCO: which file is read for which split, and which files are not read."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write, write_coco


def test_a_short_name_of_a_coco_split_must_fit_one_file(tmp_path):
    write_coco(tmp_path, "val2014", "val2014")
    write_coco(tmp_path, "valminus2014", "val2014")
    assert len(load_dataset(tmp_path, "val")) == 3
    write_coco(tmp_path)
    assert "split 'val' may be val2014 or val2017; name one of them" in refusal(tmp_path, "val")
    write_coco(tmp_path, "val", "val")
    assert load_dataset(tmp_path, "val").paths[0] == tmp_path / "val" / "b.jpg"
    assert refusal(tmp_path, "test").endswith(
        "a part of one is named as val[90%:]; splits here: val, val2014, val2017, valminus2014"
    )
    assert "split '../val'" in refusal(tmp_path, "../val")


def test_a_file_beside_the_one_that_is_read_is_told(tmp_path):
    root = write_coco(tmp_path)
    write(root / "annotations" / "captions_val2017.json", '{"images": [], "annotations": []}')
    assert load_dataset(root, "val").notes == ()
    text = (root / "annotations/instances_val2017.json").read_text()
    (root / "annotations" / "stuff_val2017.json").write_text(text)
    said = "files of annotations from which no split is read: stuff_val2017.json"
    assert load_dataset(root, "val").notes == (said,)


def test_two_files_of_one_split_are_refused(tmp_path):
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    picture(tmp_path / "a.jpg")
    for name in ("annotations.json", "labels.json"):
        write(tmp_path / name, json.dumps(content))
    assert "both annotations.json and labels.json would be the split 'train'" in refusal(tmp_path, "train")


SEGMENTS = [{"image_id": 2, "file_name": "a.png", "segments_info": [{"category_id": 17}, {"category_id": 90}]}]


@pytest.mark.parametrize("others", [["person_keypoints"], ["stuff"], ["person_keypoints", "stuff"]])
@pytest.mark.parametrize("where", ["annotations", "."])
def test_a_panoptic_file_goes_before_those_of_persons_and_of_stuff(tmp_path, others, where):
    root = write_coco(tmp_path)
    made = root / "annotations" / "instances_val2017.json"
    text = made.read_text()
    made.unlink()
    for name in others:
        (root / where / f"{name}_val2017.json").write_text(text)
    segments = json.dumps(json.loads(text) | {"annotations": SEGMENTS})
    (root / where / "panoptic_val2017.json").write_text(segments)
    assert list_splits(root) == ["val2017"]
    data = load_dataset(root, "val")
    check(data, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [0, 1, 1], [0, 0, 0]])
    names = ", ".join(f"{name}_val2017.json" for name in others)
    assert data.notes == (f"files of annotations from which no split is read: {names}",)


def test_files_of_persons_and_of_stuff_alone_are_refused(tmp_path):
    root = write_coco(tmp_path)
    made = root / "annotations" / "instances_val2017.json"
    for name in ("person_keypoints", "stuff"):
        (root / "annotations" / f"{name}_val2017.json").write_text(made.read_text())
    made.unlink()
    said = "both person_keypoints_val2017.json and stuff_val2017.json would be the split 'val2017'; expected one"
    assert said in refusal(root, "val")
