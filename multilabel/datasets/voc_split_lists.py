"""Lists of splits beside Pascal VOC's annotations, where ImageSets/ has none: train.txt and val.txt in the root, in the
year's folder, or in annotations/ (Oxford-IIIT Pet).

A line is a picture's id, its file name, its path and that of its annotation (PaddleDetection, PaddleX), or its name
and numbers, which are left out. `#` begins a comment. If a list that is named as a split has such lines and others, no
list is read, and a note says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import SPLIT_NAMES
from edgepress.multilabel.datasets.elsewhere import split_of
from edgepress.multilabel.datasets.finding import Pictures
from edgepress.multilabel.datasets.split_lists import find_split_lists
from edgepress.multilabel.datasets.voc_folders import ALL, Place, annotations_of
from edgepress.multilabel.datasets.voc_lists import VALUES, named_again, without_suffix
from edgepress.multilabel.errors import InputError, shown

_NAME_AND_MORE = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, files.PICTURE_SUFFIXES))})|\S+)\s+(\S.*)", re.IGNORECASE)
_NUMBERS = re.compile(r"\d[\d.,\s]*")
_FIRST = 20
"""The number of lines among which one names a picture, if any does."""
_UNREAD = "lists of pictures from which no split is read"


@dataclass
class Listed:
    """What one list says."""

    path: Path
    rows: list[tuple[Path, str, list[str]]] = field(default_factory=list)
    """Every picture once, the line that names it, and the ids of its annotations: none, one, or by mistake several."""
    notes: list[str] = field(default_factory=list)
    wrong: str = ""
    """Why the list cannot be read; empty if it can."""
    names_pictures: bool = False
    """Whether one of its first lines, or of those before the wrong one, names a picture."""


@dataclass
class Beside:
    """The lists beside annotations."""

    splits: dict[str, Listed] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Which lists are not read, and why."""


def find_beside(root: Path, year: Path, place: Place) -> Beside:
    """Find the lists of splits beside annotations, and read them.

    Args:
        root: the data set's folder; lists may name pictures by their paths below it.
        year: the folder of the annotations' folder.
        place: the one place of all annotations and pictures.
    """
    texts = _texts(root, year, place.annotations)
    if not texts:
        return Beside()
    lines = _Lines(root, year, place)
    read = {path: lines.read(path) for split, path in texts if _says_a_split(split)}
    found = Beside()
    unread: dict[Path, str] = {path: "its name says no split" for _, path in texts if path not in read}
    spoilt = False
    for split, path in texts:
        if (listed := read.get(path)) is None:
            continue
        first = found.splits.get(split, listed)
        if {row[0] for row in first.rows} != {row[0] for row in listed.rows}:
            listed.wrong = listed.wrong or f"it names other pictures than {first.path.relative_to(root).as_posix()}"
        if not listed.wrong:
            found.splits.setdefault(split, listed)
        elif listed.names_pictures or _is_a_split(split):
            unread[path] = listed.wrong
            spoilt = spoilt or (listed.names_pictures and _is_a_split(split))
    for split, listed in list(found.splits.items()):
        without = not any(ids for _, _, ids in listed.rows)
        if spoilt or without:  # the list that is wrong may be of pictures that the others must not share
            none = "none of its pictures has an annotation" if listed.rows else "it names no picture"
            unread[listed.path] = none if without else ""
            del found.splits[split]
    if unread:
        names = {path.relative_to(root).as_posix(): why for path, why in sorted(unread.items())}
        whys = "; ".join([f"{name}, {why}" for name, why in names.items() if why][:3])
        found.notes.append(f"{_UNREAD}: {shown(names, 5)} ({whys})")
        if not found.splits:
            found.notes.append(f"the split {ALL!r} therefore holds all pictures, also those of these lists")
    return found


def unread_beside(root: Path, year: Path, why: str) -> list[str]:
    """Name the lists that are not read because something else says the splits."""
    names = [path.relative_to(root).as_posix() for _, path in _texts(root, year, annotations_of(year))]
    return [f"{_UNREAD}, because {why}: {shown(names, 5)}"] if names else []


def _texts(*folders: Path) -> list[tuple[str, Path]]:
    """Every text that is named as a split or lists pictures, and the split that its name says.

    A text beside a picture of its name is of this picture, such as YOLO's boxes.
    """
    found: list[tuple[str, Path]] = []
    for folder in dict.fromkeys(folders):
        lists = find_split_lists(folder, lambda _: True)
        named = {path: split for split, path in lists.items()}
        named |= {folder / name: Path(name).stem for name in files.named_as(folder, (".txt",))
                  if _is_a_split(Path(name).stem) and folder / name not in named}  # fmt: skip
        pictures = {without_suffix(name) for name in files.named_as(folder, files.PICTURE_SUFFIXES)}
        found += [(split, path) for path, split in named.items() if path.stem not in pictures]
    return found


