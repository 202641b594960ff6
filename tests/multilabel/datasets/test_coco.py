"""MS-COCO: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import CATEGORIES, IMAGES, check, refusal, write, write_coco


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images"])
@pytest.mark.parametrize(("format", "split"), [("auto", "val2017"), ("coco", "val")])
def test_coco_is_read_with_crowds_and_pictures_without_labels(tmp_path, folder, format, split):
    dataset = load_dataset(write_coco(tmp_path, folder=folder), split, format=format)
    check(dataset, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [1, 1, 0], [1, 0, 0]])
    assert dataset.paths[0] == tmp_path / folder / "b.jpg"
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("coco", ["val2017"])


def test_a_short_name_of_a_coco_split_must_fit_one_file(tmp_path):
    write_coco(tmp_path, "val2014", "val2014")
    write_coco(tmp_path, "valminus2014", "val2014")
    assert len(load_dataset(tmp_path, "val")) == 3
    write_coco(tmp_path)
    assert "split 'val' may be val2014 or val2017; name one of them" in refusal(tmp_path, "val")
    write_coco(tmp_path, "val", "val")
    assert load_dataset(tmp_path, "val").paths[0] == tmp_path / "val" / "b.jpg"
    assert refusal(tmp_path, "test").endswith(
        "a part of one is named as train[90%:]; splits here: val, val2014, val2017, valminus2014"
    )
    assert "split '../val'" in refusal(tmp_path, "../val")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": [*IMAGES, {"id": 7, "file_name": "z.jpg"}]}, "z.jpg: no such file, named by"),
        ({"images": [{"id": 7, "file_name": "../a.jpg"}]}, "images[0]: the path '../a.jpg' leaves"),
        (
            {"images": [{"id": 7, "file_name": "/etc/hostname"}]},
            "images[0] (written as '/etc/hostname')",
        ),
        ({"images": [IMAGES[0], IMAGES[1] | {"id": 9}]}, "images[1]: id 9 stands twice (first at images[0])"),
        ({"images": []}, "the split 'val2017' is empty"),
        ({"images": {"id": 1}}, "images is missing or no list"),
        ({"images": [3]}, "images[0]: id is 'None'"),
        ({"images": [{"id": 7}]}, "images[0]: file_name is 'None'; expected text"),
        ({"images": [{"id": [1], "file_name": "a.jpg"}]}, "images[0]: id is '[1]'; expected a whole number or text"),
        ({"annotations": [{"image_id": 77, "category_id": 1}]}, "annotations[0]: no picture has the id 77"),
        ({"annotations": [{"image_id": 2, "category_id": 3}]}, "annotations[0]: no category has the id 3"),
        ({"annotations": [{"image_id": 2, "category_id": True}]}, "annotations[0]: category_id is 'True'"),
        ({"annotations": None}, "annotations is missing or no list"),
        ({"categories": []}, "instances_val2017.json: no labels"),
        ({"categories": [*CATEGORIES, {"id": 1, "name": "dog"}]}, "a category id stands twice"),
    ],
)
def test_what_is_wrong_in_coco_is_named(tmp_path, changed, said):
    message = refusal(write_coco(tmp_path, **changed), "val2017")
    assert said in message
    assert str(tmp_path) in message


def test_entries_of_one_file_and_categories_of_one_name_are_united(tmp_path):
    twice = {
        "images": [*IMAGES, {"id": 7, "file_name": "./a.jpg"}],
        "categories": [*CATEGORIES, {"id": 3, "name": "cat"}],
    }
    write_coco(tmp_path, **twice, annotations=[{"image_id": 7, "category_id": 3}, {"image_id": 2, "category_id": 1}])
    dataset = load_dataset(tmp_path, "val")
    check(dataset, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert ["1 entries" in dataset.notes[0], "called 'cat'" in dataset.notes[1]] == [True, True]


def test_a_file_beside_the_one_that_is_read_is_told(tmp_path):
    """Datumaro's export: boxes in instances_, and the labels of whole pictures in labels_."""
    root = write_coco(tmp_path)
    write(root / "annotations" / "captions_val2017.json", '{"images": [], "annotations": []}')
    assert load_dataset(root, "val").notes == ()
    (root / "annotations" / "labels_val2017.json").write_text((root / "annotations/instances_val2017.json").read_text())
    said = "files of annotations from which no split is read: labels_val2017.json"
    assert load_dataset(root, "val").notes == (said,)


def test_a_label_is_known_only_where_a_federated_file_says_so(tmp_path):
    images = [{**image, "neg_category_ids": [90], "not_exhaustive_category_ids": []} for image in IMAGES]
    write_coco(tmp_path, images=images)
    ignore = [[1, 1, 0], [0, 0, 0], [0, 1, 0]]
    check(load_dataset(tmp_path, "val"), ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"],
          [[0, 0, 0], [1, 1, 0], [1, 0, 0]], ignore)  # fmt: skip
    images[1]["neg_category_ids"] = [17]
    write_coco(tmp_path, images=images)
    assert "images[1]: category 17 stands in neg_category_ids and has an annotation" in refusal(tmp_path, "val")
    images[1]["neg_category_ids"] = [18]
    write_coco(tmp_path, images=images)
    assert "images[1]: neg_category_ids has 18; no category" in refusal(tmp_path, "val")


@pytest.mark.parametrize("text", ["{", "[" * 200_000, "[]", "\xff", '{"a": ' + "9" * 5000 + "}"])
def test_coco_that_is_no_json_is_refused(tmp_path, text):
    write_coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").write_bytes(text.encode("latin-1"))
    assert "instances_val2017.json" in refusal(tmp_path, "val")
