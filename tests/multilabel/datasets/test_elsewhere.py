"""Pictures in folders that no label file names: all of a split lie there, or none; never those of another split."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, picture, refusal, write, write_csv


def table(root, split: str = "train", *, names: tuple[str, ...] = ("a.jpg", "b.jpg")) -> None:
    write(root / f"{split}.csv", "path,cat,dog", *(f"{name},1,0" for name in names[:-1]), f"{names[-1]},0,1")


@pytest.mark.parametrize(
    "places",
    [("train-jpg", "train-jpg"), ("images_001/images", "images_002/images"), ("photos/train", "photos/train")],
)
def test_pictures_are_found_in_the_folders_that_have_them(tmp_path, places):
    for shade, (place, name) in enumerate(zip(places, ("a.jpg", "b.jpg"), strict=True)):
        picture(tmp_path / place / name, shade)
    table(tmp_path)
    data = load_dataset(tmp_path, "train")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])
    folders = ", ".join(f"{place}/" for place in dict.fromkeys(places))
    assert data.notes == (f"2 pictures were found by their names alone, in {folders}",)


@pytest.mark.parametrize("folder", ["test", "test-jpg-v2", "masks", "Annotations", ".hidden", "validation"])
def test_a_picture_of_another_split_or_a_mask_is_none_of_a_table(tmp_path, folder):
    picture(tmp_path / folder / "a.jpg")
    table(tmp_path, names=("a.jpg", "a.jpg"))
    assert "a.jpg: no such file, named by" in refusal(tmp_path, "train", format="csv")


def test_two_pictures_of_one_name_are_refused_unless_the_table_names_the_folder(tmp_path):
    for shade, name in enumerate(("day/a.jpg", "night/a.jpg", "day/b.jpg")):
        picture(tmp_path / "photos" / name, shade)
    table(tmp_path)
    assert "'a.jpg' may be " in (said := refusal(tmp_path, "train"))
    assert "photos/day/a.jpg or" in said
    table(tmp_path, names=("night/a.jpg", "day/b.jpg"))
    assert [path.parent.name for path in load_dataset(tmp_path, "train").paths] == ["night", "day"]


def test_one_missing_picture_is_not_looked_for_elsewhere(tmp_path):
    """Where others lie as the table says, a file of the same name elsewhere is likely to be another picture."""
    picture(tmp_path / "images" / "a.jpg")
    picture(tmp_path / "thumbnails" / "b.jpg", 9)
    for names in (("a.jpg", "b.jpg"), ("b.jpg", "a.jpg")):
        table(tmp_path, names=names)
        assert "b.jpg: no such file" in refusal(tmp_path, "train")


def test_a_folder_that_is_named_and_is_there_must_have_the_picture(tmp_path):
    picture(tmp_path / "old" / "a.jpg")
    (tmp_path / "new").mkdir()
    table(tmp_path, names=("new/a.jpg", "new/a.jpg"))
    assert "new/a.jpg: no such file" in refusal(tmp_path, "train")


def test_names_without_a_suffix_and_of_a_cloud(tmp_path):
    for shade, name in enumerate(("a.jpg", "b.png")):
        picture(tmp_path / "train_images" / name, shade)
    table(tmp_path, names=("a", "b"))
    assert [path.name for path in load_dataset(tmp_path, "train").paths] == ["a.jpg", "b.png"]
    table(tmp_path, names=("s3://bucket/x/a.jpg", "s3://bucket/x/b.png"))
    assert [path.name for path in load_dataset(tmp_path, "train").paths] == ["a.jpg", "b.png"]
    picture(tmp_path / "train_images" / "a.png", 7)
    table(tmp_path, names=("a", "b"))
    assert "'a' may be" in refusal(tmp_path, "train")


def test_a_name_that_no_file_system_takes_is_a_missing_picture(tmp_path):
    picture(tmp_path / "photos" / "a.jpg")
    table(tmp_path, names=(f"{'x' * 300}/b.jpg", "a.jpg"))
    assert "no such file" in refusal(tmp_path, "train")
    assert "no split 'xxx" in refusal(tmp_path, "x" * 300)


def test_folders_that_name_splits_are_told_and_read_where_it_is_asked(tmp_path):
    names = ("train/a.jpg", "train/b.jpg", "pictures\\valid\\c.jpg")
    for shade, name in enumerate(names):
        picture(tmp_path / name.replace("\\", "/"), shade)
    write(tmp_path / "all.csv", "path,cat,dog", *(f"{name},{row % 2},1" for row, name in enumerate(names)))
    said = "pictures of the one split 'all' lie in folders that name several: train/, valid/"
    assert said in load_dataset(tmp_path, "all").notes[0]
    data = {split: load_dataset(tmp_path, split, split_column="path") for split in ("train", "valid")}
    check(data["train"], ["cat", "dog"], ["a.jpg", "b.jpg"], [[0, 1], [1, 1]])
    check(data["valid"], ["cat", "dog"], ["c.jpg"], [[0, 1]])
    assert not any("that name several" in note for one in data.values() for note in one.notes)


def test_a_name_without_the_folder_of_a_split_is_refused(tmp_path):
    for shade, name in enumerate(("train/a.jpg", "b.jpg")):
        picture(tmp_path / name, shade)
    write(tmp_path / "all.csv", "path,cat", "train/a.jpg,1", "b.jpg,0")
    assert "'b.jpg' is in no folder that names a split" in refusal(tmp_path, "train", split_column="path")


def test_links_to_folders_that_are_not_searched_are_named(tmp_path):
    root = write_csv(tmp_path / "data", "path,labels", "b.jpg,sky;cat", "a.jpg,", "c.jpg,cat", folder="real")
    (root / "real").rename(tmp_path / "real")
    (root / "pics").symlink_to(tmp_path / "real")
    told = refusal(root)
    assert told.endswith(
        "; pics is a link to a folder and was not searched: name the picture with its folder, as pics/b.jpg, or put a "
        "folder in the place of the link"
    )
    (root / "more").symlink_to(root)
    assert "; more, pics are links to folders and were not searched" in refusal(root)
    write(root / "test.csv", "path,labels", "pics/b.jpg,sky;cat", "pics/a.jpg,", "pics/c.jpg,cat")
    check(load_dataset(root), ["cat", "sky"], ["b.jpg", "a.jpg", "c.jpg"], [[1, 1], [0, 0], [1, 0]])
    write(root / "test.csv", "path,labels", "pics/b.jpg,sky;cat", "d.jpg,")
    assert "not searched" not in refusal(root)
