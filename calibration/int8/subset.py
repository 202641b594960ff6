"""The calibration set: a few hundred training pictures, which by default show every label."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Literal

import numpy as np

from edgepress.calibration.int8.embeddings import k_centre
from edgepress.multilabel.datasets import MultiLabelDataset, refuse_leaks
from edgepress.multilabel.errors import InputError, shown

log = logging.getLogger("edgepress")

Choice = Literal["covering", "random", "k-centre"]
FEW = 5
"""Number of pictures of a label below which the label is reported."""
POOL = 20
"""Most training pictures that k-centre embeds, as a multiple of those it chooses; larger sets are sampled first."""


def choose_calibration_set(
    train: MultiLabelDataset,
    others: list[MultiLabelDataset],
    count: int,
    seed: int = 0,
    choice: Choice = "covering",
    embed: Callable[[MultiLabelDataset], np.ndarray] | None = None,
) -> np.ndarray:
    """Indices into `train`, int64 `[min(count, N)]`, sorted.

    `covering` takes every label at least once, rare labels first, and then pictures at random; `random` draws at
    random; `k-centre` takes pictures as far apart as possible, starting from one drawn at random. See also
    `tell_labels`.

    Args:
        train: the split that pictures are drawn from.
        others: the splits that measure; a training picture whose content is also in one of them is refused.
        count: number of pictures.
        seed: the same seed draws the same pictures.
        embed: maps pictures to embeddings `[N, D]`, for k-centre.

    Raises:
        InputError: a training picture is also in another split, or count is too small to show every label.
    """
    if count < 1:
        raise InputError(f"calibration pictures: received {count}; expected at least 1")
    refuse_leaks(train, others)
    order = np.random.default_rng(seed).permutation(len(train))
    count = min(count, len(train))
    if choice == "covering":
        require_enough(train, count, seed)
        covering = _covering(train, order)
        chosen = [*covering, *(int(index) for index in order if int(index) not in covering)][:count]
    elif choice == "random":
        chosen = order[:count].tolist()
    else:
        assert embed is not None, "k-centre needs embeddings"
        pool = order[: POOL * count]
        chosen = [int(pool[row]) for row in k_centre(embed(train.subset(pool)), count, first=0)]
    return np.array(sorted(chosen), dtype=np.int64)


def require_enough(train: MultiLabelDataset, count: int, seed: int = 0) -> None:
    """Raise an error if this number of pictures cannot show every label.

    Args:
        count: number of pictures that `covering` will choose.
        seed: as for `choose_calibration_set`.

    Raises:
        InputError: the number is too small; the message says how many are needed.
    """
    count = min(count, len(train))
    needed = len(_covering(train, np.random.default_rng(seed).permutation(len(train))))
    if needed > count:
        raise InputError(f"{count} calibration pictures cannot show every label; at least {needed} are needed")


def missing_labels(pictures: MultiLabelDataset) -> tuple[str, ...]:
    """Labels that none of the pictures shows."""
    return tuple(pictures.labels.names[label] for label in np.flatnonzero(~(pictures.targets == 1).any(axis=0)))


def calibration_hash(pictures: MultiLabelDataset) -> str:
    """sha256 over the sorted content hashes of the pictures: the same set has the same name in any order."""
    return hashlib.sha256("".join(sorted(pictures.hashes())).encode()).hexdigest()


def _covering(train: MultiLabelDataset, order: np.ndarray) -> set[int]:
    """Pictures that show every label between them, with the rare labels' first."""
    chosen: set[int] = set()
    positives = train.targets.sum(axis=0, dtype=np.int64)
    covered = positives == 0
    for label in np.argsort(positives, kind="stable"):
        if covered[label]:
            continue
        # Of the pictures with this label, choose the one that shows most of the missing labels.
        having = order[train.targets[order, label] == 1]
        gain = train.targets[having][:, ~covered].sum(axis=1)
        best = int(having[int(gain.argmax())])
        chosen.add(best)
        covered |= train.targets[best].astype(bool)
    return chosen


def tell_labels(train: MultiLabelDataset, pictures: MultiLabelDataset) -> None:
    """Name the labels that calibration pictures lack, in a warning, and those that few show, with the rarest first."""
    missing = missing_labels(pictures)
    if missing:
        untaught = set(missing_labels(train))
        names = [f"{name} (none in train does)" if name in untaught else name for name in missing]
        log.warning("no calibration picture shows %s", shown(names))
    counts = (pictures.targets == 1).sum(axis=0)
    few = [label for label in np.argsort(counts, kind="stable") if 0 < counts[label] < FEW]
    if few:
        names = [f"{train.labels.names[label]} ({counts[label]})" for label in few]
        log.info("fewer than %d calibration pictures show %s", FEW, shown(names))


def spread(images: np.ndarray, count: int) -> np.ndarray:
    """At most this number of a set's pictures, from all over it: in folder order it begins with a single label."""
    return images[:: max(1, -(-len(images) // count))]
