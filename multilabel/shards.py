"""Writing shards: splits of any data set as tars in the WebDataset convention, for data too large for one disk.

`datasets/webdataset.py` describes the layout. The data set alone determines which pictures go into which tar, and a
finished tar is kept, so a call after an interruption continues where the last one stopped, even if finished tars were
moved to another disk and linked, or a broken picture was replaced. A split's index is written last.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgepress.multilabel.bundle import file_sha256, write_atomically
from edgepress.multilabel.datasets import DataOptions, MultiLabelDataset, files, webdataset
from edgepress.multilabel.datasets.webdataset import (
    Index,
    IndexedPicture,
    IndexedTar,
    index_path,
    tar_split,
    unfinished_path,
)
from edgepress.multilabel.durable import give_name, make_folder
from edgepress.multilabel.errors import DataChangedError, InputError
from edgepress.multilabel.label_groups import FILE as GROUPS
from edgepress.multilabel.label_groups import NO_GROUPS, LabelGroups
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.pictures import Picture, ShardPicture, check_bytes, read_bytes, suffix_of
from edgepress.multilabel.plural import plural

log = logging.getLogger("edgepress")

# The most that a tar has after its last member: two blocks of zeros, padded to a whole record.
_END = 2 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE
# What shows that a split's shards are ours: its index, or the folder that is there until the index is written.
_BEGUN = re.compile(r"(.+)\.index\.json|\.(.+)\.unfinished")


def write_shards(splits: Sequence[MultiLabelDataset], out: Path, *, shard_bytes: int) -> None:
    """Write splits as shards into a folder: each picture's file is read once, checked, and stored byte for byte.

    Args:
        out: a new or empty folder, or one that an earlier call with the same labels finished or began.
        shard_bytes: the largest size of a tar that holds more than one picture.

    Raises:
        InputError: there is no split, the splits have differing labels, the folder holds anything else, a split was
            written before from other pictures or settings, a picture is broken (the message names it; what is finished
            is kept), or the disk is full.
        DataChangedError: a picture's size or time has changed since the call began.
    """
    if not splits:
        raise InputError("no split to shard; expected at least one")
    for data in splits:
        files.plain(data.split, f"split {data.split!r}")
    first = splits[0]
    splits = [
        data.in_order_of(first.labels, f"the split {first.split!r}", f"the split {data.split!r}") for data in splits
    ]
    _open_folder(out, splits[0].labels, splits[0].groups)
    for data in splits:
        _write_split(data, out, shard_bytes)


def _open_folder(out: Path, labels: LabelSpace, groups: LabelGroups) -> None:
    """Write labels.txt and the label groups, or check that these and all else in the folder were written by this
    module."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; expected a folder's name for the shards")
    listing = out / "labels.txt"
    there = (
        sorted({entry.name for entry in out.iterdir()} - {".labels.txt.partial", f".{GROUPS}.partial"})
        if out.is_dir()
        else []
    )
    begun = {found[1] or found[2] for name in there if (found := _BEGUN.fullmatch(name))}
    ours = {name for name in there if _BEGUN.fullmatch(name) or tar_split(name) in begun} | {listing.name, GROUPS}
    for name in there:
        if name not in ours or not listing.is_file():
            raise InputError(f"{out}: holds other files ({name}); name a new folder for the shards")
    if there:
        labels.require_equal(LabelSpace.from_file(listing), "the data set", str(listing))
        written = LabelGroups.read(out / GROUPS) if GROUPS in there else NO_GROUPS
        if written != groups:
            raise InputError(f"{out}: its {GROUPS} holds other label groups than the data set; name a new folder")
        return
    try:
        content = "".join(f"{name}\n" for name in labels).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a label is not valid text ({error.reason}); correct its name") from None
    if groups:  # first, because labels.txt says that the folder is begun
        write_atomically(out / GROUPS, groups.as_yaml().encode())
    write_atomically(listing, content)


class _Plan(NamedTuple):
    """A tar that is to be written."""

    name: str
    rows: range
    stamps: list[tuple[int, int]]
    """What `_stamp` returns for each picture."""
    source: str
    """See `IndexedTar.source`."""


def _write_split(data: MultiLabelDataset, out: Path, shard_bytes: int) -> None:
    plans = list(_plan(data, shard_bytes))
    index, unfinished = index_path(out, data.split), unfinished_path(out, data.split)
    if not index.is_file():
        make_folder(unfinished)
        _write_tars(plans, data, out, unfinished)
    elif [(tar.name, tar.source) for tar in Index.open(index).tars] != [(plan.name, plan.source) for plan in plans]:
        raise InputError(
            f"{index}: from other pictures, labels or another shard size; name a new folder for the shards"
        )
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    webdataset.read(out, data.split, DataOptions())  # this checks that every tar is there and matches
    pictures, shards = plural(len(data), "picture"), plural(len(plans), "shard")
    log.info("%s: %s in %s, complete", data.split, pictures, shards)


