"""MultiLabelDataset: one split of a data set in memory, with the content hash of every picture."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files, webdataset
from edgepress.multilabel.datasets.values import CellCount
from edgepress.multilabel.errors import DataChangedError, InputError
from edgepress.multilabel.grouped import GroupedLabels, grouped
from edgepress.multilabel.known_hashes import KnownHashes
from edgepress.multilabel.label_groups import NO_GROUPS, LabelGroups
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.pictures import (
    Picture,
    Reading,
    Shard,
    ShardPicture,
    check_picture,
    decode_picture,
    read_bytes,
    read_file,
)

_HASHES = "_hashes"
"""The attribute in which `MultiLabelDataset` keeps the hashes that it has computed."""
_AGAIN = "start the same command again; what does not depend on it is kept"


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiLabelDataset:
    """One split of a labelled set of pictures."""

    root: Path
    split: str
    labels: LabelSpace
    paths: list[Picture]
    """`[N]` picture files, or places in shards; each is known to exist, but none is decoded yet."""
    targets: np.ndarray
    """uint8 `[N, C]`, multi-hot."""
    ignore: np.ndarray
    """bool `[N, C]`, true where nobody knows the answer."""
    notes: tuple[str, ...] = ()
    """Sentences about what was left out or was read differently from how it is written."""
    values: tuple[CellCount, ...] = ()
    """For a table: each distinct value of its label cells, and what it was read as."""
    copies: tuple[Path, ...] = ()
    """Further files of pictures in `paths`, whose labels were united with theirs."""
    groups: LabelGroups = NO_GROUPS
    """Labels that exclude each other, and labels that imply others."""
    other_roots: tuple[Path, ...] = ()
    """Root folders, besides `root`, of pictures that were added from other data sets."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def meanings(self) -> str | None:
        """For a table: in one line, how many cells each distinct value is, and what it was taken for."""
        return "; ".join(map(str, self.values)) or None

    @property
    def grouped(self) -> GroupedLabels:
        """The groups over the columns of the labels."""
        return grouped(self.groups, self.labels.names)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits `[N, C]` into what ranks the pictures of a label: its log-odds, and without groups the logits."""
        return self.grouped.log_odds(logits)

    def subset(self, indices: np.ndarray) -> MultiLabelDataset:
        """Return the pictures at `indices`, in that order."""
        made = replace(
            self,
            paths=[self.paths[i] for i in indices],
            targets=self.targets[indices],
            ignore=self.ignore[indices],
        )
        if _HASHES in self.__dict__:
            made.__dict__[_HASHES] = [self._hashes[i] for i in indices]
        return made

    @property
    def orders_labels(self) -> bool:
        """Whether labels.txt gives the labels their order; elsewhere it is that in which files happen to name them.

        It may list more than are read, such as a name that --no-label takes for no label.
        """
        listing = self.root / "labels.txt"
        if not files.is_file(listing):
            return False
        return tuple(name for name in LabelSpace.from_file(listing) if name in self.labels) == self.labels.names

    def in_order_of(self, labels: LabelSpace, mine: str, others: str) -> MultiLabelDataset:
        """Return this split with its columns in the order of other labels of the same names.

        A data set's files may give each split an order of its own, as the ids of COCO's categories do.

        Args:
            mine: whose labels the others are, for the error.
            others: what the error calls this split.

        Raises:
            InputError: the names differ, or labels.txt gives them another order; the message says which.
        """
        if labels.names == self.labels.names:
            return self
        if self.orders_labels or set(labels.names) != set(self.labels.names):
            labels.require_equal(
                self.labels, mine, others, remedy=f"give {self.root / 'labels.txt'} the order of {mine}"
            )
        return self.with_labels(labels)

    def with_labels(self, labels: LabelSpace) -> MultiLabelDataset:
        """Return this split with some of its labels alone, in the order given.

        Raises:
            InputError: one of them is not among the split's.
        """
        columns = [self.labels.index(name) for name in labels]
        made = replace(
            self,
            labels=labels,
            targets=self.targets[:, columns],
            ignore=self.ignore[:, columns],
            groups=self.groups.select(labels),
        )
        if _HASHES in self.__dict__:
            made.__dict__[_HASHES] = self._hashes
        return made

    def followed_by(self, other: MultiLabelDataset) -> MultiLabelDataset:
        """Return this split's pictures followed by those of another split with the same labels."""
        made = replace(
            self,
            paths=[*self.paths, *other.paths],
            targets=np.concatenate([self.targets, other.targets]),
            ignore=np.concatenate([self.ignore, other.ignore]),
            other_roots=tuple(dict.fromkeys((*self.other_roots, other.root, *other.other_roots))),
        )
        made.__dict__[_HASHES] = [*self.hashes(), *other.hashes()]
        return made

    def check_pictures(self) -> None:
        """Read every picture once, so that a broken one stops the work at the start rather than in the middle.

        Each byte of a shard that has an index is also compared with the sha256 there, just before its pictures are
        read, so that the disk is read only once. Pictures of a large data set that were checked before and have not
        changed since are not read again (`known_hashes`).

        Raises:
            InputError: a picture is missing, truncated, too large or not a picture (the message names the first), or a
                shard has changed.
        """
        checked: set[Shard] = set()

        def check(path: Picture) -> Reading:
            if isinstance(path, ShardPicture) and path.shard not in checked:
                checked.add(path.shard)
                webdataset.check_shard(path.shard)
            return check_picture(path)

        hashes = KnownHashes(self.root, "checked").of(self.paths, check)
        self.__dict__.setdefault(_HASHES, hashes)  # these are hashes of the very bytes that were checked

    def picture(self, row: int) -> np.ndarray:
        """Return a picture's pixels, uint8 RGB `[H, W, 3]`; it raises the same errors as `stored`."""
        return decode_picture(self.stored(row), str(self.paths[row]))

    def stored(self, row: int) -> bytes:
        """Return a picture's bytes, the same bytes that `hashes`, and therefore `fingerprint`, describe.

        Raises:
            InputError: a picture whose hash was not requested before cannot be read; the message names it.
            DataChangedError: the picture has changed since, or is gone; the message names it.
        """
        expected = self.hashes()[row]
        path = self.paths[row]
        try:
            data = read_bytes(path)
        except InputError as error:
            raise DataChangedError(f"{error}; it was there when the data set was loaded: {_AGAIN}") from None
        if hashlib.sha256(data).hexdigest() != expected:
            for root in (self.root, *self.other_roots):
                KnownHashes(root).forget()
            raise DataChangedError(f"{path}: another picture than when the data set was loaded: {_AGAIN}")
        return data

    def hashes(self) -> list[str]:
        """sha256 of every picture file, in order; the files are read once, or were before (`known_hashes`)."""
        return self._hashes

    @functools.cached_property
    def _hashes(self) -> list[str]:
        return KnownHashes(self.root).of(self.paths, read_file)

    def fingerprint(self) -> str:
        """sha256 of labels, targets, ignore mask, label groups and the content of every picture: it changes when any of
        them does.

        For pictures in shards, the stored bytes are read and hashed as well, whatever an index says, so it equals the
        fingerprint of the folder that they came from.
        """
        digest = hashlib.sha256(json.dumps(self.labels.names).encode())
        digest.update("".join(self.hashes()).encode())
        digest.update(self.targets.tobytes())
        digest.update(self.ignore.tobytes())
        if self.groups:
            digest.update(self.groups.model_dump_json().encode())
        return digest.hexdigest()
