"""The imagefolder layout of Hugging Face datasets, with many labels per picture.

root/<split>/metadata.jsonl  {"file_name": "00000.jpg", "labels": ["food", "dessert"], "ignore": ["fruit"]}
root/<split>/metadata.csv    file_name,labels or one column per label, as in every table; or metadata.parquet
root/<split>/00000.jpg       `ignore` is optional: labels that nobody knows to apply or not
root/labels.txt              the label names, one per line, in order; otherwise alphabetical order over all splits

Without split folders, the one metadata file in the root is the split `train`. Labels may be numbers if labels.txt, or
the names in README.md (`class_label`), say what they mean. Parquet needs the extra `parquet`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.cards import class_names
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.label_lists import refuse_unsplit
from edgepress.multilabel.datasets.metadata_rows import metadata_rows
from edgepress.multilabel.datasets.no_labels import unlisted
from edgepress.multilabel.datasets.notations import (
    are_numbers,
    refuse_multi_hot,
    refuse_notations,
    refuse_numbered_lines,
)
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.table_rows import listed_names, open_with_columns, read_table
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import LabelSpace, one_form
from edgepress.multilabel.plural import plural

LOOKS_FOR = "metadata.jsonl, metadata.csv or metadata.parquet in a folder a split (Hugging Face imagefolder)"
OPTIONS = frozenset(("values", "picture_column", "label_columns", "separator"))

_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_ONE = "train"
"""The split of a root that does not name one, as in `datasets`."""


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    # labels.txt alone is an imagefolder whose metadata is missing.
    return bool(_listings(root)) or (root / "labels.txt").is_file()


def splits(root: Path, options: DataOptions) -> list[str]:
    """The names of the folders that hold a metadata file, or `train` for the file in the root."""
    return sorted(_listings(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the file's order.

    Raises:
        InputError: as for `load_dataset`; also numbers without names for labels, or a label in both labels and ignore.
    """
    files.inside(split, f"split {split!r}")
    listings = _listings(root)
    if split not in listings:
        raise files.unknown_split(root, split, f"{_NAMES[0]} in that folder", splits(root, options))
    _refuse_others(listings[split])
    pictures = Pictures(listings[split].parent, root)
    if listings[split].suffix == ".csv":
        return _read_csv(split, listings, pictures, root, options)
    return _read_lines(split, listings, pictures, root, options)


def _read_lines(
    split: str, listings: dict[str, Path], pictures: Pictures, root: Path, options: DataOptions
) -> Contents:
    """Read JSON lines, or the rows of Parquet."""
    listing = listings[split]
    options.refuse_unused(root, listing.name, frozenset(("label_columns", "separator")))
    _refuse_several(listing, options)
    names = class_names(root)
    labels_txt = files.is_file(root / "labels.txt")
    labels = LabelSpace.from_file(root / "labels.txt") if labels_txt else _all_labels(listings, names, options)
    paths: list[Path] = []
    cells, unknown = array("q"), array("q")  # places in the flat arrays
    known: dict[str, int] = {}
    seen: dict[Path, int] = {}
    said: set[str] = set()
    others: dict[str, None] = {}
    empty: Counter[str] = Counter()
    numbers, both = False, len(labels) == 2
    for number, row in metadata_rows(listing, options, labels if labels_txt else names):
        if len(row) > 3:  # most have names for labels, and no other key
            said.update(row["split"])
            others.update(dict.fromkeys(row["others"]))
            numbers = numbers or any(isinstance(item, int) for item in row["labels"])
        both = both and numbers and len(row["labels"]) == 2
        if not row["labels"]:
            empty.update(row.get("text", ()))
        where = f"{listing}, line {number}"
        path = pictures.find(row["file_name"], where)
        if seen.setdefault(path, number) != number:
            raise InputError(f"{where}: {row['file_name']!r} occurs twice (first on line {seen[path]})")
        own = _columns_of(labels, row["labels"], names, known, where)
        if row["ignore"]:
            ignored = _columns_of(labels, row["ignore"], names, known, where)
            if own & ignored:
                name = labels.names[min(own & ignored)]
                raise InputError(f"{where}: the label {name!r} is both in labels and in ignore")
            unknown.extend(len(paths) * len(labels) + column for column in ignored)
        cells.extend(len(paths) * len(labels) + column for column in own)
        paths.append(path)
    if not paths:
        raise files.empty_split(listing, split)
    if numbers and not names:
        refuse_numbered_lines(labels, root / "labels.txt")
    if both:
        raise _either(listing)
    _refuse_splits(said, "split", split, str(listing), "put the pictures of each split and their file into a folder")
    targets = np.zeros((len(paths), len(labels)), dtype=np.uint8)
    ignore = np.zeros(targets.shape, dtype=bool)
    for cells_of, places in ((targets, cells), (ignore, unknown)):
        cells_of.reshape(-1)[np.frombuffer(places, dtype=np.int64)] = 1
    none = [
        plural(rows, f"line with {text!r} for labels is a picture", f"lines with {text!r} for labels are pictures")
        + " without a label"
        for text, rows in empty.items()
    ]
    left = [f"{listing.name}: keys that are no labels left out: {shown(others)}"] if others else []
    notes = (*pictures.notes, *_not_read(root, listing), *none, *left)
    return Contents(labels=labels, paths=paths, targets=targets, ignore=ignore, notes=notes)