def _write_tars(plans: list[_Plan], data: MultiLabelDataset, out: Path, unfinished: Path) -> None:
    """Write the tars that are missing, and the index."""
    tars = []
    for number, plan in enumerate(plans, start=1):
        tar = _kept(plan, out, unfinished)
        did = "kept" if tar else "written"
        tar = tar or _write_tar(plan, data, out, unfinished)
        tars.append(tar)
        shown = (data.split, number, len(plans), plan.rows.stop, len(data), did, plan.name, tar.size / 1e6)
        log.info("%s  shard %d/%d  picture %d/%d  %s %s, %.1f MB", *shown)
    for note in unfinished.glob("*.json"):
        if note.stem not in {plan.name for plan in plans}:  # the data set has become smaller since sharding began
            (out / note.stem).unlink(missing_ok=True)
    draft = unfinished / "index"
    write_atomically(draft, Index(tars=tars).model_dump_json().encode())
    give_name(draft, index_path(out, data.split))


def _plan(data: MultiLabelDataset, shard_bytes: int) -> Iterator[_Plan]:
    """Decide which pictures go into which tar, by the sizes of their files."""
    start, used, number = 0, _END, 0
    digest = hashlib.sha256()
    stamps: list[tuple[int, int]] = []
    for row, picture in enumerate(data.paths):
        size, modified = _stamp(picture)
        text = _json(_item(data, row))
        more = _member(size) + _member(len(text))
        if row > start and used + more > shard_bytes:
            yield _Plan(f"{data.split}-{number:06d}.tar", range(start, row), stamps, digest.hexdigest())
            start, used, number = row, _END, number + 1
            digest, stamps = hashlib.sha256(), []
        used += more
        stamps.append((size, modified))
        digest.update(text + f" {size} {modified}\n".encode())
    yield _Plan(f"{data.split}-{number:06d}.tar", range(start, len(data)), stamps, digest.hexdigest())


def _stamp(picture: Picture) -> tuple[int, int]:
    """Size in bytes, and the time when the file was last changed."""
    try:
        if isinstance(picture, ShardPicture):
            return picture.size, picture.shard.path.stat().st_mtime_ns
        found = picture.stat()
    except OSError as error:
        raise InputError(f"{picture}: cannot be read ({error.strerror or error}); expected a picture file") from None
    return found.st_size, found.st_mtime_ns


def _item(data: MultiLabelDataset, row: int) -> dict[str, Any]:
    """What a member's json says about a picture: its file's name below the data set's folder, and its labels."""
    picture = data.paths[row]
    if isinstance(picture, ShardPicture):
        name = picture.name
    else:
        below = picture.relative_to(data.root) if picture.is_relative_to(data.root) else Path(picture.name)
        name = str(files.inside(below.as_posix(), str(data.root)))
    names, ignore = data.labels.names, data.ignore[row]
    positive = (data.targets[row] == 1) & ~ignore
    return {
        "file_name": name,
        "labels": [names[i] for i in np.flatnonzero(positive)],
        "ignore": [names[i] for i in np.flatnonzero(ignore)],
    }


def _json(item: dict[str, Any]) -> bytes:
    return json.dumps(item, ensure_ascii=False).encode()


def _member(size: int) -> int:
    """Number of bytes that a member takes in a tar: its header, and its content in whole blocks."""
    return tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))


def _kept(plan: _Plan, out: Path, unfinished: Path) -> IndexedTar | None:
    """The finished tar that an interrupted call left, if it was made from the same source."""
    note, path = unfinished / f"{plan.name}.json", out / plan.name
    if not note.is_file() or not path.is_file():
        return None
    made = [tar for tar in Index.open(note).tars if (tar.source, tar.size) == (plan.source, path.stat().st_size)]
    return made[0] if made else None


def _write_tar(plan: _Plan, data: MultiLabelDataset, out: Path, unfinished: Path) -> IndexedTar:
    partial, path = unfinished / plan.name, out / plan.name
    pictures = []
    try:
        with (
            partial.open("wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for row, stamp in zip(plan.rows, plan.stamps, strict=True):
                content, item = read_bytes(data.paths[row]), _item(data, row)
                if _stamp(data.paths[row]) != stamp:
                    raise DataChangedError(
                        f"{data.paths[row]}: changed since its data set was loaded; start the same command again; "
                        "finished shards are kept"
                    )
                check_bytes(content, str(data.paths[row]))
                offset = tar.offset + tarfile.BLOCKSIZE
                pictures.append(IndexedPicture(offset=offset, size=len(content), **item))
                _add(tar, f"{row:09d}.{suffix_of(content)}", content)
                _add(tar, f"{row:09d}.json", _json(item))
        size, sha256 = partial.stat().st_size, file_sha256(partial)
        written = IndexedTar(name=plan.name, size=size, sha256=sha256, source=plan.source, pictures=pictures)
        # The note comes first: a tar without one would be taken for somebody else's.
        write_atomically(unfinished / f"{plan.name}.json", Index(tars=[written]).model_dump_json().encode())
        give_name(partial, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); make room (finished shards may be moved to "
            "another disk and linked back) and run the same command again"
        ) from None
    return written


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
