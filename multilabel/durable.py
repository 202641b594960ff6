"""Writes that survive a power failure: first a file's bytes reach the disk, and only then its final name.

A rename alone orders nothing on the disk: after a power failure, the new name may point to an empty file.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a folder, are on the disk.

    Raises:
        OSError: they cannot be written.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Some network and FUSE file systems do not support fsync of a folder, and there is no other call to use.
        if error.errno not in _NOT_FOR_FOLDERS or not path.is_dir():
            raise
    finally:
        os.close(number)


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing; their names survive a power failure."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def give_name(partial: Path, path: Path) -> None:
    """Move a finished file, or a folder with all its contents, to its name, replacing a file or an empty folder."""
    for inside in (*sorted(partial.rglob("*")), partial):
        sync(inside)
    partial.replace(path)
    sync(path.parent)
