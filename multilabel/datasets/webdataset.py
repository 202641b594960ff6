"""Shards: tars of pictures and their labels in the WebDataset convention, for data too large for one disk.

root/labels.txt              the label names, one per line, in order
root/<split>-000000.tar ...  or root/<split>/00000.tar ...; a tar may be a link to another disk
root/<split>.index.json      if `edgepress shard` wrote the shards

A tar holds key.jpg (or another picture) and key.json, {"labels": ["food"], "ignore": ["fruit"], "file_name": "a.jpg"};
`ignore` and `file_name` are optional; another key that may deny labels is refused, and others are told. A key of the
tar ends at the first dot of the last part of its name; members whose names have no dot or begin with one are skipped,
and so are keys with neither a picture nor a json member.

If there is an index, loading a split reads nothing from a tar: the tar's size must equal the index's, and every
picture must lie within it. Otherwise the headers and json members of a tar are read once, but no picture.
`check_pictures`, which training and `run` call before they start, compares every tar with its sha256 in the index;
reading a picture compares the tar's size with its size at loading. The name of a member is never a path on disk.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from edgepress.multilabel.bundle import file_sha256
from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.contents import Contents
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.datasets.tar_leftovers import LABELS, Leftovers
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.json_text import unique_json
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.pictures import Shard, ShardPicture

OPTIONS = frozenset(("label_columns",))
LOOKS_FOR = "labels.txt and <split>-000000.tar, ... or <split>/00000.tar, ... (WebDataset, not compressed)"
MAX_JSON_BYTES = 16 * 1024 * 1024
"""A picture's json member is refused if it is larger than this."""

_EXPECTED = 'expected key.jpg (or .png, .webp, ...) and key.json with {"labels": [names]} for every picture'
_TAR = re.compile(r"(?:(?P<split>[^.].*?)[-_])?(?P<number>[0-9]{1,9})(?:-of-[0-9]+)?\.tar")
_INDEX, _UNFINISHED = ".index.json", ".unfinished"
# The webdataset package splits names in the same way.
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
_NUMBERS = ("cls", "cls.txt", "label", "label.txt", "target")
"""Members in which other programs keep the number of a label."""
_PICTURES = {suffix.removeprefix(".") for suffix in files.PICTURE_SUFFIXES} | {"gif"}
# What tarfile raises, besides its own errors, for bytes that are not a tar.
_NOT_A_TAR = (tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError)


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True, extra="forbid"))
class IndexedPicture:
    """A picture as described by the index."""

    offset: int
    """Offset of the picture's bytes in the tar."""
    size: int
    file_name: str
    """The original file's path below its data set's folder."""
    labels: list[str]
    ignore: list[str]


class IndexedTar(BaseModel):
    """A tar as described by the index."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: str
    size: int
    sha256: str
    source: str
    """sha256 over names, labels, sizes and times of the files that the tar was made from; a tar whose source is
    unchanged is not made again."""
    pictures: list[IndexedPicture]


class Index(BaseModel):
    """Everything that is in a split's shards, in the order of the split."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal[1] = 1
    tars: list[IndexedTar]

    @classmethod
    def open(cls, path: Path) -> Index:
        """Read an index file.

        Raises:
            InputError: it is missing or is not an index.
        """
        data = files.read_bytes(path, "an index that edgepress shard wrote")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise InputError(f"{path}: not an index this version reads ({_reason(error)}); shard again") from None


class _Sample(BaseModel):
    """Contents of a json member."""

    model_config = ConfigDict(strict=True, extra="allow")

    labels: list[str]
    ignore: list[str] = []
    file_name: str | None = None


class _Member(NamedTuple):
    """Where a file lies in a tar; tarfile's own object for it takes ten times the memory."""

    name: str
    offset: int
    size: int


class _Row(NamedTuple):
    picture: ShardPicture
    labels: list[str]
    ignore: list[str]


def recognise(root: Path, options: DataOptions) -> bool:
    """Return whether the folder looks like this layout."""
    return bool(splits(root, options))


def splits(root: Path, options: DataOptions) -> list[str]:
    """The splits that have an index or a tar."""
    return sorted({name for name in (*_tars(root), *_indexed(root)) if name})


