"""Reading picture files: whole or not at all, bounded, upright.

OpenCV decodes half a JPEG without complaint and fills the rest with grey, so the end of the file is checked first.
"""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import cv2
import numpy as np

from multilabel.errors import InputError

MAX_PIXELS = 120_000_000
"""Larger pictures are refused before memory is taken for them (a 60,000 x 60,000 PNG may be a few kB on disk)."""

MAX_BYTES = 256 * 1024 * 1024

_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"
# Inside JPEG's coded data a marker is FF followed by anything but 00 (stuffing), D0-D7 (restart) or FF (fill).
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}


def read_bytes(path: Path) -> bytes:
    """A picture file's bytes.

    Raises:
        InputError: the file is missing, is no file, cannot be read, is empty, or is larger than `MAX_BYTES`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes; pictures are read up to {MAX_BYTES:,}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a picture file") from None
    if not data:
        raise InputError(f"{path}: the file is empty; expected a picture")
    return data


def picture_hash(path: Path) -> str:
    """sha256 of the file's bytes, the name under which a picture is known to references and calibration sets."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def check_picture(path: Path) -> None:
    """Check that a picture is there, whole and of a bounded size; JPEG and PNG without decoding them.

    Raises:
        InputError: names the file and what is wrong with it.
    """
    data = read_bytes(path)
    if data[:2] == _JPEG or data[:8] == _PNG:
        _check_structure(data, str(path))
    else:
        decode_picture(data, str(path))


def read_picture(path: Path) -> np.ndarray:
    """Decode a picture file to uint8 RGB `[H, W, 3]`, turned upright by its EXIF orientation.

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
        raise InputError(f"{name}: not a picture that OpenCV can decode (JPEG, PNG, WebP, BMP, TIFF)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _check_structure(data: bytes, name: str) -> None:
    if data[:2] == _JPEG:
        size = _jpeg_size(data, name)
    elif data[:8] == _PNG:
        size = _png_size(data, name)
    else:
        size = None  # other formats carry their length in a header; OpenCV checks it, and the number of pixels
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{name}: {size[1]}x{size[0]} pixels; pictures are read up to {MAX_PIXELS:,} pixels")


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
