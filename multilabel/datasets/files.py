"""What the readers share: safe names below the folder, pictures found by listing folders, text of bounded size."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgepress.multilabel.datasets.no_labels import unlisted
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.json_text import unique_json
from edgepress.multilabel.labels import LabelSpace, one_form
from edgepress.multilabel.plural import plural

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".gif")
MAX_TEXT_BYTES = 2 * 1024**3
"""Larger lists and tables are refused; MS-COCO's largest file has a quarter of this size."""


def inside(name: str, where: str, shown: str | None = None) -> PurePosixPath:
    """Return a relative path that stays below the folder to which it is joined.

    Args:
        where: what named the path, for the error.
        shown: what the error calls the path; by default `name`.

    Raises:
        InputError: the path is absolute or empty, has `..`, a backslash or a NUL, or is not valid text.
    """
    shown = name if shown is None else shown
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: the path {shown!a} is not valid text") from None
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\x00" in name or "\\" in name or not path.parts:
        raise InputError(f"{where}: the path {shown!r} leaves the data set's folder; expected one below it")
    return path


def plain(name: str, where: str) -> str:
    """Return a name that is one part of a path, such as a split's name.

    Raises:
        InputError: as for `inside`, or the name holds a folder.
    """
    path = inside(name, where)
    if len(path.parts) != 1:
        raise InputError(f"{where}: {name!r} names a folder within a folder; expected a plain name")
    return str(path)


class UnknownSplitError(InputError):
    """A data set has no split of that name. Exit code 2."""


def unknown_split(root: Path, split: str, looked_for: str, known: Iterable[str]) -> UnknownSplitError:
    """The error for a split that does not exist, which lists those that do."""
    names = list(known)
    part = f"; a part of one is named as {names[0]}[90%:]" if names else ""
    meant = did_you_mean(split, names)
    option = " (verbs take a split's name by --split, --train, --val or --test)" if meant else ""
    return UnknownSplitError(
        f"{root}: no split {split!r} (no {looked_for}){part}; splits here: {', '.join(names) or 'none'}{meant}{option}"
    )


def unlike_splits(names: Iterable[str], where: str) -> list[str]:
    """The names of splits, sorted.

    Args:
        where: what names them, for the error.

    Raises:
        InputError: two differ in case alone, and a person would take them for one split.
    """
    found = sorted(names)
    for name in found:
        alike = [other for other in found if other.casefold() == name.casefold()]
        if len(alike) > 1:
            raise InputError(
                f"{where} names the splits {' and '.join(alike)}, which differ in case alone; write one of them"
            )
    return found


def empty_split(path: Path, split: str) -> InputError:
    """The error for a split without pictures."""
    return InputError(f"{path}: the split {split!r} is empty; expected at least one picture")


def is_file(path: Path) -> bool:
    """Like `Path.is_file`, but false for a name that no file system accepts."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Like `Path.is_dir`, but false for a name that no file system accepts."""
    try:
        return path.is_dir()
    except OSError:
        return False


def files_of(folder: Path) -> list[str]:
    """The names of the files in a folder, sorted; none if there is no such folder. Links are followed."""
    return _names(folder, os.DirEntry.is_file)


