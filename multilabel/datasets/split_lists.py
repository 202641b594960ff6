"""Text files beside a table that list the pictures of each split, such as train_val_list.txt of NIH ChestX-ray14.

A line is a picture's name as the table has it, with or without its suffix.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.elsewhere import split_of
from edgepress.multilabel.errors import InputError

_SAMPLE = 20
_ENDING = re.compile(r"_?(list|files|filenames|images|ids|names)$", re.IGNORECASE)
_EXPECTED = "a picture's name a line"


def find_split_lists(root: Path, is_picture: Callable[[str], bool]) -> dict[str, Path]:
    """From each split to the text file in the root that lists its pictures.

    Args:
        is_picture: returns whether a name leads to a picture.
    """
    found: dict[str, Path] = {}
    for name in files.named_as(root, (".txt",)):
        if name == "labels.txt" or not _lists_pictures(root / name, is_picture):
            continue
        stem = name[: -len(".txt")]
        split = _ENDING.sub("", stem) or stem
        found[stem if split in found else split] = root / name
    return found


def names_in(path: Path) -> dict[str, int]:
    """The names in a list, without their suffixes, and the line of each.

    Raises:
        InputError: the list is no text.
    """
    return {plain_name(line): number for number, line in files.numbered_lines(path, _EXPECTED)}


def plain_name(name: str) -> str:
    """A picture's name as lists and tables are compared: with `/`, without a picture's suffix."""
    name = name.strip().replace("\\", "/")
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending.lower()}" in files.PICTURE_SUFFIXES else name


def _lists_pictures(path: Path, is_picture: Callable[[str], bool]) -> bool:
    try:
        with path.open("rb") as file:
            lines = [file.readline(4096).decode("utf-8-sig", "replace").strip() for _ in range(_SAMPLE)]
    except OSError:
        return False
    lines = [line for line in lines if line]
    if not lines:
        return False
    if all(line.lower().endswith(files.PICTURE_SUFFIXES) for line in lines):
        return True
    # Names without a suffix are a list only where the file's name says a split, because any text holds words.
    return split_of(path.stem) is not None and all(is_picture(line) for line in lines)


def refuse_strangers(listed: dict[str, int], seen: set[str], path: Path, table: Path) -> None:
    """Raise an error if a list names a picture that the table does not.

    Raises:
        InputError: names the list, its line and the table.
    """
    for name, number in listed.items():
        if name not in seen:
            raise InputError(
                f"{path}, line {number}: {name!r} is not among the pictures of {table.name}; expected the names that "
                "stand there"
            )
