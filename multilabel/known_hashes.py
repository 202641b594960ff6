"""Hashes of picture files that were read before, so that each verb need not read a large data set anew.

A hash is known by the file's path, device, inode, size, time of modification and time of change. It is kept only if
the opened file had the same ones before and after it was read, and was at rest: a file that was written in the last
`AT_REST` seconds is not kept, because it might be written again without a new time. It is trusted only while all of
these are equal.

Equal times are no proof. Programs set the time of modification, and a local file system keeps the time of change from
them, but a FUSE mount or an image with normalised times may show any. A writer through mmap may change a page that is
not on disk yet without a new time. So what is used of a picture is hashed again whenever it is read
(`MultiLabelDataset.stored`): a wrong hash stops the work and is forgotten.

The file is in the user's cache folder (`user_cache`), one for a data set's folder, and holds no name of a picture. A
file that cannot be read or written is done without. Writers replace it whole, so of two at once one wins.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from edgepress.multilabel.pictures import Picture, Reading, ShardPicture
from edgepress.multilabel.user_cache import user_cache

log = logging.getLogger("edgepress")
FEWEST = 1000
"""Fewer files than these are read as quickly as the cache."""
AT_REST = 2.0
"""Seconds since its last change from which a file counts as at rest: FAT counts in steps of two seconds."""
MOST_BYTES = 256 * 2**20
"""The most that all files of the cache hold together, 48 bytes a picture; the longest unused are removed."""
ABANDONED = 86_400.0
"""Seconds after which a file that was not renamed is what a killed process left: one is written in seconds."""
_ENTRY = np.dtype([("key", "<u8"), ("more", "<u8"), ("sha256", "V32")])


class KnownHashes:
    """The hashes that are known of the files of one data set.

    Args:
        root: the data set's folder.
        kind: `checked` for those of pictures that were found to be complete as well.
    """

    def __init__(self, root: Path, kind: Literal["read", "checked"] = "read") -> None:
        folder, where = user_cache("hashes"), os.path.abspath(root)
        with_what = f"{version('edgepress')} {cv2.__version__}"  # what is complete for one may not be for another

        def file(kind: str) -> Path | None:
            name = hashlib.sha256(f"{where}\0{kind}\0{with_what}".encode(errors="surrogateescape")).hexdigest()[:32]
            return None if folder is None else folder / name

        self._file, self._checked = file(kind), file("checked")

    def of(self, items: Sequence[Picture], read: Callable[[Picture], Reading]) -> list[str]:
        """The sha256 of every item, in hexadecimal: known, or read now and known from then on.

        Args:
            read: reads one item; what it raises is raised here.
        """
        if self._file is None or len(items) < FEWEST:
            return [_sha256(read(item)) for item in items]
        began = time.time()
        keys, trusted = np.zeros((len(items), 2), np.uint64), np.zeros(len(items), bool)
        for row, item in enumerate(items):
            with contextlib.suppress(OSError):  # reading it says what is wrong
                state = _path(item).stat()
                keys[row], trusted[row] = _key(item, state), _at_rest(state, began)
        entries = _read(self._file)
        if self._checked is not None and self._checked != self._file and len(checked := _read(self._checked)):
            entries = _sorted(np.concatenate([entries, checked]))
        at = np.searchsorted(entries["key"], keys[:, 0])
        at[at == len(entries)] = 0
        hit = np.zeros(len(items), bool)
        if len(entries):
            hit = (entries["key"][at] == keys[:, 0]) & (entries["more"][at] == keys[:, 1]) & trusted
        found: list[str] = []
        kept: list[int] = []
        for row, (item, place, known) in enumerate(zip(items, at.tolist(), hit.tolist(), strict=True)):
            if known:
                found.append(bytes(entries["sha256"][place]).hex())
                continue
            reading = read(item)
            found.append(_sha256(reading))
            # Minutes may have passed since the look above, and another folder may have taken this one's place: the
            # bytes belong to the file that was open.
            if _facts(reading.before) == _facts(reading.after) and _at_rest(reading.after, began):
                keys[row] = _key(item, reading.after)
                kept.append(row)
        if not hit.all():
            log.info("%d of %d files were hashed, the others were known", int((~hit).sum()), len(items))
            self._write(entries, keys[kept], [found[row] for row in kept])
        else:
            with contextlib.suppress(OSError):
                os.utime(self._file)  # it was used, so it is not the next to be removed
        return found

    def forget(self) -> None:
        """Remove what is known, because it was wrong of one file."""
        for file in (self._file, self._checked):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)

    def _write(self, entries: np.ndarray, keys: np.ndarray, hashes: list[str]) -> None:
        assert self._file is not None
        new = np.zeros(len(keys), _ENTRY)
        new["key"], new["more"] = keys[:, 0], keys[:, 1]
        new["sha256"] = np.frombuffer(bytes.fromhex("".join(hashes)), "V32")
        joined = np.concatenate([new, entries])[: MOST_BYTES // _ENTRY.itemsize]  # the newest are kept
        data = _sorted(joined).tobytes()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._file.parent, prefix=".", delete=False) as partial:
                try:
                    partial.write(hashlib.sha256(data).digest() + data)
                    partial.close()
                    Path(partial.name).replace(self._file)
                except BaseException:
                    Path(partial.name).unlink(missing_ok=True)
                    raise
            _bound(self._file.parent)
        except OSError as error:
            reason = error.strerror or str(error)
            log.info("%s: hashes cannot be kept (%s), so the next process reads the files again", self._file, reason)


def _sorted(entries: np.ndarray) -> np.ndarray:
    return entries[np.argsort(entries["key"], kind="stable")]


def _sha256(reading: Reading) -> str:
    return hashlib.sha256(reading.data).hexdigest()


def _path(item: Picture) -> Path:
    return item.shard.path if isinstance(item, ShardPicture) else item


def _facts(state: os.stat_result) -> tuple[int, ...]:
    """What tells this state of a file from any other."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _key(item: Picture, state: os.stat_result) -> np.ndarray:
    """uint64 `[2]`: a hash of where an item is and of the state of its file."""
    part = f"{item.offset} {item.size}" if isinstance(item, ShardPicture) else ""
    facts = f"{os.path.abspath(_path(item))}\0{part} {' '.join(map(str, _facts(state)))}"
    return np.frombuffer(hashlib.blake2b(facts.encode(errors="surrogateescape"), digest_size=16).digest(), "<u8")


