"""The three splits of a data set, loaded and looked through once."""

from __future__ import annotations

from dataclasses import dataclass

from edgepress.multilabel.datasets import Difficult, Format, MultiLabelDataset, load_dataset, refuse_leaks
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import labels_counted
from edgepress.run.recipe import TrainRecipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """The splits of one data set, each with its part: train is learnt and calibrated on, val chooses, test reports."""

    train: MultiLabelDataset
    val: MultiLabelDataset
    test: MultiLabelDataset


def splits_of(recipe: TrainRecipe) -> Splits:
    """The splits that a recipe names; see `load_splits`."""
    return load_splits(
        recipe.data, recipe.train, recipe.val, recipe.test, format=recipe.format, difficult=recipe.difficult
    )


def load_splits(
    data: str, train: str, val: str, test: str, *, format: Format = "auto", difficult: Difficult = "ignore"
) -> Splits:
    """Load the three splits and read every picture once.

    Raises:
        InputError: see `load_dataset`; names the first broken picture, and one that stands in two of them.
    """
    loaded = [load_dataset(data, split, format, difficult=difficult) for split in (train, val, test)]
    for split in loaded:
        split.check_pictures()
        loaded[0].labels.require_equal(split.labels, f"the split {train!r}", f"the split {split.split!r}")
    for split in loaded[1:]:
        if labels_counted(split.targets, split.ignore) == 0:
            raise InputError(f"{data}, split {split.split!r}: no label has a positive picture: mAP is not defined")
    refuse_leaks(loaded[0], loaded[1:])
    refuse_leaks(loaded[1], loaded[2:])  # what val chose, thresholds among it, test would find good
    return Splits(train=loaded[0], val=loaded[1], test=loaded[2])
