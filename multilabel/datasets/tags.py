"""Texts of tags beside the pictures: root/<split>/a.jpg and root/<split>/a.txt or a.jpg.txt, also in folders below.

1girl, solo, long hair          what trainers of taggers and of picture generators take: commas, or a tag a line

It is read on request alone (`--format tags`), because such texts may hold captions or boxes instead. Where a folder is
named as a split, each folder with texts is one; otherwise the one split is `all`. Labels are those of labels.txt, and
other tags are left out and told; without it, they are all tags of all splits, in alphabetical order. An empty text says
that no tag applies. A tag with a weight (`cat:0.9`) is refused, as a table's is; tags that look like a list without
commas, or like captions, are told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.elsewhere import split_of
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.label_lists import WHOLE
from edgepress.multilabel.datasets.named_labels import Item, contents_of
from edgepress.multilabel.datasets.notations import without_score
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.labels import LabelSpace, one_form
from edgepress.multilabel.plural import plural

LOOKS_FOR = "a text of tags beside each picture, such as a.txt beside a.jpg"
OPTIONS: frozenset[str] = frozenset(("separator",))

_ALL = "all"
_EXPECTED = "tags that commas or line ends separate"
_MOST_BYTES = 1024 * 1024
_SENTENCE = 4
"""Number of words from which a tag of one picture is more likely a part of a caption."""
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
        InputError: as for `load_dataset`; also a picture without a text, a text of boxes, or a tag with a weight.
    """
    files.plain(split, f"split {split!r}")
    found = _folders(root)
    if split not in found:
        raise files.unknown_split(root, split, f"{split}/<picture>.txt", sorted(found))
    own = list(_items(found[split], options))
    if not own:
        raise files.empty_split(found[split], split)
    named = files.is_file(root / "labels.txt")
    labels, notes = _listed(root, own) if named else _all_tags(root, _and_others(own, found, split, options), options)
    kept = [Item(one.picture, tuple(tag for tag in one.labels if tag in labels), one.where) for one in own]
    return contents_of(kept, labels.names, Pictures(found[split]), root, notes)


def _listed(root: Path, own: list[Item]) -> tuple[LabelSpace, list[str]]:
    """The labels of labels.txt, and what to say of other tags.

    Raises:
        InputError: a label has a weight.
    """
    labels = files.labels_or(root, ())
    left: Counter[str] = Counter()
    for item in own:
        for tag in item.labels:
            if tag not in labels:
                if without_score(tag) in labels:
                    raise _weighted(tag, item.where)
                left[tag] += 1
    if not left:
        return labels, []
    most = shown([tag for tag, _ in left.most_common()], 5)
    return labels, [f"tags that labels.txt does not name are left out: {most}"]


def _and_others(own: list[Item], found: dict[str, Path], split: str, options: DataOptions) -> Iterator[Item]:
    yield from own
    for name, folder in found.items():
        if name != split:
            yield from _items(folder, options)


def _all_tags(root: Path, items: Iterable[Item], options: DataOptions) -> tuple[LabelSpace, list[str]]:
    """All tags, in alphabetical order, and what to say of those that look like no tags.

    Raises:
        InputError: a tag has a weight.
    """
    tags: Counter[str] = Counter()
    several = False  # whether a text has more than one tag
    for item in items:
        for tag in item.labels:
            if tag not in tags and without_score(tag) is not None:
                raise _weighted(tag, item.where)
        tags.update(item.labels)
        several = several or len(item.labels) > 1
    doubts = [_captions(tags), _unsplit(tags, several) if options.separator is None else None]
    return files.labels_or(root, tags), [said for said in doubts if said is not None]


def _weighted(tag: str, where: str) -> InputError:
    return InputError(
        f"{where}: {tag[:40]!r} looks like a tag and its weight or score; expected the tags alone that a picture has; "
        "list it in labels.txt, one label a line, where this is the name of one"
    )


def _unsplit(tags: Counter[str], several: bool) -> str | None:
    """What to say where spaces probably separate tags; None where they do not."""
    split = {tag: tag.split() for tag in tags if " " in tag}
    seen = Counter(part for parts in split.values() for part in set(parts))
    for tag, parts in split.items():
        # A word of several tags may be a part of their names, as in long hair and long legs, where commas are in sight.
        if all(part in tags or (not several and seen[part] > 1) for part in parts):
            into = ", ".join(map(repr, parts[:4]))
            return (
                f"the tag {tag[:60]!r} is read as one label, and spaces would split it into {into}; --separator ' ' "
                "reads texts whose tags are separated by spaces"
            )
    return None


def _captions(tags: Counter[str]) -> str | None:
    """What to say where most tags are sentences of one picture each; None where they are not."""
    found = [tag for tag, pictures in tags.items() if pictures == 1 and len(tag.split()) >= _SENTENCE]
    if len(found) < 2 or len(found) * 2 <= len(tags):
        return None
    return (
        f"{len(found)} of {plural(len(tags), 'tag')} have {_SENTENCE} words or more and one picture each, such as "
        f"{found[0][:60]!r}: these texts look like captions, which are no labels"
    )


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