def read(root: Path, split: str, options: DataOptions) -> Contents:
    """Read one split, in the shards' order.

    Raises:
        InputError: as for `load_dataset`; also a tar that is truncated, holds links or devices, has an absolute name
            in it, or does not match its index; or a split whose shards were never finished.
    """
    files.plain(split, f"split {split!r}")
    if options.label_columns not in ((), (LABELS,)):
        raise InputError(
            f"--label-columns {','.join(options.label_columns)}: shards list labels under {LABELS!r} alone"
        )
    if split not in (known := splits(root, options)):
        raise files.unknown_split(root, split, f"{split}{_INDEX}, {split}-000000.tar or {split}/00000.tar", known)
    if not files.is_file(listing := root / "labels.txt"):
        raise InputError(
            f"{listing}: cannot be read (no such file); shards need it: write the names of all their labels there, one "
            "a line"
        )
    labels = LabelSpace.from_file(listing)
    tars = _tars(root).get(split, [])
    left = Leftovers(labels, told=bool(options.label_columns))
    if index_path(root, split).is_file():
        rows = list(_from_index(root, split, tars))
    elif unfinished_path(root, split).is_dir():
        raise InputError(f"{root}: the shards of {split!r} are unfinished; run the same edgepress shard again")
    elif len({path.parent for path in tars}) > 1:
        raise InputError(f"{root}: tars of {split!r} both beside labels.txt and in {split}/; keep one of the two")
    else:
        rows = [row for path in tars for row in _from_tar(path, left)]
    if not rows:
        raise files.empty_split(root, split)
    targets = np.zeros((len(rows), len(labels)), dtype=np.uint8)
    ignore = np.zeros(targets.shape, dtype=bool)
    for number, row in enumerate(rows):
        where = str(row.picture)
        targets[number] = files.encode(labels, row.labels, where)
        if row.ignore:
            ignore[number] = files.encode(labels, row.ignore, where)
            if (targets[number].astype(bool) & ignore[number]).any():
                raise InputError(f"{where}: a label is both in labels and in ignore")
    return Contents(
        labels=labels, paths=[row.picture for row in rows], targets=targets, ignore=ignore, notes=left.notes()
    )


def index_path(root: Path, split: str) -> Path:
    """Path of a split's index; it is written last, so its presence means that the shards are complete."""
    return root / f"{split}{_INDEX}"


def unfinished_path(root: Path, split: str) -> Path:
    """Path of the folder that exists while a split is being sharded."""
    return root / f".{split}{_UNFINISHED}"


def tar_split(name: str) -> str | None:
    """The split in a tar's file name; None if the name is not a shard's or names no split."""
    found = _TAR.fullmatch(name)
    return found["split"] if found else None


def check_shard(shard: Shard) -> None:
    """Compare every byte of a tar with the sha256 in its index, if it has one.

    Raises:
        InputError: they differ, or the tar cannot be read.
    """
    if shard.sha256 is None:
        return
    try:
        found = file_sha256(shard.path)
    except OSError as error:
        raise InputError(f"{shard.path}: cannot be read ({error.strerror or error}); expected a shard") from None
    if found != shard.sha256:
        raise InputError(f"{shard.path}: changed since it was made (sha256 differs from its index); copy it again")


def _indexed(root: Path) -> list[str]:
    return [name.removesuffix(_INDEX) for name in files.files_of(root) if name.endswith(_INDEX)]


def _tars(root: Path) -> dict[str, list[Path]]:
    """The tars of every split, by number, including those whose link leads nowhere, which must not go unnoticed."""
    found: dict[str, list[tuple[int, str, Path]]] = {}
    for folder, of in ((root, None), *((root / name, name) for name in files.folders_of(root))):
        for name in _listing(folder):
            parts = _TAR.fullmatch(name)
            split = of or (parts and parts["split"])
            if parts and split:
                found.setdefault(split, []).append((int(parts["number"]), name, folder / name))
    return {split: [path for _, _, path in sorted(tars)] for split, tars in found.items()}


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # an unreadable folder is not a split, as in every format
        return []


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a shard") from None
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: not a file; expected a shard")
    return found.st_size


def _from_index(root: Path, split: str, tars: list[Path]) -> Iterator[_Row]:
    source = index_path(root, split)
    index = Index.open(source)
    names = [files.plain(tar.name, str(source)) for tar in index.tars]
    if len(set(names)) != len(names):
        raise InputError(f"{source}: names a tar twice; shard again")
    unlisted = [path for path in tars if path.parent != root or path.name not in names]
    if unlisted:
        raise InputError(f"{unlisted[0]}: not in {source.name}; move it away, or delete the index to read every tar")
    for name, tar in zip(names, index.tars, strict=True):
        shard = Shard(root / name, _size(root / name), tar.sha256)
        if shard.size != tar.size:
            raise InputError(
                f"{shard.path}: {shard.size:,} bytes, and {tar.size:,} in {source.name}: truncated, or another tar; "
                "copy it again"
            )
        for item in tar.pictures:
            if item.size < 1 or item.offset < tarfile.BLOCKSIZE or item.offset + item.size > shard.size:
                raise InputError(
                    f"{shard.path}: {source.name} has {item.file_name!r} at byte {item.offset} with {item.size} bytes, "
                    f"outside the tar's {shard.size:,}; shard again"
                )
            yield _Row(ShardPicture(shard, item.offset, item.size, item.file_name), item.labels, item.ignore)


