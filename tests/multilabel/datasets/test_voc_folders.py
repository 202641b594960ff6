"""Pascal VOC's annotations without lists: folders say the splits."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import annotation, check, picture, refusal, write

SPLITS = {"train": {"a": ("bolt",), "b": ()}, "valid": {"a": ("nut", "bolt")}}
LAYOUTS = {
    "roboflow": ("{split}/{name}.xml", "{split}/{name}.jpg"),
    "inside": ("annotations/{split}/{name}.xml", "images/{split}/{name}.jpg"),
    "below": ("{split}/Annotations/{name}.xml", "{split}/images/{name}.jpg"),
    "labelme": ("Annotations/{split}/{name}.xml", "Images/{split}/{name}.jpg"),
}


def export(root, layout: str) -> None:
    for split, pictures in SPLITS.items():
        for shade, (name, labels) in enumerate(pictures.items()):
            described, shown = (root / place.format(split=split, name=name) for place in LAYOUTS[layout])
            write(described, annotation(*((label, 0) for label in labels)))
            picture(shown, shade + 9 * len(split))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_a_split_with_the_labels_of_all(tmp_path, layout):
    export(tmp_path, layout)
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("voc", ["train", "valid"])
    check(load_dataset(tmp_path, "train"), ["bolt", "nut"], ["a.jpg", "b.jpg"], [[1, 0], [0, 0]])
    data = load_dataset(tmp_path, "valid")
    check(data, ["bolt", "nut"], ["a.jpg"], [[1, 1]])
    assert "valid" in data.paths[0].parts


def test_annotations_beside_the_pictures_of_one_folder(tmp_path):
    write(tmp_path / "a.xml", annotation(("bolt", 0), ("nut", 1)))
    for shade, name in enumerate("ab"):
        picture(tmp_path / f"{name}.jpg", shade)
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("voc", ["all"])
    data = load_dataset(tmp_path, "all")
    check(data, ["bolt", "nut"], ["a.jpg", "b.jpg"], [[1, 0], [0, 0]], [[0, 1], [0, 0]])
    assert data.notes == ("1 picture has no annotation, and is read as one without a label",)


def test_an_annotation_that_names_the_picture_of_another_is_read_by_its_own_name(tmp_path):
    for shade, (name, filename, label) in enumerate(
        [("a", "b.jpg", "bolt"), ("b", r"C:\\x\b.PNG", "nut"), ("c", "", "nut")]
    ):
        write(tmp_path / f"{name}.xml", annotation((label, 0)).replace("x.jpg", filename))
        picture(tmp_path / f"{name}.jpg", shade)
    data = load_dataset(tmp_path, "all")
    check(data, ["bolt", "nut"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 1], [0, 1]])
    said = "read as of the pictures with their own names, although <filename> differs: a.xml names b.jpg"
    assert data.notes == (said,)


def test_folders_that_are_no_splits_stay_one_split(tmp_path):
    for name in ("2007/a", "val/b"):
        write(
            tmp_path / "Annotations" / f"{name}.xml",
            annotation(("bolt", 0), ("nut", 0)) if name == "val/b" else annotation(),
        )
        picture(tmp_path / "images" / f"{name}.jpg", len(name))
    assert list_splits(tmp_path) == ["all"]
    check(load_dataset(tmp_path, "all"), ["bolt", "nut"], ["a.jpg", "b.jpg"], [[0, 0], [1, 1]])


def test_what_was_taken_back_in_labelme_is_no_label(tmp_path):
    gone, kept = (f"<object><name>{name}</name><deleted>{number}</deleted></object>" for name, number in (("nut", 1), ("bolt", 0)))  # fmt: skip  # noqa: E501
    for name, text in {"a": gone + kept, "b": ""}.items():
        write(tmp_path / "Annotations" / "train" / f"{name}.xml", f"<annotation>{text}</annotation>")
        picture(tmp_path / "Images" / "train" / f"{name}.jpg", ord(name))
    check(load_dataset(tmp_path, "train"), ["bolt"], ["a.jpg", "b.jpg"], [[1], [0]])


def test_objects_to_be_ignored_are_unknown_and_attributes_are_told(tmp_path):
    def attribute(name: str, value: str) -> str:
        return f"<attributes><attribute><name>{name}</name><value>{value}</value></attribute></attributes>"

    nut = f"<object><name>nut</name><ignore>1</ignore>{attribute('torn', 'false')}</object>"
    bolt = f"<object><name>bolt</name><ignore>0</ignore>{attribute('rusty', 'true')}</object>"
    for name, text in {"a": nut + bolt, "b": "<object><name>nut</name></object>"}.items():
        write(tmp_path / "Annotations" / "train" / f"{name}.xml", f"<annotation>{text}</annotation>")
        picture(tmp_path / "Images" / "train" / f"{name}.jpg", ord(name))
    for difficult in ("ignore", "positive", "negative"):  # what is said of difficult objects is not said of these
        data = load_dataset(tmp_path, "train", difficult=difficult)
        check(data, ["bolt", "nut"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]], [[0, 1], [0, 0]])
    assert data.notes == ("attributes of objects are no labels, and are left out: rusty",)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("present", "false", True),
        ("verified", "0.0", True),
        ("present", "true", True),
        ("torn", "0.0", False),
        ("torn", "no", False),
        ("torn", "nan", False),
        ("torn", "0.5", True),
    ],
)
def test_attributes_are_told_unless_they_say_no_of_a_property(tmp_path, name, value, told):
    attribute = f"<attributes><attribute><name>{name}</name><value>{value}</value></attribute></attributes>"
    bolt = f"<object><name>bolt</name>{attribute}</object>"
    for picture_name, text in {"a": bolt, "b": "<object><name>nut</name></object>"}.items():
        write(tmp_path / "Annotations" / "train" / f"{picture_name}.xml", f"<annotation>{text}</annotation>")
        picture(tmp_path / "Images" / "train" / f"{picture_name}.jpg", ord(picture_name))
    data = load_dataset(tmp_path, "train")
    check(data, ["bolt", "nut"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])
    said = (f"attributes of objects are no labels, and are left out: {name}",)
    assert data.notes == (said if told else ())


@pytest.mark.parametrize(("difficult", "target", "unknown"), [("ignore", 0, 1), ("positive", 1, 0), ("negative", 0, 0)])
def test_an_object_that_is_difficult_is_not_one_to_be_ignored(tmp_path, difficult, target, unknown):
    hard, ignored, plain = (
        f"<object><name>nut</name>{part}</object>"
        for part in ("<difficult>1</difficult>", "<difficult>1</difficult><ignore>1</ignore>", "")
    )
    texts = {"a": hard, "b": ignored, "c": ignored + plain, "d": "<object><name>bolt</name></object>"}
    for name, text in texts.items():
        write(tmp_path / "Annotations" / "train" / f"{name}.xml", f"<annotation>{text}</annotation>")
        picture(tmp_path / "Images" / "train" / f"{name}.jpg", ord(name))
    data = load_dataset(tmp_path, "train", difficult=difficult)
    names = [f"{name}.jpg" for name in texts]
    check(data, ["bolt", "nut"], names, [[0, target], [0, 0], [0, 1], [1, 0]], [[0, unknown], [0, 1], [0, 0], [0, 0]])


def test_a_split_that_is_not_there(tmp_path):
    export(tmp_path, "roboflow")
    assert refusal(tmp_path, "val").endswith(
        "splits here: train, valid; did you mean 'valid'? "
        "(verbs take a split's name by --split, --train, --val or --test)"
    )
    (tmp_path / "train" / "a.jpg").unlink()
    assert "train/a: no such file" in refusal(tmp_path, "train")
