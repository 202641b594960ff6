"""MS-COCO: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import CATEGORIES, IMAGES, check, refusal, write_coco


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images"])
@pytest.mark.parametrize(("format", "split"), [("auto", "val2017"), ("coco", "val")])
def test_coco_is_read_with_crowds_and_pictures_without_labels(tmp_path, folder, format, split):
    dataset = load_dataset(write_coco(tmp_path, folder=folder), split, format=format)
    check(dataset, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [1, 1, 0], [1, 0, 0]])
    assert dataset.paths[0] == tmp_path / folder / "b.jpg"
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("coco", ["val2017"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": [*IMAGES, {"id": 7, "file_name": "z.jpg"}]}, "z.jpg: no such file, named by"),
        ({"images": [{"id": 7, "file_name": "../a.jpg"}]}, "images[0]: the path '../a.jpg' leaves"),
        (
            {"images": [{"id": 7, "file_name": "/etc/hostname"}]},
            "images[0] (written as '/etc/hostname')",
        ),
        ({"images": [IMAGES[0], IMAGES[1] | {"id": 9}]}, "images[1]: id 9 occurs twice (first at images[0])"),
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
        ({"categories": [*CATEGORIES, {"id": 1, "name": "dog"}]}, "a category id occurs twice"),
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


def image_level(root, *annotations, split="val2017", **changed) -> None:
    """The file of the labels of whole pictures that Datumaro 1.13 writes beside instances_."""
    images = [{"id": 3, "file_name": "c.jpg"}, {"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    content = {"images": images, "annotations": list(annotations), "categories": CATEGORIES} | changed
    (root / "annotations" / f"labels_{split}.json").write_text(json.dumps(content))


def test_labels_of_whole_pictures_and_of_objects_are_united(tmp_path):
    root = write_coco(tmp_path)
    image_level(root, {"image_id": 2, "category_id": 90}, {"image_id": 3, "category_id": 1})
    data = load_dataset(root, "val")
    names = ["b.jpg", "a.jpg", "c.jpg"]
    check(data, ["person", "cat", "toothbrush"], names, [[0, 0, 1], [1, 1, 0], [1, 0, 0]])
    assert data.notes == ()
    image_level(root, {"image_id": 2, "category_id": 91}, categories=[{"id": 91, "name": "kite"}])
    check(load_dataset(root, "val"), ["person", "cat", "toothbrush", "kite"], names,
          [[0, 0, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0]])  # fmt: skip


def test_a_score_of_nought_is_a_verified_no_and_one_between_is_no_label(tmp_path):
    root = write_coco(tmp_path, annotations=[{"image_id": 2, "category_id": 17, "score": 1}])
    image_level(root, {"image_id": 2, "category_id": 90, "score": 0.0}, {"image_id": 3, "category_id": 1, "score": 1.0})
    data = load_dataset(root, "val")
    check(data, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [0, 1, 0], [1, 0, 0]],
          [[1, 1, 0], [1, 0, 1], [0, 1, 1]])  # fmt: skip
    assert data.notes == ("instances_val2017.json: says which labels were looked for; 6 cells without an answer are "
                          "ignored",)  # fmt: skip
    image_level(root, {"image_id": 1, "category_id": 17, "score": 0})
    assert "annotations[0]: has a score of 0, and another annotation" in refusal(root, "val")
    write_coco(tmp_path, annotations=[{"image_id": 2, "category_id": 17, "score": 0}])
    image_level(root, {"image_id": 1, "category_id": 17, "score": 1})  # the other order of the two files
    assert "one says that a.jpg shows 'cat', the other that it does not" in refusal(root, "val")
    image_level(root, {"image_id": 1, "category_id": 17, "score": 0.4})
    assert "annotations[0]: score is '0.4'; expected 1 (yes), 0 (verified no)" in refusal(root, "val")


def test_a_label_is_known_only_where_a_federated_file_says_so(tmp_path):
    images = [{**image, "neg_category_ids": [90], "not_exhaustive_category_ids": []} for image in IMAGES]
    write_coco(tmp_path, images=images)
    ignore = [[1, 1, 0], [0, 0, 0], [0, 1, 0]]
    check(load_dataset(tmp_path, "val"), ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"],
          [[0, 0, 0], [1, 1, 0], [1, 0, 0]], ignore)  # fmt: skip
    images[1]["neg_category_ids"] = [17]
    write_coco(tmp_path, images=images)
    assert "images[1]: category 17 is in neg_category_ids and has an annotation" in refusal(tmp_path, "val")
    images[1]["neg_category_ids"] = [18]
    write_coco(tmp_path, images=images)
    assert "images[1]: neg_category_ids has 18; no category" in refusal(tmp_path, "val")


def test_an_annotation_to_be_ignored_is_neither_yes_nor_no(tmp_path):
    annotations = [
        {"image_id": 2, "category_id": 17, "ignore": 1},
        {"image_id": 5, "category_id": 17, "ignore": 1},
        {"image_id": 5, "category_id": 17, "ignore": 0},
    ]
    data = load_dataset(write_coco(tmp_path, annotations=annotations), "val")
    check(data, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [0, 0, 0], [0, 1, 0]],
          [[0, 0, 0], [0, 1, 0], [0, 0, 0]])  # fmt: skip
    assert data.notes == ("1 cell has annotations with ignore alone, and nobody knows it",)


@pytest.mark.parametrize("key", ["score", "confidence"])
def test_what_a_machine_guessed_is_refused_under_either_name(tmp_path, key):
    annotations = [{"image_id": 2, "category_id": 17, key: 1}, {"image_id": 5, "category_id": 1, key: None}]
    data = load_dataset(write_coco(tmp_path, annotations=annotations), "val")
    assert data.targets.tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    annotations = [{"image_id": 2, "category_id": 17, key: 0.4}]
    assert "annotations[0]: score is '0.4'; expected 1" in refusal(write_coco(tmp_path, annotations=annotations), "val")


@pytest.mark.parametrize("folder", ["val_images", "photos/2024", "val/patch0"])
def test_pictures_in_a_folder_of_another_name_are_found_and_told(tmp_path, folder):
    data = load_dataset(write_coco(tmp_path, folder=folder), "val2017")
    assert [path.relative_to(tmp_path).as_posix() for path in data.paths] == [f"{folder}/{n}.jpg" for n in "bac"]
    assert data.notes == (f"3 pictures were found by their names alone, in {folder}/",)


def test_pictures_of_another_split_are_not_taken_for_those_of_this_one(tmp_path):
    assert "no such file" in refusal(write_coco(tmp_path, folder="train_images"), "val2017")


@pytest.mark.parametrize("more", [{"isDeleted": True}, {"attributes": {"isDeleted": True}}, {"verified": False}])
def test_keys_of_annotations_that_are_not_read_are_told(tmp_path, more):
    annotations = [
        {"image_id": 2, "category_id": 17, **more, "attributes": {"occluded": False, **more.get("attributes", {})}}
    ]
    (note,) = load_dataset(write_coco(tmp_path, annotations=annotations), "val").notes
    (key,) = more.get("attributes", more)
    assert note == f"instances_val2017.json: keys of annotations that are no labels, and are left out: {key}"


@pytest.mark.parametrize("text", ["true", "True", " 1", "1.0", "yes"])
def test_ignore_may_be_written_as_text(tmp_path, text):
    annotations = [
        {"image_id": 2, "category_id": 17, "ignore": "false"},
        {"image_id": 2, "category_id": 1, "ignore": ""},
        {"image_id": 2, "category_id": 90, "ignore": None},
        {"image_id": 5, "category_id": 17, "ignore": text},
    ]
    data = load_dataset(write_coco(tmp_path, annotations=annotations), "val")
    check(data, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [1, 1, 1], [0, 0, 0]],
          [[0, 0, 0], [0, 0, 0], [0, 1, 0]])  # fmt: skip
    assert data.notes == ("1 cell has annotations with ignore alone, and nobody knows it",)


@pytest.mark.parametrize("value", ["partly", 2, [1], -1])
def test_ignore_that_is_neither_true_nor_false_is_refused(tmp_path, value):
    root = write_coco(tmp_path, annotations=[{"image_id": 2, "category_id": 17, "ignore": value}])
    assert f"annotations[0]: ignore is {str(value)!r}; expected true or false" in refusal(root, "val")
