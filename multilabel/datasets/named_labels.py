"""Pictures whose labels are given by name, one item after another, as one split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.elsewhere import Elsewhere
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.labels import one_form


@dataclass(frozen=True)
class Item:
    """A picture and its labels, as a file names them."""

    picture: str
    labels: tuple[str, ...]
    where: str
    """The file and the place in it, for errors."""
    complete: bool = True
    """Whether these are all of the picture's labels; otherwise nobody knows whether it has the others."""


def pictures_below(root: Path, split: str) -> Pictures:
    """The pictures of a data set whose files name them freely: in the root, its usual folders, or any other."""
    return Pictures(root, root / split, root / "images", root / "data", elsewhere=Elsewhere(root, split))


def contents_of(
    items: Sequence[Item], labels: Iterable[str], pictures: Pictures, source: Path, notes: Sequence[str] = ()
) -> Contents:
    """One split of items; the items of one picture are united.

    Args:
        labels: the names of all splits, in the order of the columns.

    Raises:
        InputError: a picture is missing, or a name cannot be a label; says where.
    """
    space = files.label_space(dict.fromkeys(map(one_form, labels)), str(source))
    rows: dict[Path, int] = {}
    cells: list[tuple[int, int]] = []
    partly: set[int] = set()
    for item in items:
        row = rows.setdefault(pictures.find(item.picture, item.where), len(rows))
        cells += [(row, space.index(label)) for label in item.labels]
        partly |= set() if item.complete else {row}
    targets = np.zeros((len(rows), len(space)), dtype=np.uint8)
    if cells:
        targets[tuple(np.array(cells).T)] = 1
    ignore = np.zeros(targets.shape, dtype=bool)
    for row in partly:
        ignore[row] = targets[row] == 0
    again = len(items) - len(rows)
    more = [f"{source.name}: {again} entries name a picture again; the entries of one picture are united"]
    said = (*pictures.notes, *notes, *(more if again else ()))
    return Contents(labels=space, paths=list(rows), targets=targets, ignore=ignore, notes=said)