def _refuse_several(listing: Path, options: DataOptions) -> None:
    if len(options.label_columns) > 1:
        raise InputError(
            f"{listing}: --label-columns names {shown(options.label_columns, 4)}; expected the one key that lists the "
            "labels; a column of yes and no for each label is read from metadata.csv"
        )


def _either(listing: Path) -> InputError:
    """The error for two numbers on every line, where there are two labels."""
    return InputError(
        f"{listing}: each line has the numbers 0 and 1, both labels by their numbers, or a 0 or 1 for each label; "
        "expected the names of the labels that a picture has"
    )


def _listings(root: Path) -> dict[str, Path]:
    """The metadata file of every split."""
    folders = [(name, root / name) for name in files.folders_of(root)]
    found: dict[str, Path] = {}
    for split, folder in folders or ():
        listing = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
        if listing is not None:
            found[split] = listing
    if not found:
        listing = next((root / name for name in _NAMES if (root / name).is_file()), None)
        if listing is not None:
            found[_ONE] = listing
    return found


def _refuse_others(listing: Path) -> None:
    found = [name for name in _NAMES if files.is_file(listing.parent / name)]
    if len(found) > 1:
        raise InputError(f"{listing.parent}: both {' and '.join(found)} name the labels of its pictures; keep one")


def _not_read(root: Path, listing: Path) -> list[str]:
    """Say which metadata file in the root is not read, because the splits have files of their own."""
    found = [name for name in _NAMES if files.is_file(root / name)] if listing.parent != root else []
    return [f"{', '.join(found)} in {root} is not read, because {listing.parent.name}/ has its own"] if found else []


def _refuse_splits(names: set[str], key: str, split: str, where: str, how: str) -> None:
    """Raise an error if the pictures of one split say that they belong to several."""
    others = sorted(name for name in names if name.lower() != split.lower())
    if others and (len(names) > 1 or split == _ONE):
        raise InputError(
            f"{where}: {key!r} names the splits {shown(sorted(names))}, and this file is the one split {split!r}; {how}"
        )


def _read_csv(split: str, listings: dict[str, Path], pictures: Pictures, root: Path, options: DataOptions) -> Contents:
    listing = listings[split]
    table, columns = open_with_columns(listing, pictures, options, root)
    if not columns.listed:
        labels = files.label_space([table.header[column] for column in columns.labels], str(listing))
    else:
        others = [path for path in listings.values() if path.suffix == ".csv"]
        opened = (open_with_columns(path, Pictures(path.parent, root), options, root) for path in others)
        found = () if files.is_file(root / "labels.txt") else listed_names(opened, options)
        labels = files.labels_or(root, found)
    if columns.split is not None:
        said = {row[columns.split].strip() for row in table.sample if len(row) > columns.split}
        how = f"--format csv reads {listing.name} as a table with a column for the split"
        _refuse_splits(said, table.header[columns.split], split, str(listing), how)
    contents = read_table(table, columns, pictures, labels, None, options)
    if (
        (names := class_names(root))
        and columns.listed
        and are_numbers(labels)
        and not files.is_file(root / "labels.txt")
    ):
        contents = _named(contents, names, str(listing))
    return replace(contents, notes=(*contents.notes, *_not_read(root, listing)))