def _from_tar(path: Path, left: Leftovers) -> Iterator[_Row]:
    """The pictures of a tar without an index, in the order of their first members."""
    shard = Shard(path, _size(path), None)
    samples: dict[str, dict[str, _Member]] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as tar:
            for info in tar:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep every member
                _check_member(info, shard)
                parts = _MEMBER.fullmatch(info.name)
                if info.isdir() or parts is None:
                    continue
                members = samples.setdefault(parts[1], {})
                suffix = sys.intern(parts[2].lower())
                member = _Member(info.name, info.offset_data, info.size)
                if members.setdefault(suffix, member) is not member:
                    raise InputError(f"{path}: the member {info.name!r} occurs twice; {_EXPECTED}")
            _check_end(file, tar.offset, path)
            for key, members in samples.items():
                if row := _row(shard, file, key, members, left):
                    yield row
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a shard") from None
    except InputError:
        raise
    except _NOT_A_TAR as error:
        raise InputError(f"{path}: truncated or no plain tar ({_reason(error)}); copy it again, uncompressed") from None


def _check_member(info: tarfile.TarInfo, shard: Shard) -> None:
    name = info.name.encode("utf-8", "backslashreplace").decode()
    if not (info.isdir() or (info.isreg() and not info.issparse())):
        raise InputError(f"{shard.path}: the member {name!r} is a link, a device or the like; expected plain files")
    if info.size < 0 or info.offset_data + info.size > shard.size:
        raise InputError(f"{shard.path}: truncated within the member {name!r}; copy it again")
    if not info.isdir():
        files.inside(info.name, f"{shard.path}, a member")


def _check_end(file: BinaryIO, offset: int, path: Path) -> None:
    """Check that a tar ends with zeros, because tarfile stops silently at a damaged header and at a truncation."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise InputError(f"{path}: truncated after {offset:,} bytes (no end-of-archive mark); copy it again")
    while block:
        if block.strip(b"\0"):
            raise InputError(
                f"{path}: damaged, or several tars in one: no member and no end is at byte {offset:,}; write it again"
            )
        block = file.read(1 << 20)


def _row(shard: Shard, tar: BinaryIO, key: str, members: dict[str, _Member], left: Leftovers) -> _Row | None:
    if len(members) > 2 or "json" not in members:
        left.members(suffix for suffix in members if suffix not in _PICTURES and suffix != "json")
    pictures = [suffix for suffix in members if suffix in _PICTURES]
    if not pictures and "json" not in members:
        return None
    if len(pictures) != 1 or "json" not in members:
        number = next((suffix for suffix in members if suffix in _NUMBERS), None)
        why = f"; a .{number} holds the number of a label, whose name nothing says here" if number is not None else ""
        raise InputError(f"{shard.path}: the key {key!r} has {', '.join(members)!r}; {_EXPECTED}{why}")
    info = members["json"]
    if info.size > MAX_JSON_BYTES:
        raise InputError(f"{shard.path}: {info.name!r} has {info.size:,} bytes; json is read up to {MAX_JSON_BYTES:,}")
    tar.seek(info.offset)
    try:
        data = tar.read(info.size)
        sample = _Sample.model_validate_json(data)
        unique_json(data)
    except ValidationError as error:
        raise InputError(f"{shard.path}: {info.name!r} ({_unlike(error)}); {_EXPECTED}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shard.path}: {info.name!r} ({_reason(error)}); {_EXPECTED}") from None
    if sample.model_extra:
        left.key(sample.model_extra, f"{shard.path}: {info.name!r}")
    picture = members[pictures[0]]
    return _Row(
        ShardPicture(shard, picture.offset, picture.size, sample.file_name or picture.name),
        sample.labels,
        sample.ignore,
    )


def _unlike(error: ValidationError) -> str:
    """What is wrong with a json member."""
    found = error.errors()[0]
    place = ".".join(map(str, found["loc"]))
    if found["type"] == "missing":
        return f"{place} is missing among {shown(found['input'], 5)}" if isinstance(found["input"], dict) else place
    if found["loc"][:1] in (("labels",), ("ignore",)) and isinstance(found["input"], int | float):
        return f"{place} is the number {found['input']}, not the name of a label"
    return f"{place}: {found['msg']}" if place else f"{type(found['input']).__name__}: {found['msg']}"


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
