"""Pascal VOC's lists: which text files below ImageSets/ name a split's pictures, and which grade a label."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import SPLIT_NAMES
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import one_form
from edgepress.multilabel.plural import plural

PRESENT, TO_IGNORE, DIFFICULT, ABSENT = 2, 1, 0, -1
"""What is said of a label; the larger one counts where a picture's objects say several."""
VALUES = {"1": PRESENT, "+1": PRESENT, "0": DIFFICULT, "-1": ABSENT, None: -2}
"""What a line of a label's list says; None if a picture has no line."""


@dataclass
class Lists:
    """The lists of one year."""

    folder: Path
    plain: dict[str, Path] = field(default_factory=dict)
    """The list of each split's pictures."""
    graded: dict[tuple[str, str], Path] = field(default_factory=dict)
    """The list for each label and split."""
    notes: list[str] = field(default_factory=list)

    @property
    def splits(self) -> list[str]:
        """The splits that have a list, and those that only lists of labels define."""
        return sorted({*self.plain, *(split for _, split in self.graded)})

    def ids(self, split: str) -> tuple[list[tuple[str, str]], int]:
        """Id and source of every picture, each once, and the number of lines that name one again."""
        if split in self.plain:
            lines = [(name, f"{self.plain[split]}, line {number}") for number, name in _lines(self.plain[split])]
        else:
            lines = [
                (line.rsplit(None, 1)[0], f"{path}, line {number}")
                for (_, of), path in sorted(self.graded.items())
                if of == split
                for number, line in _lines(path)
            ]
        found: dict[str, tuple[str, str]] = {}
        for name, where in lines:
            found.setdefault(without_suffix(str(files.inside(name.replace("\\", "/"), where, name))), (name, where))
        return list(found.values()), len(lines) - len(found) if split in self.plain else 0


def without_suffix(name: str) -> str:
    """An id without the suffix of a picture file."""
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending.lower()}" in files.PICTURE_SUFFIXES else name


def named_again(lines: int, name: str) -> list[str]:
    """Say how many lines of a list name a picture that an earlier line names."""
    one, many = (f"of the list {name!r} {verb} a picture again" for verb in ("names", "name"))
    return [f"{plural(lines, f'line {one}', f'lines {many}')}; each is read once"] if lines else []


def find_lists(folder: Path, is_known: Callable[[str], bool]) -> Lists:
    """Find the lists below ImageSets/: those in Main, otherwise those of the one folder that has any.

    Args:
        is_known: returns whether there is a picture or an annotation with an id.

    Raises:
        InputError: several folders have different lists, or it cannot be told which label or split a list is for.
    """
    by_folder: dict[Path, list[str]] = {}
    hidden = 0
    for below, _, names in os.walk(folder):
        inside = Path(below).relative_to(folder)
        texts = [name for name in names if name.lower().endswith(".txt")]
        shown = [
            name for name in texts if not name.startswith(".") and not any(p.startswith(".") for p in inside.parts)
        ]
        hidden += len(texts) - len(shown)
        if shown:
            by_folder[Path(below)] = sorted(shown)
    main = folder / "Main"
    chosen = main if main in by_folder or not by_folder else _only(by_folder, folder)
    lists = Lists(chosen)
    if hidden:
        lists.notes.append(f"{hidden} hidden lists below {folder.name}/ left out")
    found = {name[: -len(".txt")]: chosen / name for name in by_folder.get(chosen, ())}
    kinds = {stem: _is_graded(path, stem, found, is_known) for stem, path in found.items()}
    lists.plain = {stem: path for stem, path in found.items() if kinds[stem] is False}
    for stem in sorted(stem for stem in found if kinds[stem]):
        label, split = _parts(stem, lists.plain, found[stem])
        lists.graded[one_form(label), split] = found[stem]
    # An empty file is the list of a label that no picture of the split has, or the list of a split without pictures.
    splits = lists.splits
    for stem in sorted(stem for stem in found if kinds[stem] is None):
        end = next((split for split in splits if stem.endswith(f"_{split}") and stem != f"_{split}"), None)
        if end is None:
            lists.plain[stem] = found[stem]
        else:
            lists.graded[one_form(stem[: -len(end) - 1]), end] = found[stem]
    return lists


def _only(by_folder: dict[Path, list[str]], folder: Path) -> Path:
    """The folder whose lists are read if there is no Main."""
    first, *others = sorted(by_folder)
    for other in others:
        same = by_folder[other] == by_folder[first] and all(
            (other / name).read_bytes() == (first / name).read_bytes() for name in by_folder[first]
        )
        if not same:
            names = ", ".join(str(one.relative_to(folder)) for one in sorted(by_folder))
            raise InputError(f"{folder}: different lists in {names}; expected Main, or lists in one folder")
    return first


def _lines(path: Path) -> list[tuple[int, str]]:
    return list(files.numbered_lines(path, "one picture id a line"))


def _is_graded(path: Path, stem: str, found: dict[str, Path], is_known: Callable[[str], bool]) -> bool | None:
    """Return whether a list holds ids and values, or None if it is empty.

    If an id may end in a number, existing files decide.
    """
    if "_" not in stem:
        return False
    with path.open("rb") as file:
        first = file.readline(4096).decode("utf-8-sig", "replace").strip()
    words = first.rsplit(None, 1)
    if first and (len(words) != 2 or words[1] not in VALUES):
        return False
    if first and is_known(first) != is_known(words[0]):
        return is_known(words[0])
    lines = [line for _, line in _lines(path)]
    if not lines:
        return None
    apart = [line.rsplit(None, 1) for line in lines]
    graded = all(len(words) == 2 and words[1] in VALUES for words in apart)
    if graded and all(is_known(line) for line in lines):
        if not all(is_known(words[0]) for words in apart):
            return False
        if not any(stem.endswith(f"_{split}") for split in found):
            raise InputError(
                f"{path}, line 1: {lines[0][:80]!r} may be a picture, or a picture and a value, because both names are "
                "there; rename the list to one without _ if it names pictures, otherwise the pictures"
            )
    return graded


def _parts(stem: str, plain: dict[str, Path], path: Path) -> tuple[str, str]:
    """Label and split of a label's list: the split has a list, or a usual name, or is the only word that it may be."""
    ends = [stem[place + 1 :] for place, mark in enumerate(stem) if mark == "_" and 0 < place < len(stem) - 1]
    if not ends:
        raise InputError(f"{path}: holds values, and its name is no <label>_<split>.txt; rename it")
    split = next((end for end in ends if end in plain), None)
    split = split or next((end for end in ends if end.rstrip("0123456789").lower() in SPLIT_NAMES), None)
    if split is None and len(ends) > 1:
        raise InputError(
            f"{path}: holds values of a label, and its split may be {' or '.join(map(repr, ends[:3]))}; expected a "
            f"list of the split's pictures beside it, such as {ends[-1]}.txt"
        )
    split = split or ends[0]
    return stem[: -len(split) - 1], split
