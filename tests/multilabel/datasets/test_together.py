"""What `data` says of splits that `run` could not use together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.datasets.together import few_to_prove, missing_splits, notes_of, unlike_labels
from tests.multilabel.layouts import picture, write


def tables(root, **headers: str):
    for shade, (split, header) in enumerate(headers.items()):
        rows = [f"{split}{row}.jpg,{row % 2},{(row + 1) % 2}" for row in range(2)]
        write(root / f"{split}.csv", header, *rows)
        for row in range(2):
            picture(root / f"{split}{row}.jpg", 20 * shade + row)
    return root


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        ({"train": 9, "test": 99}, "test has 99 pictures, on which few engines can be proven: give it at least 100"),
        ({"train": 900, "testing": 1}, "testing has 1 picture, on which"),
        ({"train": 900, "test": 100}, None),
        ({"train": 9, "val": 9}, None),
    ],
)
def test_a_test_split_that_is_too_small_to_prove_an_engine_is_told(pictures, told):
    found = few_to_prove(pictures)
    assert found is None if told is None else found.startswith(told)


def test_data_tells_that_test_is_too_small(tmp_path, edgepress):
    root = tables(tmp_path, train="path,cat,dog", val="path,cat,dog", test="path,cat,dog")
    told = few_to_prove({"test": 2})
    assert edgepress("data", root).out.splitlines()[-1] == told
    assert edgepress("data", root, "--json").json["few_to_prove"] == told


def test_labels_that_differ_in_case_between_splits_are_told(tmp_path, edgepress):
    root = tables(tmp_path, val="path,cat,dog", train="path,Cat,dog", test="path,dog,Cat")
    (said,) = unlike_labels({split: load_dataset(root, split) for split in ("val", "train", "test")})
    assert "only in the split 'train': Cat; only in the split 'val': cat" in said
    assert said.endswith("'Cat' and 'cat' differ in case alone: run refuses them together")
    answer = edgepress("data", root)
    assert answer.code == 0
    assert "'Cat' and 'cat' differ in case alone" in answer.out
    assert edgepress("data", root, "--json").json["unlike_labels"] == unlike_labels(
        {split: load_dataset(root, split) for split in ("test", "train", "val")}
    )


def test_the_same_labels_in_another_order_are_no_difference(tmp_path):
    root = tables(tmp_path, train="path,cat,dog", val="path,dog,cat")
    assert unlike_labels({split: load_dataset(root, split) for split in ("train", "val")}) == []
    assert unlike_labels({}) == []


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ({"train": 9, "val": 3, "test": 3}, None),
        ({"train2017": 9, "val2017": 3, "test": 3}, None),
        ({}, None),
        ({"train": 9, "valid": 3, "test": 3}, "here is no val: --val valid"),
        ({"train": 9, "test": 3}, "no val: --train 'train[:85%]' --val 'train[85%:]'"),
        ({"train": 9, "validation": 3}, "no test: --val validation --train 'train[:85%]' --test 'train[85%:]'"),
        ({"all": 9}, "--train 'all[:70%]' --val 'all[70%:85%]' --test 'all[85%:]'"),
        ({"few": 1, "not evaluation": 9, "val": 3, "test": 2}, "no train: --train 'not evaluation'"),
        ({"val": 2, "test": 3}, "no train: give train pictures of its own, with labels as the other splits have them"),
        ({"test": 9}, "no train and no val: --train 'test[:70%]' --val 'test[70%:85%]' --test 'test[85%:]'"),
        ({"Training": 9, "val": 2, "test": 3}, "no train: --train Training"),
        ({"Training": 9, "Validierung": 2, "Testdaten": 3}, "--train Training --val Validierung --test Testdaten"),
        ({"train": 9, "test_a": 2, "test_b": 3, "val": 2}, "no test: --train 'train[:85%]' --test 'train[85%:]'"),
        ({"Training": 9, "more": 12, "test": 3}, "no val: --train 'Training[:85%]' --val 'Training[85%:]'"),
    ],
)  # fmt: skip
def test_splits_that_run_misses_and_what_makes_them(pictures, said):
    found = missing_splits(list(pictures), pictures)
    assert (found is None) if said is None else found is not None and found.endswith(said)


def test_data_names_options_that_run_takes(tmp_path, edgepress):
    root = tables(tmp_path, train="path,cat,dog", valid="path,cat,dog", test="path,cat,dog")
    said = "run reads train, val and test; here is no val: --val valid"
    assert said in edgepress("data", root).out
    assert edgepress("data", root, "--json").json["missing_splits"] == said
    assert "run reads" not in edgepress("data", root, "--split", "train").out


@pytest.mark.parametrize("name", ["labels.yaml", "labels.yml"])
def test_what_is_said_of_the_data_set_is_told_once_for_all_of_its_splits(edgepress, tiny_data, tmp_path, name):
    """An empty file of label groups was in the log once per split."""
    root = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (root / name).write_text("")
    told = edgepress("data", root)
    assert told.code == 0, told.err
    assert told.err.count(f"{name}: passed over") == 1
    (line,) = [line for line in told.err.splitlines() if f"{name}: passed over" in line]
    assert all(split in line.partition(name)[0] for split in ("train", "val", "test"))
    told = edgepress("shard", root, "--out", tmp_path / "shards")
    assert told.err.count(f"{name}: passed over") == 1
    splits = [load_dataset(root, split) for split in ("train", "val", "test")]
    val = replace(splits[1], notes=(*splits[1].notes, "one is odd"))
    assert notes_of([splits[0], val])[1:] == ["val: one is odd"]
