"""The folders of a data set in which pictures lie although no label file names them, such as images_001/ or train-jpg/.

They are all folders below the root except hidden ones, those of masks and the like, and those whose names say another
split: a table of `train` never reads a picture of `test/`. Links to folders are not followed, so there are no cycles
and no way out of the root; a message about a missing picture names them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from edgepress.multilabel.datasets import files
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.pictures import Picture

_WORDS = {
    "train": ("train", "training", "trainval"), "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}  # fmt: skip
_SPLITS = {word: split for split, words in _WORDS.items() for word in words}
_NO_PICTURES = re.compile(r"(labels?|masks?|annotations?|segmentations?)", re.IGNORECASE)


class Elsewhere:
    """Finds pictures below a root by their names alone, or by names and the last of their folders."""

    def __init__(self, root: Path, split: str) -> None:
        self.root, self._split = root, split_of(split)
        self.links: list[Path] = []
        """Links to folders in which nothing was searched for; none before a first search."""

    @cached_property
    def _files(self) -> dict[str, list[PurePosixPath]]:
        """From the name of a file, and from its stem, to the paths below the root that have it."""
        found: dict[str, list[PurePosixPath]] = {}
        for below, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if self._may_hold(name))
            self.links += [link for name in folders if (link := Path(below, name)).is_symlink()]
            for name in names:
                if name.lower().endswith(files.PICTURE_SUFFIXES) and not name.startswith("."):
                    path = PurePosixPath(Path(below).relative_to(self.root).as_posix(), name)
                    found.setdefault(name, []).append(path)
                    found.setdefault(path.stem, []).append(path)
        return found

    def _may_hold(self, folder: str) -> bool:
        if folder.startswith(".") or _NO_PICTURES.fullmatch(folder):
            return False
        other = split_of(folder)
        return other is None or self._split is None or other == self._split

    def find(self, inside: PurePosixPath, name: str, where: str, *, suffix: bool) -> Path | None:
        """The one file with this name, and with the most of the name's last folders; None where no file has it.

        Raises:
            InputError: several files have it.
        """
        has_suffix = inside.suffix.lower() in files.PICTURE_SUFFIXES
        if not has_suffix and not suffix:
            return None
        alike = {
            path: _common(path, inside)
            for path in self._files.get(inside.name, ())
            if (not has_suffix or path.name == inside.name) and files.is_file(self.root / path)
        }
        most = max(alike.values(), default=0)
        best = sorted(path for path, common in alike.items() if common == most)
        if len(best) > 1:
            raise InputError(
                f"{where}: {name!r} may be {self.root / best[0]} or {self.root / best[1]}; write the folder that is "
                "meant"
            )
        return self.root / best[0] if best else None


def split_of(name: str) -> str | None:
    """The split that a name says, such as train for train-jpg; None where it says none, or several."""
    said = {_SPLITS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in _SPLITS}
    return said.pop() if len(said) == 1 else None


def told_folders(root: Path, split: str, paths: Iterable[Picture], *, tables: bool) -> list[str]:
    """What to tell of a split whose pictures lie in folders that name several splits, such as train/ and val/.

    Args:
        tables: whether --split-column may name the column of the pictures.
    """
    found: dict[str, str] = {}
    # Texts, because a Path for the folder of each of a million pictures takes seconds.
    for folder in map(Path, {os.path.dirname(path) for path in paths if isinstance(path, Path)}):
        parts = folder.relative_to(root).parts if folder.is_relative_to(root) else ()
        if (name := folder_of_split(parts)) is not None:
            found[name] = split_of(name) or ""
    if len(set(found.values())) < 2:
        return []
    names = shown([f"{name}/" for name in sorted(found)], 5)
    column = "; --split-column with the column of the pictures reads the folders as splits" if tables else ""
    return [f"pictures of the one split {split!r} lie in folders that name several: {names}{column}"]


def folder_of_split(parts: Iterable[str]) -> str | None:
    """The first of a path's folders that names a split; None where none does."""
    return next((part for part in parts if split_of(part) is not None), None)


def _common(path: PurePosixPath, inside: PurePosixPath) -> int:
    """The number of last folders that two paths share."""
    count = 0
    for ours, theirs in zip(reversed(path.parts[:-1]), reversed(inside.parts[:-1]), strict=False):
        if ours != theirs:
            break
        count += 1
    return count
