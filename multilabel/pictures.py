"""Reading pictures, from files of their own or out of shards: whole or not at all, bounded, upright.

OpenCV decodes half a JPEG without complaint and fills the rest with grey, so the end of the file is checked first. A
JPEG that was cut and closed again with an end marker is taken for whole: only its coded data would tell.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgepress.multilabel.errors import InputError

MAX_PIXELS = 120_000_000
"""Larger pictures are refused before memory is taken for them (a 60,000 x 60,000 PNG may be a few kB on disk)."""

MAX_BYTES = 256 * 1024 * 1024

_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"
# Inside JPEG's coded data a marker is FF followed by anything but 00 (stuffing), D0-D7 (restart) or FF (fill).
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
# First bytes of every format that is read, and its usual suffix.
_SUFFIXES = (
    (_JPEG, "jpg"),
    (_PNG, "png"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"GIF8", "gif"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
)


@dataclass(frozen=True, slots=True)
class Shard:
    """A tar that holds pictures, as it was when the data set was loaded."""

    path: Path
    size: int
    """Bytes."""
    sha256: str | None
    """Of the whole tar, as its index says; None where no index does."""


@dataclass(frozen=True, slots=True)
class ShardPicture:
    """A picture within a shard; stands wherever a picture file's path does. Nothing of it is a path on disk."""

    shard: Shard
    offset: int
    """Where its bytes begin in the tar; they are known to lie within it."""
    size: int
    name: str
    """What messages call it beside the tar: the original file's name, or the member's."""

    def __str__(self) -> str:
        # A name out of a tar may hold anything; what cannot be printed is shown escaped.
        return f"{self.shard.path}:{self.name if self.name.isprintable() else ascii(self.name)}"

    def read_bytes(self) -> bytes:
        """Its bytes, read in one go.

        Raises:
            InputError: the tar's size has changed since the data set was loaded.
            OSError: the tar cannot be read.
        """
        with self.shard.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != self.shard.size:
                raise InputError(f"{self.shard.path}: its size has changed since the data set was loaded; start again")
            file.seek(self.offset)
            return file.read(self.size)


Picture = Path | ShardPicture
"""Where a picture's bytes are: in a file of its own, or in a shard."""


def read_bytes(path: Picture) -> bytes:
    """A picture's bytes.

    Raises:
        InputError: the file is missing, is no file, cannot be read, is empty, or is larger than `MAX_BYTES`.
    """
    try:
        if isinstance(path, ShardPicture):
            size = path.size
        else:
            known = path.stat()
            # A device has no end, and a pipe none that is sure to come.
            if not stat.S_ISREG(known.st_mode) and not stat.S_ISDIR(known.st_mode):
                raise InputError(f"{path}: a device or a pipe; expected a picture file")
            size = known.st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes; pictures are read up to {MAX_BYTES:,}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a picture file") from None
    if not data:
        raise InputError(f"{path}: the file is empty; expected a picture")
    return data


def picture_hash(path: Picture) -> str:
    """sha256 of a picture's stored bytes, the name under which references and calibration sets know it."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def check_picture(path: Picture) -> bytes:
    """Check that a picture is there, whole and of a bounded size, a JPEG without decoding it; gives its bytes.

    Raises:
        InputError: names the file and what is wrong with it.
    """
    data = read_bytes(path)
    check_bytes(data, str(path))
    return data


def check_bytes(data: bytes, name: str) -> None:
    """As `check_picture`, of bytes already read; `name` is what an error calls them."""
    if data[:2] == _JPEG:
        _check_structure(data, name)
    else:
        decode_picture(data, name)  # only a decoder can tell whether the other formats are whole


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins with these bytes (16, or fewer of a shorter file) says that it is in a format that is
    read; a text that begins with such a format's letters does not."""
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head.startswith(b"BM"):
        return head[6:10] == bytes(4)  # reserved
    return any(head.startswith(start) for start, _ in _SUFFIXES)


def suffix_of(data: bytes) -> str:
    """The usual suffix of a checked picture's format, from its bytes: files are often named otherwise."""
    return next(suffix for start, suffix in _SUFFIXES if data.startswith(start))


def read_picture(path: Picture) -> np.ndarray:
    """Decode a picture to uint8 RGB `[H, W, 3]`, turned upright by its EXIF orientation.

    Raises:
        InputError: missing, truncated, too large or not a picture; names the file.
    """
    return decode_picture(read_bytes(path), str(path))


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Decode a picture's bytes to uint8 RGB `[H, W, 3]`; `name` is what an error calls it."""
    _check_structure(data, name)
    try:
        # IMREAD_COLOR obeys EXIF orientation, drops alpha and brings 16-bit and grey pictures to 8-bit colour.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"{name}: cannot be decoded ({error.err or 'OpenCV refused it'})") from None
    if image is None:
        raise InputError(f"{name}: a damaged picture; OpenCV cannot decode it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _check_structure(data: bytes, name: str) -> None:
    """Check the size in the header, before a decoder takes memory for it, and the end of a JPEG or PNG."""
    if data[:2] == _JPEG:
        height, width = _jpeg_size(data, name)
    elif data[:8] == _PNG:
        height, width = _png_size(data, name)
    else:
        try:
            size = _other_size(data)
        except struct.error:
            raise InputError(f"{name}: truncated picture ({len(data)} bytes); copy the file again") from None
        if size is None:
            raise InputError(f"{name}: not a picture in a format that is read (JPEG, PNG, WebP, BMP, TIFF, GIF)")
        height, width = size
    if height * width > MAX_PIXELS:
        raise InputError(f"{name}: {width}x{height} pixels; pictures are read up to {MAX_PIXELS:,} pixels")


def _other_size(data: bytes) -> tuple[int, int] | None:
    """Height and width from the header of a WebP, BMP, GIF or TIFF file; None for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:2] == b"BM":
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(height), abs(width)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        width, height = struct.unpack_from("<HH", data, 6)
        return height, width
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        return _tiff_size(data, "<" if data[:2] == b"II" else ">")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":  # 24-bit numbers, one less than the size
        low, high = struct.unpack_from("<IH", data, 24)
        return 1 + (low >> 24 | high << 8), 1 + (low & 0xFFFFFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None


def _tiff_size(data: bytes, order: str) -> tuple[int, int] | None:
    """From the first directory: tag 256 is the width, 257 the height, each a SHORT (3) or a LONG (4)."""
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    found = {}
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):
            (found[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    return (found[257], found[256]) if len(found) == 2 else None


def _jpeg_size(data: bytes, name: str) -> tuple[int, int]:
    """Walk the segments to the end-of-image marker; the height and width that the frame header gives."""
    truncated = InputError(f"{name}: truncated JPEG ({len(data)} bytes, no end-of-image marker); copy the file again")
    size: tuple[int, int] | None = None
    position = 2
    while True:
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise truncated
        marker, position = data[found.start() + 1], found.end()
        if marker == 0xD9:
            break
        if marker == 0x01 or marker == 0xD8:  # stand alone, without a length
            continue
        if position + 2 > len(data):
            raise truncated
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAMES and position + 7 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (height, width)
        position += length
    if size is None:
        raise InputError(f"{name}: a JPEG without a picture in it; copy the file again")
    return size


def _png_size(data: bytes, name: str) -> tuple[int, int]:
    truncated = InputError(f"{name}: truncated PNG ({len(data)} bytes, no end chunk); copy the file again")
    if len(data) < 24:
        raise truncated
    width, height = struct.unpack_from(">II", data, 16)
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if kind == b"IEND":
            return height, width
    raise truncated
