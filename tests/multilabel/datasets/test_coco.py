"""MS-COCO: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import CATEGORIES, IMAGES, check, picture, refusal, write, write_coco


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
        "a part of one is named as val[90%:]; splits here: val, val2014, val2017, valminus2014"
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


def test_a_file_beside_the_one_that_is_read_is_told(tmp_path):
    root = write_coco(tmp_path)
    write(root / "annotations" / "captions_val2017.json", '{"images": [], "annotations": []}')
    assert load_dataset(root, "val").notes == ()
    text = (root / "annotations/instances_val2017.json").read_text()
    (root / "annotations" / "stuff_val2017.json").write_text(text)
    said = "files of annotations from which no split is read: stuff_val2017.json"
    assert load_dataset(root, "val").notes == (said,)


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


@pytest.mark.parametrize("text", ["{", "[" * 200_000, "[]", "\xff", '{"a": ' + "9" * 5000 + "}"])
def test_coco_that_is_no_json_is_refused(tmp_path, text):
    write_coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").write_bytes(text.encode("latin-1"))
    assert "instances_val2017.json" in refusal(tmp_path, "val")


def test_two_files_of_one_split_are_refused(tmp_path):
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    picture(tmp_path / "a.jpg")
    for name in ("annotations.json", "labels.json"):
        write(tmp_path / name, json.dumps(content))
    assert "both annotations.json and labels.json would be the split 'train'" in refusal(tmp_path, "train")


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


def test_one_file_whose_images_name_several_splits_is_refused(tmp_path):
    images = [{**image, "split": split} for image, split in zip(IMAGES, ("train", "restval", "val"), strict=True)]
    assert "its images say that they are of the splits restval, train, val; expected one file for each" in refusal(
        write_coco(tmp_path, images=images), "val"
    )
    assert len(load_dataset(write_coco(tmp_path, images=[{**image, "split": "val"} for image in IMAGES]), "val")) == 3


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
