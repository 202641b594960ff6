"""What outlasts a loss of power: a file's bytes are on the disk before the name that promises them, and then the name.

A rename alone orders nothing on the disk: after a loss of power the new name may stand over an empty file.
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
        # Some network and FUSE file systems take no fsync of a folder; there is nothing else that could be asked.
        if error.errno not in _NOT_FOR_FOLDERS or not path.is_dir():
            raise
    finally:
        os.close(number)


def make_folder(path: Path) -> None:
    """A folder and those above it, where they are missing; their names outlast a loss of power."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def give_name(partial: Path, path: Path) -> None:
    """Give a finished file, or a folder with all that is in it, its name, over a file or an empty folder there."""
    for inside in (*sorted(partial.rglob("*")), partial):
        sync(inside)
    partial.replace(path)
    sync(path.parent)