def _named(contents: Contents, names: list[str], where: str) -> Contents:
    """The same split, whose labels are numbers, with the names that the card gives them.

    Raises:
        InputError: a number has no name.
    """
    labels = files.label_space(names, where)
    numbers = [int(number) for number in contents.labels]
    if max(numbers) >= len(labels):
        raise InputError(f"{where}: label number {max(numbers)}; there are {len(labels)} names in README.md, from 0 on")
    targets = np.zeros((len(contents.paths), len(labels)), dtype=np.uint8)
    targets[:, numbers] = contents.targets
    return replace(contents, labels=labels, targets=targets, ignore=np.zeros(targets.shape, dtype=bool))


def _columns_of(labels: LabelSpace, items: list, names: list[str], known: dict[str, int], where: str) -> set[int]:
    """The columns of labels given as names or numbers.

    Args:
        names: what numbers are called; the labels themselves where it is empty.
        known: the columns of names that were seen, to which others are added.

    Raises:
        InputError: a name is unknown, or a number has no name.
    """
    try:
        return {known[item] for item in items}
    except KeyError:
        columns = _encoded(labels, items, names, where)
        known.update((item, labels.index(item)) for item in items if isinstance(item, str))
        return columns


def _encoded(labels: LabelSpace, items: list, names: list[str], where: str) -> set[int]:
    columns = set()
    numbers = [item for item in items if isinstance(item, int)]
    if twice := [item for place, item in enumerate(numbers) if item in numbers[:place]]:
        raise InputError(
            f"{where}: labels {str(items)[:40]} has the number {twice[0]} twice; expected the numbers of the labels "
            "that the picture has, from 0 on, and not a 0 or 1 for each label"
        )
    for item in items:
        if isinstance(item, int):
            known = names or list(labels.names)
            if not 0 <= item < len(known):
                raise InputError(f"{where}: label number {item}; there are {len(known)} names, from 0 on")
            item = known[item]
        if item not in labels:
            if names and item.isdecimal():
                raise InputError(
                    f"{where}: label {item!r} is a text; README.md names the labels by their numbers: expected "
                    f"{int(item)} without quotes, or a name"
                )
            raise unlisted(item, where, labels)
        columns.add(labels.index(item))
    return columns


def _all_labels(listings: dict[str, Path], names: list[str], options: DataOptions) -> LabelSpace:
    """The labels of all splits: the names of numbers, otherwise every name in alphabetical order.

    Raises:
        InputError: there are numbers, but no names for them.
    """
    if names:
        return LabelSpace(tuple(names))
    every: set[str] = set()
    for listing in listings.values():
        found: set[str] = set()
        lists: set[tuple[str, ...]] = set()
        if listing.suffix == ".csv":
            raise InputError(f"{listing}: a table beside {_NAMES[0]} in other splits; expected one kind for all splits")
        texts: set[str] = set()
        for number, row in metadata_rows(listing, options, names):
            texts.update(row.get("text", ()))
            for item in [*row["labels"], *row["ignore"]]:
                if isinstance(item, int):
                    raise InputError(
                        f"{listing}, line {number}: label {item} is a number, and nothing says its name; expected "
                        "labels.txt with the names, one a line, from 0 on"
                    )
                found.add(one_form(item))
            lists.add(tuple(row["labels"]))
        refuse_unsplit(texts, options.separator, str(listing), "labels")
        refuse_multi_hot(lists, str(listing), "labels")
        refuse_notations(found, str(listing), "labels")
        every |= found
    return files.label_space(sorted(every), str(next(iter(listings.values())).parent))
