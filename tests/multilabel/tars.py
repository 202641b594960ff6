"""Shards and tars, as tests write them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import read_bytes
from edgepress.multilabel.shards import write_shards

SMALL = 16_000
"""Bytes of a tar in most tests; it holds one to three pictures."""
LABELS = ("dog", "cat", "blue sky", "Straße")
NAMES = ("b.jpg", "a.png", "deep/er/c.webp", "d.bmp", "ü.tiff", "e.jpg", "f.GIF", "wrong.png", "none", "z.jpg")


def encoded(shade: int, suffix: str = ".jpg") -> bytes:
    noise = np.random.default_rng(shade).integers(0, 256, (24, 30, 3)).astype(np.uint8)
    return cv2.imencode(suffix, noise)[1].tobytes()


def shard(source: Path, out: Path, *splits: str, shard_bytes: int = SMALL) -> Path:
    names = splits or list_splits(source)
    write_shards([load_dataset(source, split) for split in names], out, shard_bytes=shard_bytes)
    return out


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same(one, other) -> None:
    assert one.labels == other.labels
    np.testing.assert_array_equal(one.targets, other.targets)
    np.testing.assert_array_equal(one.ignore, other.ignore)
    assert one.targets.dtype == other.targets.dtype
    assert one.ignore.dtype == other.ignore.dtype
    assert [read_bytes(path) for path in one.paths] == [read_bytes(path) for path in other.paths]


def stamps(folder: Path, pattern: str = "*.tar") -> dict[str, tuple[int, int]]:
    """Inode and time of every file: differ where one was written again."""
    return {path.name: ((found := path.stat()).st_ino, found.st_mtime_ns) for path in folder.glob(pattern)}


def write_tar(path: Path, members, format: int = tarfile.USTAR_FORMAT) -> Path:
    """Members are (name, bytes or an object for JSON), or a TarInfo that has no content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(name: str, type: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, target
    return info


GOOD = (("a.jpg", encoded(1)), ("a.json", {"labels": ["dog"]}))
MORE = (("b.png", encoded(2, ".png")), ("b.json", {"labels": ["cat"], "ignore": ["sky"]}))


def with_header(data: bytes, at: int, field: slice, value: bytes) -> bytes:
    """The tar with a field of the header at `at` changed, and the header's checksum made right."""
    header = bytearray(data[at : at + 512])
    header[field] = value.ljust(field.stop - field.start, b"\0")[: field.stop - field.start]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


SIZE = slice(124, 136)