def _at_rest(state: os.stat_result, now: float) -> bool:
    """Whether a file was written so long ago that another change gives it another time."""
    return max(state.st_mtime, state.st_ctime) <= now - AT_REST


def _read(file: Path) -> np.ndarray:
    """The entries of a file, sorted by key; none if it is missing, damaged or cannot be read."""
    nothing = np.zeros(0, _ENTRY)
    try:
        data = file.read_bytes()
    except OSError:
        return nothing
    if len(data) < 32 or (len(data) - 32) % _ENTRY.itemsize or hashlib.sha256(data[32:]).digest() != data[:32]:
        return nothing
    return np.frombuffer(data, _ENTRY, offset=32)


def _bound(folder: Path) -> None:
    """Remove what killed processes left, and the files that were not used for longest, until the others are no larger
    than `MOST_BYTES` together."""
    files = []
    for one in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has just renamed or removed it
            state = one.stat()
            if not one.name.startswith("."):
                files.append((state.st_mtime, state.st_size, one))
            elif state.st_mtime < time.time() - ABANDONED:
                one.unlink()
    left = sum(size for _, size, _ in files)
    for _, size, one in sorted(files, key=lambda file: file[0])[:-1]:
        if left <= MOST_BYTES:
            return
        one.unlink(missing_ok=True)
        left -= size
