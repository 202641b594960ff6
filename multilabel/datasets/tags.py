"""Texts of tags beside the pictures: root/<split>/a.jpg and root/<split>/a.txt or a.jpg.txt, also in folders below.

1girl, solo, long hair          what trainers of taggers and of picture generators take: commas, or a tag a line

It is read on request alone (`--format tags`), because such texts may hold captions or boxes instead. Where a folder is
named as a split, each folder with texts is one; otherwise the one split is `all`. Labels are those of labels.txt, and
other tags are left out and told; without it, they are all tags of all splits, in alphabetical order. An empty text says
that no tag applies.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.elsewhere import split_of
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.label_lists import WHOLE
from edgepress.multilabel.datasets.named_labels import Item, contents_of
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import one_form

LOOKS_FOR = "a text of tags beside each picture, such as a.txt beside a.jpg"
OPTIONS: frozenset[str] = frozenset(("separator",))

_ALL = "all"
_EXPECTED = "tags that commas or line ends separate"
_MOST_BYTES = 1024 * 1024
_BOX = re.compile(r"\s*[\d.+-]+(\s+[\d.+-]+){3,}\s*")


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout, and it was asked for."""
    return options.format == "tags" and bool(_folders(root))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The folders that hold such texts; `all` where none is named as a split."""
    return sorted(_folders(root))


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the order of the pictures' paths.

    Raises:
        InputError: as for `load_dataset`; also a picture without a text, or a text of boxes.
    """
    files.plain(split, f"split {split!r}")
    found = _folders(root)
    if split not in found:
        raise files.unknown_split(root, split, f"{split}/<picture>.txt", sorted(found))
    own = list(_items(found[split], options))
    if not own:
        raise files.empty_split(found[split], split)
    others = (item for name, folder in found.items() if name != split for item in _items(folder, options))
    named = files.is_file(root / "labels.txt")
    tags = () if named else {tag for items in (own, others) for item in items for tag in item.labels}
    labels = files.labels_or(root, tags)
    left = Counter(tag for item in own for tag in item.labels if tag not in labels)
    notes = []
    if left:
        most = shown([tag for tag, _ in left.most_common()], 5)
        notes.append(f"tags that labels.txt does not name are left out: {most}")
    kept = [Item(one.picture, tuple(tag for tag in one.labels if tag in labels), one.where) for one in own]
    return contents_of(kept, labels.names, Pictures(found[split]), root, notes)


def _folders(root: Path) -> dict[str, Path]:
    """The folder of every split."""
    found = {name: root / name for name in files.folders_of(root) if _holds_texts(root / name)}
    if any(split_of(name) is not None for name in found):
        return found
    return {_ALL: root} if found or _holds_texts(root) else {}


def _holds_texts(folder: Path) -> bool:
    return any(_text_of(picture).is_file() for picture in files.below(folder, files.PICTURE_SUFFIXES))


def _text_of(picture: Path) -> Path:
    whole = picture.with_name(f"{picture.name}.txt")
    return whole if whole.is_file() else picture.with_suffix(".txt")


def _items(folder: Path, options: DataOptions) -> Iterator[Item]:
    for picture in files.below(folder, files.PICTURE_SUFFIXES):
        text = _text_of(picture)
        if not text.is_file():
            raise InputError(
                f"{picture}: no {text.name} beside it; expected its tags there, or an empty file where it has none"
            )
        lines = files.read_text(text, _EXPECTED, _MOST_BYTES).split("\n")
        if (box := next(filter(_BOX.fullmatch, lines), None)) is not None:
            raise InputError(f"{text}: {box.strip()[:40]!r} looks like a box; expected {_EXPECTED}")
        mark = "," if options.separator is None else options.separator
        parts = lines if mark == WHOLE else [part for line in lines for part in line.split(mark)]
        tags = [one_form(tag) for part in parts if (tag := part.strip())]
        yield Item(picture.relative_to(folder).as_posix(), tuple(dict.fromkeys(tags)), str(text))
