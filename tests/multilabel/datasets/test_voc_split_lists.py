"""Pascal VOC's lists of splits beside its annotations: which are read, which are not, and what is said of these."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import annotation, check, picture, refusal, write

LABELS = {"a": "cat", "b": "dog", "c": "cat", "d": "dog"}
PICTURES = (*LABELS, "e")
"""The last has no annotation."""
UNREAD = "lists of pictures from which no split is read"
ALL = "the split 'all' therefore holds all pictures, also those of these lists"
BARE = "1 picture has no annotation, and is read as one without a label"


def tree(root, lists: dict[str, tuple[str, ...]], annotations="Annotations", pictures="JPEGImages"):
    for name, label in LABELS.items():
        write(root / annotations / f"{name}.xml", annotation((label, 0)))
    for shade, name in enumerate(PICTURES):
        picture(root / pictures / f"{name}.jpg", shade)
    for path, lines in lists.items():
        write(root / path, *lines)
    return root


def read(root, split: str, names: str, notes: tuple[str, ...] = ()) -> None:
    """Check that a split holds pictures, in this order, with their labels and nothing else."""
    data = load_dataset(root, split)
    targets = [[int(LABELS.get(name) == label) for label in ("cat", "dog")] for name in names]
    check(data, ["cat", "dog"], [f"{name}.jpg" for name in names], targets)
    assert data.notes == notes


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "{}.jpg",
        "JPEGImages/{}.jpg",
        "./JPEGImages/{}.jpg ./Annotations/{}.xml",
        "JPEGImages/{}.jpg Annotations/{}.xml",
        "JPEGImages\\{}.jpg\tAnnotations\\{}.xml",
        "road/JPEGImages/{}.jpg road/Annotations/{}.xml",
        "/home/me/road/JPEGImages/{}.jpg",
    ],
)
@pytest.mark.parametrize("name", ["{}.txt", "{}_list.txt"])
def test_lists_in_the_root_say_the_splits(tmp_path, line, name):
    lists = {"train": "ba", "val": "d"}
    tree(
        tmp_path,
        {name.format(split): tuple(line.replace("{}", one) for one in names) for split, names in lists.items()},
    )
    write(tmp_path / "label_list.txt", "cat", "dog")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("voc", ["train", "val"])
    for split, names in lists.items():
        read(tmp_path, split, names)
    assert "; splits here: train, val" in refusal(tmp_path, "all")


def test_the_lists_of_oxford_pets_are_read(tmp_path):
    lists = {
        "annotations/list.txt": ("#Image CLASS-ID SPECIES BREED ID", *(f"{name} 1 1 1" for name in PICTURES)),
        "annotations/test.txt": ("#Image CLASS-ID", "c 1 1 1", "e 1 2 1"),
        "annotations/trainval.txt": ("a 1 1 1", "b 2 1 1"),
    }
    tree(tmp_path, lists, "annotations/xmls", "images")
    assert list_splits(tmp_path) == ["test", "trainval"]
    numbers, dropped = (
        "numbers after the names in {} are left out, such as '1 1 1' on line {}",
        "'xmls', which is no folder here",
    )
    read(tmp_path, "trainval", "ab", (
        numbers.format("trainval.txt", 1), f"2 names were read without their leading {dropped}",
    ))  # fmt: skip
    read(tmp_path, "test", "ce", (
        BARE, numbers.format("test.txt", 2), f"1 name was read without its leading {dropped}",
    ))  # fmt: skip


def test_a_list_above_the_year_names_the_year(tmp_path):
    tree(
        tmp_path / "VOC2007",
        {
            "../train.txt": (
                "VOC2007/JPEGImages/a.jpg VOC2007/Annotations/a.xml",
                "VOCdevkit/VOC2007/JPEGImages/b.jpg",
            ),
            "../2007_val.txt": ("/home/me/VOC2007/JPEGImages/d.jpg 263,211,324,339,8 8,12,352,498,0",),
        },
    )
    assert list_splits(tmp_path) == ["2007_val", "train"]
    assert [path.name for path in load_dataset(tmp_path, "train").paths] == ["a.jpg", "b.jpg"]
    read(tmp_path, "2007_val", "d", (
        "numbers after the names in 2007_val.txt are left out, such as '263,211,324,339,8 8,12,352,498,0' on line 1",
    ))  # fmt: skip


def test_lists_beside_pictures_with_their_annotations(tmp_path):
    tree(tmp_path, {"train.txt": ("a", "b"), "test.txt": ("d",)}, ".", ".")
    read(tmp_path, "train", "ab")
    read(tmp_path, "test", "d")


def test_a_picture_that_a_list_names_again_is_read_once(tmp_path):
    tree(tmp_path, {"train_val.txt": ("a", "b", "a.jpg"), "eval.txt": ("my pic", "c", "#d")})
    picture(tmp_path / "JPEGImages" / "my pic.jpg", 99)
    read(tmp_path, "train_val", "ab", ("1 line of the list 'train_val.txt' names a picture again; each is read once",))
    read(tmp_path, "eval", ("my pic", "c"), (BARE,))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x", "names no picture here by its id, its file name or its path"),
        ("../a", "names no picture here by its id, its file name or its path"),
        ("c 1", "may be a picture and a label's value; take it out if it is none"),
        ("c cat 0.7", "has more than an annotation or numbers after the picture's name"),
        ("JPEGImages/c.jpg Annotations/d.xml", "names an annotation that is not the picture's own"),
        ("JPEGImages/e.jpg Annotations/e.xml", "names an annotation that is not the picture's own"),
        ("c 2", "may be a picture, or a picture and more, because both names are there"),
    ],
)
def test_no_list_is_read_if_one_has_a_line_that_is_not_understood(tmp_path, line, why):
    tree(tmp_path, {"train.txt": ("a", "b"), "val.txt": ("d", line)})
    names = "abcde"
    if line == "c 2":
        picture(tmp_path / "JPEGImages" / "c 2.jpg", 99)
        names = ("a", "b", "c", "c 2", "d", "e")
    assert list_splits(tmp_path) == ["all"]
    bare = BARE if line != "c 2" else "2 pictures have no annotation, and are read as pictures without a label"
    read(tmp_path, "all", names, (bare, f"{UNREAD}: train.txt, val.txt (val.txt, line 2: {line!r} {why})", ALL))


def test_lists_that_can_spoil_nothing_are_told(tmp_path):
    """Pictures that are not here are in no other list, and a text that names no picture is no list."""
    lists = {"train.txt": ("a", "b"), "test.txt": ("x", "y"), "val.txt": ("e",), "night.txt": ("d.jpg",)}
    tree(tmp_path, {**lists, "test_results.txt": ("mAP 0.9",), "labels.txt": ("cat", "dog")})
    assert list_splits(tmp_path) == ["train"]
    read(tmp_path, "train", "ab", (
        f"{UNREAD}: night.txt, test.txt, val.txt (night.txt, its name says no split; test.txt, line 1: 'x' names no "
        "picture here by its id, its file name or its path; val.txt, none of its pictures has an annotation)",
    ))  # fmt: skip


def test_all_holds_the_pictures_of_lists_without_annotations(tmp_path):
    tree(tmp_path, {"test.txt": ("e",)})
    read(
        tmp_path, "all", "abcde", (BARE, f"{UNREAD}: test.txt (test.txt, none of its pictures has an annotation)", ALL)
    )


@pytest.mark.parametrize("same", [True, False])
def test_two_lists_of_one_split(tmp_path, same):
    tree(tmp_path, {"train.txt": ("a", "b"), "Annotations/train.txt": ("b.jpg", "a.jpg" if same else "c.jpg")})
    if same:
        read(tmp_path, "train", "ab")
    else:
        why = "Annotations/train.txt, it names other pictures than train.txt"
        read(tmp_path, "all", "abcde", (BARE, f"{UNREAD}: Annotations/train.txt, train.txt ({why})", ALL))


def test_lists_that_imagesets_or_folders_outdo_are_told(tmp_path):
    tree(tmp_path / "voc", {"ImageSets/Main/train.txt": ("a", "b"), "val.txt": ("d",)})
    read(tmp_path / "voc", "train", "ab", (f"{UNREAD}, because ImageSets/ says the splits: val.txt",))
    tree(tmp_path / "folders", {"val.txt": ("d",)}, "Annotations/train", "JPEGImages/train")
    assert list_splits(tmp_path / "folders") == ["train"]
    read(tmp_path / "folders", "train", "abcde", (BARE, f"{UNREAD}, because folders say the splits: val.txt"))


def test_a_listed_picture_with_two_annotations_is_refused(tmp_path):
    tree(tmp_path, {"train.txt": ("a", "b"), "val.txt": ("d",)})
    write(tmp_path / "Annotations" / "more" / "a.xml", annotation(("dog", 0)))
    said = refusal(tmp_path, "train")
    assert said.startswith(f"{tmp_path}/JPEGImages/a.jpg: has the annotations {tmp_path}/Annotations/a.xml, ")
    assert said.endswith("Annotations/more/a.xml; expected one for each picture, so remove the others")
    read(tmp_path, "val", "d")


def test_a_text_beside_a_picture_of_its_name_is_no_list(tmp_path):
    """YOLO's boxes begin with the number of a class, which may be the name of a picture."""
    tree(tmp_path, {"test_1.txt": ("0 0.5 0.5 0.2 0.2",)}, ".", ".")
    for name in ("0", "test_1"):
        picture(tmp_path / f"{name}.jpg", ord(name[0]))
    assert list_splits(tmp_path) == ["all"]
    said = "3 pictures have no annotation, and are read as pictures without a label"
    read(tmp_path, "all", ("0", *PICTURES, "test_1"), (said,))
