"""LabelMe's JSON beside the pictures: flags of the picture, and labels of shapes."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal


def annotate(folder, name: str, *shapes: str, flags: dict | None = None, image: str | None = None) -> None:
    picture(folder / f"{name}.jpg", len(name) + ord(name[0]))
    outline = {"points": [[0, 0], [1, 1]], "shape_type": "rectangle", "flags": {}}
    own = {"flags": flags or {}, "shapes": [{"label": label, **outline} for label in shapes]}
    content = {"version": "5.4.1", **own, "imagePath": image or f"{name}.jpg", "imageData": None}
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_flags_and_shapes_are_labels_and_a_picture_alone_has_none(tmp_path):
    annotate(tmp_path, "b", "boat", "boat", flags={"night": False, "indoor": True}, image="..\\photos\\b.jpg")
    annotate(tmp_path, "a", flags={"night": False, "indoor": False})
    picture(tmp_path / "c.jpg")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("labelme", ["all"])
    data = load_dataset(tmp_path, "all")
    check(data, ["boat", "indoor", "night"], ["a.jpg", "b.jpg", "c.jpg"], [[0, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert data.notes == ("1 picture has no annotation, and is read as one without a label",)


def test_folders_are_splits_with_the_labels_of_all(tmp_path):
    annotate(tmp_path / "train", "a", "boat")
    annotate(tmp_path / "val", "a", "dock")
    assert list_splits(tmp_path) == ["train", "val"]
    check(load_dataset(tmp_path, "val"), ["boat", "dock"], ["a.jpg"], [[0, 1]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"shapes": [{}], "imagePath": "a.jpg"}, "a.json: a shape without a label"),
        ({"shapes": [], "imagePath": "a.jpg", "flags": {"night": "yes"}}, "a.json: flags are \"{'night': 'yes'}\""),
        ({"shapes": None, "imagePath": "a.jpg"}, "a.json: no shapes, or no imagePath"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, said):
    annotate(tmp_path, "a", "boat")
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert said in refusal(tmp_path, "all")


def test_the_names_that_labelme_reserves_are_no_labels(tmp_path):
    annotate(tmp_path, "a", "boat", "_background_", flags={"__ignore__": False, "night": True})
    annotate(tmp_path, "b", "boat", flags={"__ignore__": True, "night": False})
    annotate(tmp_path, "c", "__ignore__", "car")
    data = load_dataset(tmp_path, "all")
    check(data, ["boat", "car", "night"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0, 1], [1, 0, 0], [0, 1, 0]],
          [[0, 0, 0], [0, 1, 1], [1, 0, 1]])  # fmt: skip
    assert data.notes == ("2 pictures have __ignore__: nobody knows the labels that are not named there",)


def test_flags_of_shapes_are_told(tmp_path):
    annotate(tmp_path, "a", "boat", "car")
    annotate(tmp_path, "b", "car")
    content = json.loads((tmp_path / "a.json").read_text())
    content["shapes"][0]["flags"] = {"rusty": True, "torn": False, "present": False}
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = load_dataset(tmp_path, "all")
    check(data, ["boat", "car"], ["a.jpg", "b.jpg"], [[1, 1], [0, 1]])
    assert data.notes == ("flags of shapes are no labels, and are left out: present, rusty",)


def change(path, number: int = 0, **more) -> None:
    """Give a shape more keys, as X-AnyLabeling writes them."""
    content = json.loads(path.read_text())
    content["shapes"][number] |= more
    path.write_text(json.dumps(content))


def test_a_score_is_a_yes_a_no_or_a_guess_that_a_person_has_seen(tmp_path):
    annotate(tmp_path, "a", "boat", "car", "dock")
    annotate(tmp_path, "b", "car")
    for number, score in enumerate((1, 0.0, None)):
        change(tmp_path / "a.json", number, score=score)
    data = load_dataset(tmp_path, "all")
    check(data, ["boat", "car", "dock"], ["a.jpg", "b.jpg"], [[1, 0, 1], [0, 1, 0]])
    assert data.notes == ("1 shape has a score of 0, and is left out, because 0 says no",)
    change(tmp_path / "a.json", 1, score=0.31)
    change(tmp_path / "a.json", 2, score="")
    data = load_dataset(tmp_path, "all")
    check(data, ["boat", "car", "dock"], ["a.jpg", "b.jpg"], [[1, 1, 1], [0, 1, 0]])
    assert data.notes == ("1 shape has a model's score, and is read as the others are",)
    change(tmp_path / "a.json", 1, score="31 %")
    assert "a.json, shapes[1] ('car'): score is '31 %'; expected 1 (yes), 0 (verified no)" in refusal(tmp_path, "all")


def test_difficult_shapes_and_attributes_of_shapes_are_told(tmp_path):
    annotate(tmp_path, "a", "boat", "car", "dock")
    annotate(tmp_path, "b", "car")
    attributes = {"colour": "red", "torn": "", "present": "no"}
    change(tmp_path / "a.json", 0, difficult=True, attributes=attributes, flags=None, kie_linking=[])
    change(tmp_path / "a.json", 1, difficult="false", attributes={})
    change(tmp_path / "a.json", 2, difficult=False)
    data = load_dataset(tmp_path, "all")
    check(data, ["boat", "car", "dock"], ["a.jpg", "b.jpg"], [[1, 1, 1], [0, 1, 0]])
    assert data.notes == (
        "attributes of shapes are no labels, and are left out: colour, present",
        "1 shape is marked as difficult (difficult: true), and read as the others are",
    )


@pytest.mark.parametrize("named", ["a.jpg", "gone.jpg", "C:\\x\\a.jpg"])
def test_a_file_that_names_another_picture_is_read_by_its_own_name(tmp_path, named):
    picture(tmp_path / "a.jpg")
    annotate(tmp_path, "b", "cat", image=named)
    annotate(tmp_path, "c", "dog")
    data = load_dataset(tmp_path, "all")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[0, 0], [1, 0], [0, 1]])
    last = named.rpartition("\\")[2]
    assert data.notes == (
        "1 picture has no annotation, and is read as one without a label",
        f"read as of the pictures with their own names, although imagePath differs: b.json names {last}",
    )


def test_the_ending_and_the_case_that_a_file_names_are_no_other_picture(tmp_path):
    annotate(tmp_path, "a", "cat", image="A.JPG")
    annotate(tmp_path, "b", "dog", image="b.png")
    data = load_dataset(tmp_path, "all")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])
    assert data.notes == ()
    picture(tmp_path / "b.png", 9)
    check(load_dataset(tmp_path, "all"), ["cat", "dog"], ["a.jpg", "b.png"], [[1, 0], [0, 1]])
    annotate(tmp_path, "b", "dog", image="c.png")
    assert "b.json: 'b' may be b.jpg or b.png" in refusal(tmp_path, "all")


def test_a_file_without_a_picture_of_its_own_name_is_read_as_of_the_one_that_it_names(tmp_path):
    annotate(tmp_path, "a", "cat")
    annotate(tmp_path, "b", "dog")
    (tmp_path / "b.json").rename(tmp_path / "x.json")
    data = load_dataset(tmp_path, "all")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])
    said = "read as of the pictures that imagePath names, because none has the file's own name: x.json names b.jpg"
    assert data.notes == (said,)
    (tmp_path / "b.jpg").unlink()
    assert "b.jpg: no such file" in refusal(tmp_path, "all")