def named_as(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """The names in a folder with the given endings in any case, sorted, without folders and hidden names.

    (macOS leaves a hidden `._a.jpg` beside every `a.jpg` on a disk of another system.)

    They include links that lead nowhere, pipes and devices: what is named like a picture and is not one is not skipped,
    but reported by the code that reads it.
    """
    found = _names(folder, lambda entry: not _is_folder(entry))
    return [name for name in found if name.lower().endswith(suffixes) and not name.startswith(".")]


def below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Like `named_as`, for a folder and all unhidden folders in it, sorted. Links to folders are not followed."""
    found: list[tuple[tuple[str, ...], Path]] = []
    for inside, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(inside)
        found += [((*here.parts, name), here / name) for name in named_as(here, suffixes)]
    return [path for _, path in sorted(found)]


def folders_of(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones."""
    return [name for name in _names(folder, os.DirEntry.is_dir) if not name.startswith(".")]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _names(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # a link that leads to itself is neither
                    if wanted(entry):
                        names.append(entry.name)
    except OSError:
        return []
    return sorted(names)


def read_bytes(path: Path, expected: str, most: int = MAX_TEXT_BYTES) -> bytes:
    """Read the bytes of a list or table, at most `most` of them.

    Raises:
        InputError: the file is missing, unreadable or too large; the message says what was expected.
    """
    if not is_file(path):
        raise InputError(f"{path}: no such file; expected {expected}")
    try:
        with path.open("rb") as file:
            data = file.read(most + 1) if path.stat().st_size > most else file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected {expected}") from None
    if len(data) > most:
        raise InputError(f"{path}: more than {most:,} bytes; expected {expected}")
    return data


def mentions(path: Path, *words: str) -> bool:
    """Return whether a file holds all of the words; False if it cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return all(data.find(word.encode()) >= 0 for word in words)
    except (OSError, ValueError):  # ValueError: an empty file
        return False


def begins_with(path: Path, sign: bytes) -> bool:
    """Return whether the first byte of a text that is no space is the sign; False if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[: len(sign)] == sign
    except OSError:
        return False


def mentions_any(path: Path, words: tuple[str, ...], most: int = 65536) -> bool:
    """Return whether the beginning of a text holds one of the words, in any case."""
    try:
        with path.open("rb") as file:
            text = file.read(most).lower()
    except OSError:
        return False
    return any(word.encode() in text for word in words)


def read_text(path: Path, expected: str, most: int = MAX_TEXT_BYTES) -> str:
    """Like `read_bytes`, but decoded from UTF-8 with or without a byte order mark."""
    try:
        return read_bytes(path, expected, most).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; expected {expected}") from None


def read_json(path: Path, expected: str) -> dict[str, Any]:
    """Read the single object of a JSON file.

    Raises:
        InputError: as for `read_text`; also if the file is not JSON, or holds something other than an object.
    """
    try:
        content = unique_json(read_text(path, expected))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected {expected}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no object; expected {expected}")
    return content


def numbered_lines(path: Path, expected: str) -> Iterator[tuple[int, str]]:
    """Yield the line number, from 1, and the stripped text of every line that is not empty."""
    for number, line in enumerate(read_text(path, expected).split("\n"), start=1):
        if text := line.strip():
            yield number, text


def json_lines(path: Path, expected: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the file and the line, for errors, and the object on every line that is not empty.

    Raises:
        InputError: a line is not JSON, or holds something other than an object.
    """
    for number, line in numbered_lines(path, expected):
        where = f"{path}, line {number}"
        try:
            row = unique_json(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON ({error}); expected {expected}") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: holds no object; expected {expected}")
        yield where, row


def score_says_yes(score: Any, where: str) -> bool:
    """Return whether the score of an annotation says that its label is present; 0 says that it was found absent.

    Raises:
        InputError: it is between the two, a guess of a machine, or no number.
    """
    if isinstance(score, int | float) and not isinstance(score, bool) and score in (0, 1):
        return score == 1
    raise InputError(
        f"{where}: score is {str(score)[:40]!r}; expected 1 (yes), 0 (verified no) or none: what a machine guessed is "
        "no label, so write 1 or 0 after a threshold of your own"
    )


class Once:
    """Names that may occur only once."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}

    def add(self, name: str, number: int, where: str) -> None:
        """Remember a name and its line.

        Raises:
            InputError: the name occurred on an earlier line.
        """
        first = self._lines.setdefault(name, number)
        if first != number:
            raise InputError(f"{where}: {name!r} occurs twice (first on line {first})")


def labels_or(root: Path, names: Iterable[str]) -> LabelSpace:
    """The labels of labels.txt if it exists, otherwise `names` in alphabetical order."""
    if is_file(root / "labels.txt"):
        return LabelSpace.from_file(root / "labels.txt")
    return label_space(sorted(set(map(one_form, names))), str(root))


def label_space(names: Iterable[str], where: str) -> LabelSpace:
    """Like `LabelSpace`, but the file is named in its error."""
    try:
        return LabelSpace(tuple(names))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def encode(labels: LabelSpace, names: Iterable[str], where: str) -> np.ndarray:
    """Turn names into a multi-hot uint8 row `[C]`.

    Raises:
        InputError: a name is not in labels.txt; the message says that `where` gave it.
    """
    names = list(names)
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise unlisted(unknown[0], where, labels)
    return labels.encode(names)


def unannotated(count: int) -> str:
    """What a reader says of pictures without an annotation."""
    read = ("picture has no annotation, and is read as one", "pictures have no annotation, and are read as pictures")
    return f"{plural(count, *read)} without a label"
