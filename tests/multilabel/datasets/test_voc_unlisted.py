"""Pascal VOC without lists of splits: each picture is read once, and no split takes the pictures of another."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import annotation, check, picture, refusal, write


def tree(root, annotations: dict[str, str], *pictures: str):
    """Annotations by their paths, each with the one label that is named, or with none."""
    for path, label in annotations.items():
        write(root / f"{path}.xml", annotation(*([(label, 0)] if label else [])))
    for shade, path in enumerate(pictures):
        picture(root / path, shade)
    return root


@pytest.mark.parametrize(
    ("annotated", "folder", "dropped"),
    [
        (("annotations/xmls/a", "annotations/xmls/b"), "images", ("'xmls'", 2)),  # Oxford-IIIT Pet
        (("Annotations/batch0/a", "Annotations/batch0/b"), "JPEGImages", ("'batch0'", 2)),
        (("Annotations/batch0/b", "Annotations/a"), "JPEGImages", ("'batch0'", 1)),
    ],
)
def test_a_picture_whose_annotation_lies_in_a_sub_folder_is_read_once(tmp_path, annotated, folder, dropped):
    labels = {path: {"a": "cat", "b": "dog"}[path[-1]] for path in annotated}
    tree(tmp_path, labels, *(f"{folder}/{name}.jpg" for name in "abc"))
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("voc", ["all"])
    data = load_dataset(tmp_path, "all")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 1], [0, 0]])
    front, count = dropped
    names = "name was read without its" if count == 1 else "names were read without their"
    assert data.notes == (
        "1 picture has no annotation, and is read as one without a label",
        f"{count} {names} leading {front}, which is no folder here",
    )


def test_pictures_of_one_name_in_two_folders_keep_the_annotations_of_their_folders(tmp_path):
    names = ("cam1/a", "cam2/a")
    tree(tmp_path, {f"Annotations/{name}": name[:4] for name in names}, *(f"images/{name}.jpg" for name in names))
    picture(tmp_path / "images" / "cam2" / "b.png", 9)
    data = load_dataset(tmp_path, "all")
    assert [path.relative_to(tmp_path / "images").as_posix() for path in data.paths] == [
        "cam1/a.jpg", "cam2/a.jpg", "cam2/b.png",
    ]  # fmt: skip
    assert data.targets.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_pictures_without_annotations_whose_names_differ_in_their_suffix_are_all_read(tmp_path):
    tree(tmp_path, {"Annotations/a": "cat"}, "JPEGImages/a.jpg", "JPEGImages/b.jpg", "JPEGImages/b.png")
    assert [path.name for path in load_dataset(tmp_path, "all").paths] == ["a.jpg", "b.jpg", "b.png"]


def test_a_copy_in_a_second_folder_of_pictures_is_no_picture_without_a_label(tmp_path):
    tree(
        tmp_path, {"Annotations/a": "cat", "Annotations/b": ""}, "JPEGImages/a.jpg", "JPEGImages/b.jpg", "images/a.jpg"
    )
    data = load_dataset(tmp_path, "all")
    check(data, ["cat"], ["a.jpg", "b.jpg"], [[1], [0]])
    assert data.paths[0].parent.name == "JPEGImages"


def test_two_annotations_of_one_picture_are_refused(tmp_path):
    tree(tmp_path, {"Annotations/a": "cat", "Annotations/a.jpg": "dog"}, "JPEGImages/a.jpg", "JPEGImages/b.jpg")
    said = refusal(tmp_path, "all")
    assert said == (
        f"{tmp_path}/Annotations/a.jpg.xml: is of the picture {tmp_path}/JPEGImages/a.jpg, and so is "
        f"{tmp_path}/Annotations/a.xml; expected each picture once in a split, so remove one of the two"
    )


TWO = {"Annotations/train/a": "cat", "Annotations/train/b": "", "Annotations/val/c": "dog"}
SHARED = "of JPEGImages/, which several splits share,"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), ()),
        (("d",), (f"1 picture {SHARED} has no annotation in any of them, and is in no split",)),
        (("d", "e"), (f"2 pictures {SHARED} have no annotation in any of them, and are in no split",)),
    ],
)
def test_splits_that_share_a_folder_of_pictures_hold_their_annotations_alone(tmp_path, more, said):
    tree(tmp_path, TWO, *(f"JPEGImages/{name}.jpg" for name in ("a", "b", "c", *more)))
    assert list_splits(tmp_path) == ["train", "val"]
    train, val = (load_dataset(tmp_path, split) for split in ("train", "val"))
    check(train, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 0]])
    check(val, ["cat", "dog"], ["c.jpg"], [[0, 1]])
    assert train.notes == val.notes == said


def test_a_split_with_a_folder_of_its_own_keeps_its_pictures_without_annotations(tmp_path):
    tree(tmp_path, TWO, *(f"JPEGImages/{name}.jpg" for name in ("a", "b", "d", "val/c", "val/e")))
    train, val = (load_dataset(tmp_path, split) for split in ("train", "val"))
    check(train, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 0]])
    assert train.notes == (f"1 picture {SHARED} has no annotation in any of them, and is in no split",)
    check(val, ["cat", "dog"], ["c.jpg", "e.jpg"], [[0, 1], [0, 0]])
    assert val.notes == ("1 picture has no annotation, and is read as one without a label",)


def test_a_split_without_another_holds_the_pictures_without_annotations(tmp_path):
    tree(tmp_path, {"Annotations/train/a": "cat"}, "JPEGImages/a.jpg", "JPEGImages/b.jpg")
    check(load_dataset(tmp_path, "train"), ["cat"], ["a.jpg", "b.jpg"], [[1], [0]])
