"""MS-COCO: what the entries of images say beside names, as COCO Annotator and other tools write them."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.datasets.coco_images import yes_or_no
from tests.multilabel.layouts import IMAGES, check, refusal, write_coco

FILE = "instances_val2017.json"
LABELS, NAMES = ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"]
TARGETS = [[0, 0, 0], [1, 1, 0], [1, 0, 0]]
OWN = {
    "dataset_id": 1, "path": "/datasets/x/a.jpg", "width": 8, "height": 6, "annotating": [], "num_annotations": 0,
    "metadata": {}, "deleted": False, "milliseconds": 7, "events": [{"user": "me"}], "regenerate_thumbnail": True,
    "is_modified": True, "category_ids": [],
}  # fmt: skip
"""What COCO Annotator 0.11 writes of each picture beside its id and its name."""


def images(*more: dict) -> list[dict]:
    """The entries of the pictures, each with more keys."""
    return [{**image, **one} for image, one in zip(IMAGES, more, strict=True)]


def test_the_keys_of_coco_annotator_change_nothing(tmp_path):
    own = {**OWN, "annotated": True, "license": 1, "extra": {"name": "A.jpg"}, "split": "val"}
    data = load_dataset(write_coco(tmp_path, images=images(own, own, own)), "val")
    check(data, LABELS, NAMES, TARGETS)
    assert data.notes == ()


@pytest.mark.parametrize("said", [{"annotated": False}, {"is_annotated": 0}, {"annotated": "false"}])
def test_of_a_picture_that_nobody_annotated_no_label_is_known(tmp_path, said):
    root = write_coco(tmp_path, images=images({**OWN, **said}, {**OWN, **said}, {"annotated": True}))
    data = load_dataset(root, "val")
    check(data, LABELS, NAMES, TARGETS, [[1, 1, 1], [0, 0, 0], [0, 0, 0]])
    assert data.notes == (
        f"{FILE}: 1 picture is marked as not annotated, and nobody knows the labels there",
        f"{FILE}: 1 picture with annotations is marked as not annotated; the annotations are read",
    )


def test_a_picture_that_is_said_to_be_annotated_has_no_label(tmp_path):
    data = load_dataset(write_coco(tmp_path, images=images({"annotated": True}, {}, {"annotated": None})), "val")
    check(data, LABELS, NAMES, TARGETS)
    assert data.notes == ()


def test_what_was_searched_for_is_known_of_a_picture_that_nobody_annotated(tmp_path):
    more = {"annotated": False, "neg_category_ids": [90]}
    data = load_dataset(write_coco(tmp_path, images=images(more, {}, {})), "val")
    check(data, LABELS, NAMES, TARGETS, [[1, 1, 0], [0, 0, 1], [0, 1, 1]])


def test_pictures_that_were_deleted_are_left_out_with_their_annotations(tmp_path):
    more = {"deleted": True, "file_name": "gone.jpg", "neg_category_ids": None}
    root = write_coco(tmp_path, images=images({}, {}, more))
    data = load_dataset(root, "val")
    check(data, LABELS, NAMES[:2], TARGETS[:2], [[1, 1, 1], [0, 0, 1]])
    assert data.notes[0] == f"{FILE}: 1 picture that was deleted is left out (deleted: true)"
    write_coco(tmp_path, images=images(*[{"deleted": True}] * 3))
    assert f"{FILE}: the split 'val' is empty" in refusal(root, "val")
    write_coco(tmp_path, images=[{**IMAGES[0], "deleted": True}, IMAGES[0]], annotations=[])
    assert "images[1]: id 9 occurs twice (first at images[0])" in refusal(root, "val")


def test_keys_that_may_list_or_deny_labels_are_told_first(tmp_path):
    more = {
        "weather": "rain",
        "night": False,
        "status": "skipped",
        "verified": False,
        "neg_labels": ["cat"],
        "tags": [],
    }
    data = load_dataset(write_coco(tmp_path, images=images({"extra": {"user_tags": ["x"]}}, more, {"tags": []})), "val")
    check(data, LABELS, NAMES, TARGETS)
    said = "keys of images that are no labels, and are left out: user_tags, verified, neg_labels, weather, status"
    assert data.notes == (f"{FILE}: {said}",)
    data = load_dataset(write_coco(tmp_path, images=images({"deleted": "who knows"}, {"annotated": "half"}, {})), "val")
    check(data, LABELS, NAMES, TARGETS)
    assert data.notes == (f"{FILE}: keys of images that are no labels, and are left out: deleted, annotated",)


@pytest.mark.parametrize("listed", [[17], [17, 90], [18]])
def test_categories_of_an_entry_without_an_annotation_are_told(tmp_path, listed):
    root = write_coco(tmp_path, images=images({"category_ids": listed}, {"category_ids": [17, 1]}, {}))
    data = load_dataset(root, "val")
    check(data, LABELS, NAMES, TARGETS)
    said = "1 picture lists category_ids without an annotation of them; annotations alone are read"
    assert data.notes == (f"{FILE}: {said}",)


@pytest.mark.parametrize(
    ("value", "said"),
    [(True, "yes"), ("TRUE", "yes"), (1.0, "yes"), (0, "no"), ("no", "no"), (None, None), ("", None), ("some", None)],
)
def test_yes_or_no(value, said):
    assert yes_or_no(value) == said
