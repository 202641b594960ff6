"""Watches the order of what reaches the disk: bytes first, then the name, then the folder that holds the name."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Disk:
    """What a loss of power would leave below a folder, as far as this process has asked for it."""

    root: Path
    faults: list[str] = field(default_factory=list)
    named: set[Path] = field(default_factory=set)
    """Files and folders that got their names by a rename."""
    _kept: dict[int, object] = field(default_factory=dict)
    """By inode, what was there when it was last synchronised."""
    _unsure: set[Path] = field(default_factory=set)
    """Renamed to, in a folder that was not synchronised since."""

    def synced(self, number: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        self._kept[os.fstat(number).st_ino] = _content(path)
        self._unsure = {name for name in self._unsure if name.parent != path}

    def renaming(self, source: Path, target: Path) -> None:
        self.settled(f"{target} is named")
        if target.name.endswith(".old"):
            return  # what it hides is whole, and what takes its place comes at once
        for path in (source, *source.rglob("*")):
            if self._kept.get(path.stat().st_ino) != _content(path):
                self.faults.append(f"{path} is not on the disk when {target} is named")
        self.named.add(target)
        self._unsure.add(target)

    def settled(self, when: str) -> None:
        """No name may be in doubt any more."""
        self.faults += [f"{name} is in doubt when {when}" for name in sorted(self._unsure)]
        self._unsure.clear()


def _content(path: Path) -> object:
    return sorted(os.listdir(path)) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def watched(root: Path) -> Iterator[Disk]:
    """Watch what this process writes below a folder."""
    disk, root = Disk(root.resolve()), root.resolve()
    fsync, removes = os.fsync, shutil.rmtree

    def sync(number):
        fsync(number)
        disk.synced(number if isinstance(number, int) else number.fileno())

    def renamed(original):
        def rename(source, target, **named):
            within = Path(os.path.abspath(target)).is_relative_to(root)
            if within:
                disk.renaming(Path(os.path.abspath(source)), Path(os.path.abspath(target)))
            original(source, target, **named)

        return rename

    def remove(path, *rest, **named):
        if Path(os.path.abspath(path)).is_relative_to(root) and Path(path).exists():
            disk.settled(f"{path} is removed")
        removes(path, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(os, "rename", renamed(os.rename))
        patch.setattr(os, "replace", renamed(os.replace))
        patch.setattr(shutil, "rmtree", remove)
        yield disk
    disk.settled("all is done")
