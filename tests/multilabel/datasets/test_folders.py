"""A folder a label, and which format a folder is read as."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.datasets import detect_format, folders, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write, write_coco, write_csv, write_nus, write_voc

# A folder a label


def test_folders_join_the_same_name_and_content_only(tmp_path):
    picture(tmp_path / "test" / "dog" / "a.jpg", 1)
    picture(tmp_path / "test" / "cat" / "a.jpg", 1)
    picture(tmp_path / "test" / "cat" / "b.png", 2)  # b.png: another content under one name
    picture(tmp_path / "test" / "dog" / "b.png", 3)
    picture(tmp_path / "test" / "dog" / "c.jpg", 1)  # a.jpg's content under another name
    picture(tmp_path / "train" / "emu" / "a.jpg", 1)
    picture(tmp_path / "test" / "loose.jpg", 1)
    picture(tmp_path / "test" / "dog" / "more" / "deep.jpg", 1)
    picture(tmp_path / "test" / ".hidden" / "x.jpg", 1)
    write(tmp_path / "test" / "dog" / "readme.txt", "no picture")
    dataset = load_dataset(tmp_path)
    names = ["a.jpg", "b.png", "b.png", "c.jpg", "deep.jpg"]  # what is below a label's folder is that label's
    check(dataset, ["cat", "dog", "emu"], names, [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]])
    assert dataset.paths[0].parent.name == "cat"
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("folders", ["test", "train"])
    write(tmp_path / "labels.txt", "emu", "dog", "cat")
    assert load_dataset(tmp_path).labels.names == ("emu", "dog", "cat")
    write(tmp_path / "labels.txt", "emu", "cat")
    assert "label 'dog' is not in labels.txt" in refusal(tmp_path)


def test_folders_refuse_what_is_not_there(tmp_path):
    picture(tmp_path / "test" / "dog" / "a.jpg")
    (tmp_path / "val").mkdir()
    assert refusal(tmp_path, "train").endswith("splits here: test")
    assert "the split 'val' is empty" in refusal(tmp_path, "val")
    for split in ("..", "/etc", "test/dog"):
        assert f"split {split!r}" in refusal(tmp_path, split)
    (tmp_path / "test" / "cat").mkdir()
    (tmp_path / "test" / "cat" / "loop.jpg").symlink_to("loop.jpg")
    assert load_dataset(tmp_path).labels.names == ("cat", "dog")


# Which format


def test_the_most_specific_format_wins(tmp_path):
    root = tmp_path
    picture(root / "test" / "cat" / "a.jpg")
    picture(root / "test" / "dog" / "b.jpg", 9)
    assert detect_format(root) == "folders"
    write_csv(root, "path,labels", "a.jpg,cat", "b.jpg,dog")
    assert detect_format(root) == "csv"
    write(root / "labels.txt", "cat", "dog")
    assert detect_format(root) == "csv"  # labels.txt belongs to the table
    write(root / "test" / "metadata.jsonl", '{"file_name": "cat/a.jpg", "labels": ["cat"]}')
    assert detect_format(root) == "imagefolder"
    write_nus(root)
    assert detect_format(root) == "nuswide"
    write_coco(root)
    assert detect_format(root) == "coco"
    write_voc(root, graded=True)
    assert detect_format(root) == "voc"
    for format in ("voc", "coco", "nuswide", "imagefolder", "csv", "folders"):
        assert len(load_dataset(root, "val" if format == "coco" else "test", format=format)) >= 1


SPEAKING = ["metadata.db", "x.json", "data.yaml", "annotations.txt", "test/a.xml", "test/cat/a.txt", "t.csv"]


@pytest.mark.parametrize("file", SPEAKING)
def test_a_tree_with_a_file_that_speaks_of_labels_is_not_read_as_folders(tmp_path, file):
    picture(tmp_path / "test" / "cat" / "a.jpg")
    picture(tmp_path / "test" / "dog" / "b.jpg", 9)
    write(tmp_path / "test" / "readme.txt", "photographs")
    assert detect_format(tmp_path) == "folders"
    write(tmp_path / file, "something else")
    message = refusal(tmp_path)
    assert f"{file} speaks of labels" in message
    assert message.endswith("--format folders insists")
    assert len(load_dataset(tmp_path, format="folders")) == 2


@pytest.mark.parametrize("label", ["images", "labels", "masks", "annotations", "default", "train", "Val2017", "test"])
def test_a_label_named_like_something_else_is_not_believed(tmp_path, label):
    picture(tmp_path / "train" / "cat" / "a.jpg")
    picture(tmp_path / "train" / label / "b.jpg", 9)
    said = "/ holds masks of a segmentation" if label == "masks" else " is named as no label is"
    assert f"train/{label}{said}" in refusal(tmp_path, "train")
    data = load_dataset(tmp_path, "train", format="folders")
    assert data.labels.names == tuple(sorted(("cat", label)))
    like_a_split = label in ("train", "test")
    assert data.notes == ((f"{label} is a label here, although splits are named so",) if like_a_split else ())


def test_labels_without_a_split_above_and_masks_below_are_not_believed(tmp_path):
    picture(tmp_path / "heron" / "camera1" / "a.jpg")
    picture(tmp_path / "ibis" / "camera2" / "b.jpg", 9)
    assert "none of the folders heron, ibis is named as a split" in refusal(tmp_path, "heron")
    other = tmp_path / "other"
    picture(other / "train" / "cat" / "images" / "a.jpg")
    picture(other / "train" / "dog" / "masks" / "b.jpg", 9)
    assert "train/dog/masks is named as pictures are not" in refusal(other, "train")


def test_a_split_in_which_everything_has_the_one_label_is_refused(tmp_path):
    picture(tmp_path / "train" / "cat" / "a.jpg")
    picture(tmp_path / "train" / "cat" / "b.jpg", 9)
    message = "split 'train': each of 2 pictures has the one label there is, 'cat'"
    assert message in refusal(tmp_path, "train")
    assert message in refusal(tmp_path, "train", format="folders")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds nothing; expected a folder of pictures with labels"),
        ({"labels.txt": "cat"}, "no picture's labels: expected <split>/metadata.jsonl or <split>.csv"),
        ({"labels.txt": "cat", "train_list.txt": "a.jpg 0"}, "train_list.txt lists pictures in text"),
        ({"t.csv": "a,b\n1,2"}, "t.csv has no column for the picture among a, b"),
        ({"t.csv": "image\na.jpg"}, "t.csv has no column beside image"),
        ({"Annotations/a.xml": "<annotation/>"}, "no JPEGImages/ or images/ is beside it"),
        ({"x.json": '{"images": [], "annotations": []}'}, "it has images and annotations, and no categories"),
        ({"data.yaml": "names: [a]", "train/images/a.txt": ""}, "data.yaml is YOLO's"),
        ({"annotations.xml": "<annotations><track id='0' label='a'>"}, "annotations.xml is CVAT's for video"),
        ({"a.jpg": ""}, "nothing says their labels"),
        ({"cat/a.jpg": ""}, "folders of pictures without a split above them"),
    ],
)
def test_a_folder_that_no_reader_takes_is_told_what_it_lacks(tmp_path, files, said):
    for name, text in files.items():
        write(tmp_path / name, text)
    message = refusal(tmp_path)
    assert "not recognised as a data set" in message
    assert said in message


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"data.yaml": "names: [bolt]", "train/labels/a.txt": "0 .5 .5 .1 .1"}, "data.yaml is YOLO's"),
        ({"train/labels/a.txt": "0 .5 .5 .1 .1"}, "train/labels/ holds YOLO's text files of boxes"),
        ({"images/x.txt": "", "labels/train/a.txt": "0 .5 .5 .1 .1"}, "labels/train/ holds YOLO's text files of boxes"),
        ({"val/val_annotations.txt": "a.jpg\tn01\t0\t0\t5\t5"}, "val/val_annotations.txt is tiny-imagenet's list"),
        ({"train/masks/a.png": ""}, "train/masks/ holds masks of a segmentation"),
    ],
)
def test_a_known_tree_that_is_no_folder_a_label_is_told_what_to_convert_to(tmp_path, files, said):
    picture(tmp_path / "train" / "images" / "a.jpg")
    picture(tmp_path / "val" / "images" / "a.jpg", 9)
    for name, text in files.items():
        write(tmp_path / name, text)
    message = refusal(tmp_path, "train")
    assert said in message
    assert "--format folders" not in message
    assert "export the set as" in message or "move each picture of val/images/ to val/<label>/" in message


def test_tiny_imagenet_moved_as_its_message_says_is_read(tmp_path):
    for label in ("n01", "n02"):
        picture(tmp_path / "train" / label / "images" / f"{label}_0.jpg", int(label[1:]))
        write(tmp_path / "train" / label / f"{label}_boxes.txt", f"{label}_0.jpg\t0\t0\t5\t5")
        picture(tmp_path / "val" / "images" / f"val_{label}.jpg", 7)
    write(tmp_path / "val" / "val_annotations.txt", "val_n01.jpg\tn01\t0\t0\t5\t5", "val_n02.jpg\tn02\t0\t0\t5\t5")
    assert "then delete it and the lists of boxes, train/<label>/<label>_boxes.txt" in refusal(tmp_path, "val")
    (tmp_path / "val" / "val_annotations.txt").unlink()
    for label in ("n01", "n02"):
        (tmp_path / "train" / label / f"{label}_boxes.txt").unlink()
        (tmp_path / "val" / label).mkdir()
        (tmp_path / "val" / "images" / f"val_{label}.jpg").rename(tmp_path / "val" / label / f"val_{label}.jpg")
    (tmp_path / "val" / "images").rmdir()
    check(load_dataset(tmp_path, "val"), ["n01", "n02"], ["val_n01.jpg", "val_n02.jpg"], [[1, 0], [0, 1]])
    assert load_dataset(tmp_path, "train").labels.names == ("n01", "n02")


def test_a_format_that_is_asked_for_says_what_it_expects(tmp_path):
    for format, said in {"voc": "JPEGImages", "coco": "instances_", "csv": "<split>.csv"}.items():
        assert f"not recognised as {format}; expected" in refusal(tmp_path, format=format)
        assert said in refusal(tmp_path, format=format)
    picture(tmp_path / "cat" / "a.jpg")
    assert "folders of pictures without a split above them" in refusal(tmp_path, format="folders")
    write(tmp_path / "test.csv", "path,cat", "cat/a.jpg,1", "cat/a.jpg,1")
    assert refusal(tmp_path, format="voc").endswith("; without --format it is read as csv")
    assert "format is 'zip': input should be 'auto', 'imagefolder'" in refusal(tmp_path, format="zip")


@pytest.mark.parametrize("target", ["missing", "loop.jpg"])
def test_a_link_that_leads_nowhere_is_a_missing_picture(tmp_path, target):
    write(tmp_path / "test.csv", "path,cat", "loop.jpg,1")
    (tmp_path / "loop.jpg").symlink_to(target)
    assert "loop.jpg: no such file" in refusal(tmp_path)


def test_the_pictures_of_datumaros_folder_no_label_have_none(tmp_path):
    for shade, name in enumerate(("boat/a.jpg", "no_label/b.jpg", "crane/c.jpg")):
        picture(tmp_path / "train" / name, shade)
    data = load_dataset(tmp_path, "train")
    check(data, ["boat", "crane"], ["a.jpg", "c.jpg", "b.jpg"], [[1, 0], [0, 1], [0, 0]])
    assert data.notes == ("1 picture in no_label/ is read as one without a label",)


@pytest.mark.parametrize(
    "joined", ["cat+dog", "cat&dog", "cat,dog", "dog, cat", "cat_dog", "cat_and_dog", "cat and dog"]
)
def test_a_folder_that_joins_the_names_of_others_is_refused(tmp_path, joined):
    for shade, label in enumerate(("cat", "dog", joined)):
        picture(tmp_path / "test" / label / f"{shade}.jpg", shade)
    assert f"the folder {joined!r} joins '{'dog' if joined[0] == 'd' else 'cat'}', " in refusal(tmp_path)
    write(tmp_path / "labels.txt", "cat", "dog", joined)
    data = load_dataset(tmp_path)
    assert data.labels.names == ("cat", "dog", joined)
    assert {path.name: row.tolist().index(1) for path, row in zip(data.paths, data.targets, strict=True)} == {
        "0.jpg": 0, "1.jpg": 1, "2.jpg": 2,
    }  # fmt: skip
    assert data.targets.sum() == 3


def test_a_folder_whose_parts_are_no_folders_is_a_label(tmp_path):
    for shade, label in enumerate(("cat", "cat_tree", "hot dog")):
        picture(tmp_path / "test" / label / f"{shade}.jpg", shade)
    check(load_dataset(tmp_path), ["cat", "cat_tree", "hot dog"], ["0.jpg", "1.jpg", "2.jpg"], np.eye(3))


@pytest.mark.parametrize("mask", ["a_mask.png", "a-mask.jpg", "a_mask_1.png", "a_seg.png", "a_gt.png"])
def test_masks_beside_their_pictures_are_no_pictures(tmp_path, mask):
    for name in ("train/cat/a.jpg", "train/dog/b.jpg", f"train/cat/{mask}"):
        picture(tmp_path / name)
    assert f"train/cat/{mask} is named as a mask of the picture beside it" in refusal(tmp_path, "train")
    assert len(load_dataset(tmp_path, "train", format="folders")) == 3


@pytest.mark.parametrize("folder", ["ground_truth", "masks", "gt", "labels"])
def test_a_folder_of_masks_is_no_split(tmp_path, folder):
    for name in ("train/cat/a.jpg", "test/dog/b.jpg", f"{folder}/dog/b.png"):
        picture(tmp_path / name)
    assert folder in refusal(tmp_path, "train")


def test_a_picture_below_two_labels_is_refused(tmp_path):
    for shade, name in enumerate(("train/cat/a.jpg", "train/dog/b.jpg", "train/cat/dog/c.jpg")):
        picture(tmp_path / name, shade)
    message = refusal(tmp_path, "train")
    assert "c.jpg: is below the label 'cat' and the folder 'dog', which is a label as well" in message


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ({"data/train/cat/a.jpg": "", "data/train/dog/b.jpg": ""}, "data"),
        ({"set/x/train.csv": "path,labels\na.jpg,cat", "set/x/a.jpg": ""}, "set/x"),
        ({"my/train.csv": "path,labels\na.jpg,cat", "my/images/a.jpg": ""}, "my"),
    ],
)
def test_a_folder_that_holds_the_data_set_is_told_where_it_is(tmp_path, files, there):
    for shade, (name, text) in enumerate(files.items()):
        write(tmp_path / name, text) if text else picture(tmp_path / name, shade)
    assert refusal(tmp_path).endswith(f"; {tmp_path / there} is a data set: give that folder")


def test_a_folder_of_tables_without_pictures_is_no_data_set_to_give(tmp_path):
    picture(tmp_path / "photos" / "a.jpg")
    write(tmp_path / "tables" / "train.csv", "path,cat", "a.jpg,1")
    assert "give that folder" not in refusal(tmp_path)


def test_the_search_for_the_data_set_inside_looks_at_each_folder_once(tmp_path, monkeypatch):
    names = [f"a/{one}/{two}/{three}" for one in "abc" for two in "abc" for three in "abc"]
    for shade, name in enumerate(names):
        picture(tmp_path / name / "x.jpg", shade)
    asked = []
    doubt = folders.doubt
    monkeypatch.setattr(folders, "doubt", lambda root, found: asked.append(root) or doubt(root, found))
    assert "--format folders insists" in refusal(tmp_path)
    assert sorted(set(asked)) == sorted(asked)
    assert len(asked) > 1


def test_folders_within_the_folder_of_a_label_are_told(tmp_path):
    for shade, name in enumerate(("animal/cat/a.jpg", "animal/dog/b.jpg", "plant/c.jpg")):
        picture(tmp_path / "test" / name, shade)
    data = load_dataset(tmp_path, "test")
    check(data, ["animal", "plant"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [1, 0], [0, 1]])
    said = "folders within a label's folder say nothing more: their pictures have that label: animal/cat, animal/dog"
    assert data.notes == (said,)


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (("cat/a.jpg", "dog/b.jpg"), "not recognised as folders; nor as another data set: holds folders of pictures"),
        (("a.jpg",), "not recognised as folders; expected <split>/<label>/ with pictures; nor as another data set: "),
    ],
)
def test_what_is_no_folders_by_request_is_told_once(tmp_path, paths, said):
    for shade, path in enumerate(paths):
        picture(tmp_path / path, shade)
    told = refusal(tmp_path, format="folders")
    assert told.startswith(f"{tmp_path}: {said}")
    assert told.count("expected <split>/<label>/ with pictures") == 1
    assert told.count("not recognised") == 1


def test_folders_that_are_named_as_splits_and_read_as_labels_are_told_once(tmp_path):
    for shade, path in enumerate(("x/train/cat/a.jpg", "x/train/dog/b.jpg", "x/val/dog/c.jpg")):
        picture(tmp_path / path, shade)
    notes = load_dataset(tmp_path, "x", format="folders").notes
    assert "train, val are labels here, although splits are named so" in notes
    assert not any("folders that name several" in note for note in notes)
