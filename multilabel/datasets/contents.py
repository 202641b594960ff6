"""Contents: what a reader returns for one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.values import CellCount
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.pictures import Picture


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """One split, as its files describe it."""

    labels: LabelSpace
    paths: Sequence[Picture]
    """`[N]` picture files, or places in shards."""
    targets: np.ndarray
    """uint8 `[N, C]`, multi-hot."""
    ignore: np.ndarray
    """bool `[N, C]`, true where nobody knows the answer."""
    notes: tuple[str, ...] = ()
    """Sentences about what was left out or was read differently from how it is written."""
    values: tuple[CellCount, ...] = ()
    """For a table: what its distinct values were read as."""
    copies: tuple[Path, ...] = ()
    """Further files of pictures in `paths`, whose labels were united with theirs."""


class Reader(Protocol):
    """What a module that reads a format provides."""

    LOOKS_FOR: str
    """Files by which the format is recognised, as messages call them."""
    OPTIONS: frozenset[str]
    """The fields of `DataOptions` that the format uses."""

    def recognise(self, root: Path, options: DataOptions) -> bool: ...
    def splits(self, root: Path, options: DataOptions) -> list[str]: ...
    def read(self, root: Path, split: str, options: DataOptions) -> Contents: ...
