"""The three splits of a data set, loaded and checked once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import DataOptions, MultiLabelDataset, load_dataset, refuse_leaks
from edgepress.multilabel.datasets.passed_over import PassedOver, in_one_line, passed_over
from edgepress.multilabel.datasets.together import notes_of
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.inspection import labels_left_out, too_poor
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.plural import plural
from edgepress.run.recipe import Duplicates, TrainRecipe

log = logging.getLogger("edgepress")


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """The splits of one data set: train is for learning and calibration, val for choices, test for the report."""

    train: MultiLabelDataset
    val: MultiLabelDataset
    test: MultiLabelDataset
    passed_over: tuple[PassedOver, ...] = ()
    """The pictures in the data set's folder that are in none of them."""

    def in_order_of(self, labels: LabelSpace, owner: str) -> Splits:
        """The splits with the columns in the order of `owner`'s labels; see `MultiLabelDataset.in_order_of`."""
        whole = f"the data set {self.train.root}"
        made = [one.in_order_of(labels, owner, whole) for one in (self.train, self.val, self.test)]
        return replace(self, train=made[0], val=made[1], test=made[2])


def splits_of(recipe: TrainRecipe) -> Splits:
    """The splits that a recipe names; see `load_splits`.

    Raises:
        InputError: also where the folder of the run is that of the data set or of a split, whose files would be read as
            labels or pictures afterwards.
    """
    named = (recipe.train, recipe.val, recipe.test)
    if len(set(named)) != len(named):
        raise InputError(
            f"train is {recipe.train!r}, val is {recipe.val!r} and test is {recipe.test!r}; expected three splits; a "
            f"part of one is a split, such as {recipe.train}[:90%] and {recipe.train}[90%:]"
        )
    root, out = Path(recipe.data).resolve(), Path(recipe.out).resolve()
    if out.exists() and not out.is_dir():
        raise InputError(f"{recipe.out}: is a file; expected a folder's name for the run")
    if out == root or any(out.is_relative_to(root / split.partition("[")[0]) for split in named):
        raise InputError(f"{recipe.out}: holds the data set; name another folder for the run, such as --out runs/mine")
    return load_splits(recipe.data, recipe.train, recipe.val, recipe.test, recipe.data_options, recipe.duplicates)


def load_splits(
    data: str, train: str, val: str, test: str, options: DataOptions, duplicates: Duplicates = "refuse"
) -> Splits:
    """Load the three splits and read every picture once.

    Args:
        duplicates: what happens to a picture whose content is in two of them, see `TrainRecipe`.

    Raises:
        InputError: see `load_dataset`; names the first broken picture, one that is in two of them, or a val or test in
            which no label has both a positive and a negative.
    """
    loaded = [load_dataset(data, split, options) for split in (train, val, test)]
    for note in notes_of(loaded):
        log.info("%s", note)
    for split in loaded:
        if split.meanings is not None:
            log.info("%s: %s", split.split, split.meanings)
    order = loaded[0].labels
    loaded = [one.in_order_of(order, f"the split {train!r}", f"the split {one.split!r}") for one in loaded]
    left = tuple(passed_over(loaded[0].root, loaded))
    if (said := in_one_line(left)) is not None:
        log.info("%s", said)
    for split in loaded[1:]:
        if (why := too_poor(split)) is not None:
            raise InputError(why)
        if (said := labels_left_out(split)) is not None:
            log.warning("%s: %s", split.split, said)
    for split in loaded:
        split.check_pictures()
    if duplicates == "leave_out":
        loaded = [_apart(loaded[0], loaded[1:]), _apart(loaded[1], loaded[2:]), loaded[2]]
    refuse_leaks(loaded[0], loaded[1:])
    refuse_leaks(loaded[1], loaded[2:])  # test would favour what val chose, such as thresholds
    return Splits(train=loaded[0], val=loaded[1], test=loaded[2], passed_over=left)


def _apart(split: MultiLabelDataset, others: Sequence[MultiLabelDataset]) -> MultiLabelDataset:
    """A split without the pictures whose content one of the others has.

    Raises:
        InputError: none is left.
    """
    taken = {name: other.split for other in others for name in other.hashes()}
    rows = [row for row, name in enumerate(split.hashes()) if name not in taken]
    shared = [row for row, name in enumerate(split.hashes()) if name in taken]
    if not shared:
        return split
    if not rows:
        raise InputError(
            f"{split.root}, split {split.split!r}: every picture is in {' or '.join(other.split for other in others)} "
            "as well; expected other pictures"
        )
    where = " and ".join(sorted({taken[split.hashes()[row]] for row in shared}))
    left = plural(len(shared), "picture")
    said = f"{left} left out, because {where} has the same content (such as {split.paths[shared[0]]})"
    log.warning("%s: %s", split.split, said)
    return replace(split.subset(np.array(rows)), notes=(*split.notes, said))
