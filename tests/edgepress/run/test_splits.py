"""The three splits of a data set: one order of labels, and what stops before anything is learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel.datasets import DataOptions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.run.recipe import TrainRecipe
from edgepress.run.run_report import DataFacts, SplitFacts
from edgepress.run.splits import load_splits, splits_of
from tests.multilabel.layouts import picture, write


def write_coco(root: Path, split: str, names: list[str], shade: int) -> None:
    """Three pictures with `kite`, `drone` and both; the ids of the categories follow `names`."""
    ids = {name: number for number, name in enumerate(names, start=1)}
    annotated = [(0, "kite"), (1, "drone"), (2, "kite"), (2, "drone")]
    for row in range(3):
        picture(root / split / f"{row}.png", shade + row)
    content = {
        "images": [{"id": row, "file_name": f"{row}.png"} for row in range(3)],
        "annotations": [{"image_id": row, "category_id": ids[name]} for row, name in annotated],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for shade, (split, names) in enumerate(
        {"train": ["kite", "drone"], "val": ["drone", "kite"], "test": ["kite", "drone"]}.items()
    ):
        write_coco(tmp_path, split, names, 40 * shade)
    return tmp_path


def test_every_split_has_the_order_of_labels_of_train(root):
    splits = load_splits(str(root), "train", "val", "test", DataOptions())
    for one in (splits.train, splits.val, splits.test):
        assert one.labels.names == ("kite", "drone")
        np.testing.assert_array_equal(one.targets, [[1, 0], [0, 1], [1, 1]])
    turned = splits.in_order_of(LabelSpace(("drone", "kite")), "the bundle")
    assert turned.val.targets.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_splits_with_other_names_are_refused(root):
    write_coco(root, "val", ["drone", "kite", "boat"], 40)
    with pytest.raises(InputError, match=r"split 'train' \(2\) and the split 'val' \(3\) differ: only in .*: boat"):
        load_splits(str(root), "train", "val", "test", DataOptions())


def test_a_picture_of_two_splits_is_refused_or_left_out_of_the_one_that_learns(root, caplog):
    for split, copy in (("train", "val/0.png"), ("val", "test/1.png")):  # the content, under another name
        (root / split / "2.png").write_bytes((root / copy).read_bytes())
    names = (str(root), "train", "val", "test", DataOptions())
    with pytest.raises(InputError, match=r"train/2\.png is the same picture as .*val/0\.png"):
        load_splits(*names)
    splits = load_splits(*names, "leave_out")
    assert [[path.name for path in one.paths] for one in (splits.train, splits.val, splits.test)] == [
        ["0.png", "1.png"], ["0.png", "1.png"], ["0.png", "1.png", "2.png"]]  # fmt: skip
    np.testing.assert_array_equal(splits.train.targets, [[1, 0], [0, 1]])
    said = f"1 picture left out, because val has the same content (such as {root / 'train' / '2.png'})"
    assert splits.train.notes[-1] == said
    assert f"train: {said}" in caplog.text


def test_what_is_said_of_the_data_set_is_logged_once(root, caplog):
    (root / "labels.yml").write_text("")
    caplog.set_level("INFO", "edgepress")
    load_splits(str(root), "train", "val", "test", DataOptions())
    (line,) = [line for line in caplog.messages if "labels.yml: passed over" in line]
    assert line.startswith(f"train, val, test: {root}/labels.yml: ")


def test_a_split_without_a_picture_of_its_own_is_refused(root):
    for name in ("0.png", "1.png", "2.png"):
        (root / "train" / name).write_bytes((root / "test" / "0.png").read_bytes())
    with pytest.raises(InputError, match="split 'train': every picture is in val or test as well"):
        load_splits(str(root), "train", "val", "test", DataOptions(), "leave_out")


def write_tables(root: Path) -> None:
    """Three tables with a label's three answers, beside a picture that none of them names."""
    for number, split in enumerate(("train", "val", "test")):
        for row in range(3):
            picture(root / "images" / f"{split}{row}.png", 60 * number + row)
        write(root / f"{split}.csv", "path,kite,drone", f"{split}0,1,0", f"{split}1,0.0,1", f"{split}2,,0")
    picture(root / "images" / "more.png")


def test_what_cells_were_taken_for_and_what_was_passed_over_is_told_and_kept(tmp_path, caplog):
    write_tables(tmp_path)
    with caplog.at_level("INFO", "edgepress"):
        splits = load_splits(str(tmp_path), "train", "val", "test", DataOptions())
    told = [record.getMessage() for record in caplog.records]
    cells = (
        "1: 2 cells, taken for yes; 0: 2 cells, taken for no; 0.0: 1 cell, taken for no; "
        "empty: 1 cell, taken for unknown"
    )
    assert told[:3] == [f"train: {cells}", f"val: {cells}", f"test: {cells}"]
    assert told[3] == "pictures passed over: 1 that train, val and test do not list (such as images/more.png)"
    kept = SplitFacts(split="train", values=splits.train.values)
    facts = DataFacts(root="", labels=2, labels_counted=2, prevalence=0, train_pictures=3, val_pictures=3,
                      test_pictures=3, splits=(kept,), passed_over=splits.passed_over)  # fmt: skip
    written = json.loads(facts.model_dump_json())
    assert written["splits"][0]["values"][0] == {"text": "1", "cells": 2, "meaning": "yes"}
    assert written["passed_over"] == [
        {"pictures": 1, "reason": "that train, val and test do not list", "example": "images/more.png"}]  # fmt: skip
    assert DataFacts.model_validate_json(facts.model_dump_json()) == facts


def test_a_verb_that_learns_tells_the_same(tmp_path, edgepress):
    write_tables(tmp_path)
    write(tmp_path / "val.csv", "path,kite,drone", "val0,1,", "val1,1,")
    answer = edgepress("teach", tmp_path, "--out", tmp_path / "teacher", "--weights", "none")
    assert answer.code == 2
    assert "train: 1: 2 cells, taken for yes; 0: 2 cells, taken for no; " in answer.err
    assert "pictures passed over: 2 that train, val and test do not list (such as images/more.png)" in answer.err
    assert "mAP counts 0 of 2 labels" in answer.err


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (".", "holds the data set; name another folder for the run"),
        ("val/run", "holds the data set; name another"),
        ("train/0.png", "is a file; expected a folder's name"),
    ],
)
def test_a_run_is_not_written_among_the_pictures(root, out, said):
    recipe = TrainRecipe(data=str(root), train="train[:90%]", out=str(root / out))
    with pytest.raises(InputError, match=said):
        splits_of(recipe)
    splits_of(TrainRecipe(data=str(root), out=str(root / "runs" / "mine")))


def test_one_split_is_not_two(root):
    with pytest.raises(InputError, match=r"val is 'train' .*; expected three splits; .*train\[:90%\] and"):
        splits_of(TrainRecipe(data=str(root), val="train", out=str(root / "runs")))
