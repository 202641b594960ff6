"""CelebA's table of attributes: root/list_attr_celeba.txt, or in root/Anno/, or Kaggle's list_attr_celeba.csv.

202599                                      the number of pictures
5_o_Clock_Shadow Arched_Eyebrows ...        the labels
000001.jpg -1  1 ...                        1 is yes, -1 is no

list_eval_partition.txt (or .csv), there or in root/Eval/, gives each picture's split: 0 is `train`, 1 `val`, 2 `test`.
Without it, the one split is `train`. CelebAMask-HQ's table has the same form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.elsewhere import Elsewhere
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.tables import first_line, open_table
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.plural import plural

LOOKS_FOR = "list_attr_celeba.txt or .csv, or another table with a number, labels, and 1 and -1 (CelebA)"
OPTIONS: frozenset[str] = frozenset()

_KAGGLE = "list_attr_celeba.csv"
_PARTITION = "list_eval_partition"
_SPLITS = {"0": "train", "1": "val", "2": "test"}
_VALUES = {"1": 1, "-1": 0}
_FOLDERS = ("", "Anno", "Eval")
_LONGEST = 64 * 1024


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return _table(root) is not None


def splits(root: Path, options: DataOptions) -> list[str]:
    """The splits that the partition names, otherwise `train`."""
    return sorted(set(_partition(root).values())) or ["train"]


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the table's order.

    Raises:
        InputError: as for `load_dataset`; also a value other than 1 and -1, a row of another width, another number of
            rows than the first line says, or a picture that stands twice or that the partition does not have.
    """
    files.plain(split, f"split {split!r}")
    if split not in (known := splits(root, options)):
        raise files.unknown_split(root, split, f"pictures of it in {_PARTITION}.txt", known)
    path, partition = _table(root), _partition(root)
    assert path is not None
    names, rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_text(path)
    labels = files.label_space(names, str(path))
    pictures = Pictures(root, root / "images", elsewhere=Elsewhere(root, ""))
    once = files.Once()
    paths: list[Path] = []
    values: list[list[int]] = []
    for number, cells in rows:
        name, where = cells[0], f"{path}, line {number}"
        once.add(name, number, where)
        if partition and name not in partition:
            raise InputError(f"{where}: {name!r} has no line in {_PARTITION}; expected the split of every picture")
        if partition.get(name, split) != split:
            continue
        if len(cells) != len(names) + 1:
            raise InputError(f"{where}: {len(cells) - 1} values; line 2 names {len(names)} labels")
        unread = next((place for place, value in enumerate(cells[1:]) if value not in _VALUES), None)
        if unread is not None:
            raise InputError(f"{where}: label {names[unread]!r} is {cells[unread + 1][:40]!r}; expected 1 or -1")
        paths.append(pictures.find(name, where))
        values.append([_VALUES[value] for value in cells[1:]])
    if not paths:
        raise files.empty_split(path, split)
    targets = np.array(values, dtype=np.uint8)
    ignore = np.zeros(targets.shape, dtype=bool)
    return Contents(labels=labels, paths=paths, targets=targets, ignore=ignore, notes=tuple(pictures.notes))


def _table(root: Path) -> Path | None:
    for folder in (root, root / "Anno"):
        for name in files.named_as(folder, (".txt",)):
            if _is_table(folder / name):
                return folder / name
    return root / _KAGGLE if files.is_file(root / _KAGGLE) else None


def _is_table(path: Path) -> bool:
    """Return whether a text begins with a number, names, and a picture with as many values."""
    try:
        with path.open("rb") as file:
            lines = [file.readline(_LONGEST).decode("utf-8-sig", "replace").split() for _ in range(3)]
    except OSError:
        return False
    count, names, row = lines
    return (
        len(count) == 1
        and count[0].isdecimal()
        and len(row) == len(names) + 1 > 2
        and row[0].lower().endswith(files.PICTURE_SUFFIXES)
        and set(row[1:]) <= set(_VALUES)
    )


def _read_text(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    lines = files.numbered_lines(path, "CelebA's table of attributes")
    count, names = int(next(lines)[1]), next(lines)[1].split()

    def rows() -> Iterator[tuple[int, list[str]]]:
        found = 0
        for number, line in lines:
            found += 1
            yield number, line.split()
        if found != count:
            raise InputError(f"{path}: {plural(found, 'picture')}; line 1 says {count}")

    return names, rows()


def _read_csv(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    table = open_table(path)
    return table.header[1:], ((number, [cell.strip() for cell in row]) for number, row in table.rows)


def _partition(root: Path) -> dict[str, str]:
    """The split of every picture; empty without a partition."""
    places = (root / folder / f"{_PARTITION}{suffix}" for folder in _FOLDERS for suffix in (".txt", ".csv"))
    path = next((place for place in places if files.is_file(place)), None)
    if path is None:
        return {}
    found: dict[str, str] = {}
    rows: Iterator[tuple[int, list[str]]]
    if path.suffix == ".csv" and first_line(path)[:1] == ["image_id"]:
        rows = ((number, [cell.strip() for cell in row]) for number, row in open_table(path).rows)
    else:
        rows = ((number, line.replace(",", " ").split()) for number, line in files.numbered_lines(path, "splits"))
    for number, words in rows:
        if len(words) != 2 or words[1] not in _SPLITS:
            raise InputError(f"{path}, line {number}: {' '.join(words)[:80]!r}; expected a picture and 0, 1 or 2")
        found[words[0]] = _SPLITS[words[1]]
    return found
