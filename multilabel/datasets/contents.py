"""Contents: what a reader gives of one split."""

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
    """One split as its files have it."""

    labels: LabelSpace
    paths: Sequence[Picture]
    """`[N]`"""
    targets: np.ndarray
    """uint8 `[N, C]`, multi-hot."""
    ignore: np.ndarray
    """bool `[N, C]`, true where nobody knows the answer."""
    notes: tuple[str, ...] = ()
    """What was read otherwise than it is written, or left out, a sentence each."""
    values: tuple[CellCount, ...] = ()
    """Of a table what its distinct values were taken for."""


class Reader(Protocol):
    """What a module that reads a format gives."""

    LOOKS_FOR: str
    """The files by which the format is recognised, for messages."""
    OPTIONS: frozenset[str]
    """The fields of `DataOptions` that it uses."""

    def recognise(self, root: Path, options: DataOptions) -> bool: ...
    def splits(self, root: Path, options: DataOptions) -> list[str]: ...
    def read(self, root: Path, split: str, options: DataOptions) -> Contents: ...
