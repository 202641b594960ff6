"""Folds: every picture is in test once, and in nothing else there."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.run.folds import folds_of
from edgepress.run.splits import Splits


def test_every_picture_is_tested_once(splits):
    made = folds_of(splits, 4)
    names = {name for one in (splits.train, splits.val, splits.test) for name in one.hashes()}
    tested = [name for one in made for name in one.test.hashes()]
    assert sorted(tested) == sorted(names)
    for one in made:
        parts = [set(part.hashes()) for part in (one.train, one.val, one.test)]
        assert set.union(*parts) == names
        assert sum(map(len, parts)) == len(names)
        assert (len(one.val), len(one.test)) == (12, 12)
    assert [one.test.hashes() for one in folds_of(splits, 4)] == [one.test.hashes() for one in made]
    assert set(made[0].val.hashes()) == set(made[1].test.hashes())


def test_labels_go_with_their_pictures(splits):
    known = {
        name: target.tolist()
        for one in (splits.train, splits.val, splits.test)
        for name, target in zip(one.hashes(), one.targets, strict=True)
    }
    for one in folds_of(splits, 3):
        for part in (one.train, one.val, one.test):
            assert [known[name] for name in part.hashes()] == part.targets.tolist()


def test_copies_stay_together(splits, tiny_data, tmp_path):
    root = shutil.copytree(tiny_data, tmp_path / "data")
    again = load_dataset(root, "train")
    whole = Splits(train=splits.train.followed_by(again), val=splits.val, test=splits.test)
    for one in folds_of(whole, 3):
        assert not set(one.train.hashes()) & set(one.test.hashes())
        assert len(one.train) + len(one.val) + len(one.test) == len(splits.train) + 48


def test_a_fold_without_positives_is_refused(splits):
    rare = splits.train.targets.copy()
    rare[:] = 0
    rare[0] = 1
    empty = [np.zeros_like(one.targets) for one in (splits.val, splits.test)]
    from dataclasses import replace

    one = Splits(
        train=replace(splits.train, targets=rare),
        val=replace(splits.val, targets=empty[0]),
        test=replace(splits.test, targets=empty[1]),
    )
    with pytest.raises(InputError, match="give fewer folds"):
        folds_of(one, 3)
