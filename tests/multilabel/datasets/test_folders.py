"""A folder a label, and which format a folder is read as."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
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
    names = ["a.jpg", "b.png", "b.png", "c.jpg"]
    check(dataset, ["cat", "dog", "emu"], names, [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
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
    assert detect_format(root) == "folders"
    write_csv(root, "path,labels", "a.jpg,cat")
    assert detect_format(root) == "csv"
    write(root / "labels.txt", "cat")
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


def test_what_is_no_data_set_is_told_what_was_looked_for(tmp_path):
    message = refusal(tmp_path)
    for said in ("not recognised as a data set", "JPEGImages", "annotations/instances_", "ImageList", "metadata.jsonl",
                 "<split>.csv", "<split>/<label>/"):  # fmt: skip
        assert said in message
    for format, said in {"voc": "JPEGImages", "coco": "instances_", "csv": "<split>.csv"}.items():
        assert f"not recognised as {format}; expected" in refusal(tmp_path, format=format)
        assert said in refusal(tmp_path, format=format)
    assert "expected one of auto, imagefolder, voc, coco, nuswide, csv, folders" in refusal(tmp_path, format="zip")
    write(tmp_path / "labels.txt", "cat")
    assert refusal(tmp_path).endswith("splits here: none")


@pytest.mark.parametrize("target", ["missing", "loop.jpg"])
def test_a_link_that_leads_nowhere_is_a_missing_picture(tmp_path, target):
    write(tmp_path / "test.csv", "path,cat", "loop.jpg,1")
    (tmp_path / "loop.jpg").symlink_to(target)
    assert "loop.jpg: no such file" in refusal(tmp_path)