def _says_a_split(name: str) -> bool:
    return split_of(name) is not None or _is_a_split(name)


def _is_a_split(name: str) -> bool:
    """Return whether every word of a name is one for splits, such as train2017 and train_val."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return bool(words) and all(word in SPLIT_NAMES for word in words)


class _Lines:
    """Finds what the lines of lists name."""

    def __init__(self, root: Path, year: Path, place: Place) -> None:
        self._root = root
        self._pictures = Pictures(root, year, *place.pictures)
        self._known = {path for folder in place.pictures for path in files.below(folder, files.PICTURE_SUFFIXES)}
        self._names: dict[str, Path | None] = {}
        """From a path below a folder of pictures, the year or the root, with and without the suffix, to the picture, or
        to None where it may be several: the names that need no search."""
        depths = {len(root.parts), len(year.parts)}
        for path in self._known:
            inside = place.inside(path)[1]
            for name in (inside, inside + path.suffix, *("/".join(path.parts[depth:]) for depth in depths)):
                self._names[name] = path if self._names.get(name, path) == path else None
        self._annotations, _ = place.ids()
        self._ids: dict[Path, list[str]] = {}
        pictures = Pictures(*place.pictures)
        for identity in self._annotations:
            found = self._names.get(identity) or pictures.afresh().found(identity)
            if found is not None:
                self._ids.setdefault(found, []).append(identity)

    def read(self, path: Path) -> Listed:
        """Read a list; it is wrong if one of its lines is."""
        listed = Listed(path)
        rows: dict[Path, tuple[Path, str, list[str]]] = {}
        again, numbers = 0, ""
        try:
            for number, line in files.numbered_lines(path, "a picture a line"):
                picture, more, wrong = self._of_line(line)
                listed.names_pictures = listed.names_pictures or picture is not None
                if picture is None and line.startswith("#"):
                    continue
                if wrong:
                    listed.wrong = listed.wrong or f"line {number}: {line[:80]!r} {wrong}"
                if listed.wrong and (listed.names_pictures or number >= _FIRST):
                    return listed
                if picture is not None:
                    again += picture in rows
                    numbers = numbers or (f"{more[:40]!r} on line {number}" if _NUMBERS.fullmatch(more) else "")
                    rows.setdefault(picture, (picture, f"{path}, line {number}", self._ids.get(picture, [])))
        except InputError as error:
            listed.wrong = str(error).removeprefix(f"{path}: ")
        listed.rows = [] if listed.wrong else list(rows.values())
        listed.notes = named_again(again, path.name)
        if numbers:
            listed.notes.append(f"numbers after the names in {path.name} are left out, such as {numbers}")
        return listed

    def _of_line(self, line: str) -> tuple[Path | None, str, str]:
        """The picture that a line names, what stands after its name, and what is wrong with the line."""
        apart = _NAME_AND_MORE.fullmatch(line)
        picture = self._picture(apart[1]) if apart is not None else None
        if apart is None or picture is None or line in self._names:
            whole = self._picture(line)
            if whole is not None and picture is not None:
                return whole, "", "may be a picture, or a picture and more, because both names are there"
            return whole, "", "" if whole is not None else "names no picture here by its id, its file name or its path"
        return picture, apart[2], self._wrong(picture, apart[2])

    def _picture(self, name: str) -> Path | None:
        name = name.replace("\\", "/")
        found = self._names.get(name) or self._pictures.afresh().found(name)
        return found if found in self._known else None

    def _wrong(self, picture: Path, more: str) -> str:
        """Why a picture is not what a line means; empty if it is."""
        if more.lower().endswith(".xml"):
            named = PurePosixPath(more.replace("\\", "/")).parts
            own = [self._annotations[identity].relative_to(self._root).parts for identity in self._ids.get(picture, [])]
            fits = any(one[-len(named) :] == named[-len(one) :] for one in own)
            return "" if fits else "names an annotation that is not the picture's own"
        if more in VALUES:
            return "may be a picture and a label's value; take it out if it is none"
        return "" if _NUMBERS.fullmatch(more) else "has more than an annotation or numbers after the picture's name"
