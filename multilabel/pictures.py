"""Reading pictures from their own files or from shards: complete or not at all, bounded in size, upright.

OpenCV decodes half a JPEG without complaint and fills the rest with grey, so the end of the file is checked first. A
JPEG that was cut and then closed with an end marker passes as complete: only its coded data would show the cut.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgepress.multilabel.containers import JPEG, PNG, Format, Header, Tiff, is_avif, read_header
from edgepress.multilabel.errors import InputError

MAX_PIXELS = 120_000_000
"""Larger pictures are refused before memory is allocated for them (a 60,000 x 60,000 PNG may be a few kB on disk)."""

MAX_BYTES = 256 * 1024 * 1024

# First bytes of every supported format, and its usual suffix.
_SUFFIXES = (
    (JPEG, "jpg"),
    (PNG, "png"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"GIF8", "gif"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
)


@dataclass(frozen=True, slots=True)
class Shard:
    """A tar that holds pictures, in the state in which the data set was loaded."""

    path: Path
    size: int
    """Size in bytes."""
    sha256: str | None
    """sha256 of the whole tar according to its index; None where there is no index."""


@dataclass(frozen=True, slots=True)
class ShardPicture:
    """A picture within a shard, used in place of a picture file's path. No part of it is a path on disk."""

    shard: Shard
    offset: int
    """Offset of its bytes in the tar; they are known to lie within the tar."""
    size: int
    name: str
    """Its name in messages, next to the tar's: the original file's name, or the member's."""

    def __str__(self) -> str:
        # A name from a tar may hold any character; what cannot be printed is shown escaped.
        return f"{self.shard.path}:{self.name if self.name.isprintable() else ascii(self.name)}"

    def read(self) -> Reading:
        """Read the picture's bytes at once.

        Raises:
            InputError: the tar's size has changed since the data set was loaded.
            OSError: the tar cannot be read.
        """
        with self.shard.path.open("rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size != self.shard.size:
                raise InputError(f"{self.shard.path}: its size has changed since the data set was loaded; start again")
            file.seek(self.offset)
            return Reading(file.read(self.size), before, os.fstat(file.fileno()))


@dataclass(frozen=True, slots=True)
class Reading:
    """A picture's bytes, and the state of the file that they were read from."""

    data: bytes
    before: os.stat_result
    """The opened file's state before it was read; for a picture in a shard, the tar's."""
    after: os.stat_result
    """The opened file's state after it was read."""


Picture = Path | ShardPicture
"""Where a picture's bytes are: in a file of their own, or in a shard."""


def read_bytes(path: Picture) -> bytes:
    """Read a picture's bytes; it raises the same errors as `read_file`."""
    return read_file(path).data


def read_file(path: Picture) -> Reading:
    """Read a picture's bytes, with the state of their file.

    Raises:
        InputError: the file is missing, is not a file, cannot be read, is empty, or is larger than `MAX_BYTES`.
    """
    try:
        if isinstance(path, ShardPicture):
            size = path.size
        else:
            known = os.stat(path)
            # A device has no end, and a pipe may never have one.
            if not stat.S_ISREG(known.st_mode) and not stat.S_ISDIR(known.st_mode):
                raise InputError(f"{path}: a device or a pipe; expected a picture file")
            size = known.st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes; pictures are read up to {MAX_BYTES:,}")
        reading = path.read() if isinstance(path, ShardPicture) else _read_at_once(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a picture file") from None
    if not reading.data:
        raise InputError(f"{path}: the file is empty; expected a picture")
    return reading


def _read_at_once(path: Path) -> Reading:
    """Read as `Path.read_bytes` does in half the time, without a buffer that nothing is read from a second time."""
    with open(path, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        return Reading(file.readall(), before, os.fstat(file.fileno()))


def picture_hash(path: Picture) -> str:
    """sha256 of a picture's stored bytes, which is its name in references and calibration sets."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def check_picture(path: Picture) -> Reading:
    """Check that a picture exists, is complete and is of a bounded size (a JPEG without decoding it); return what was
    read.

    Raises:
        InputError: it is not; the message names the file and what is wrong with it.
    """
    reading = read_file(path)
    check_bytes(reading.data, str(path))
    return reading


def check_bytes(data: bytes, name: str) -> None:
    """Like `check_picture`, for bytes that are already read; an error calls them `name`."""
    if data[:2] == JPEG:
        _require_bounded(read_header(data, name), name)
    else:
        decode(data, name)  # only a decoder can find out whether a file of another format is complete


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins with these bytes (16, or fewer of a shorter file) claims to be in a supported format;
    a text that begins with the letters of such a format does not count."""
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head.startswith(b"BM"):
        return head[6:10] == bytes(4)  # these bytes are reserved
    if head[4:12] in (b"ftypmif1", b"ftypmiaf", b"ftypmsf1"):
        return True  # an AVIF or a HEIC; which of both stands behind these bytes
    return is_avif(head) or any(head.startswith(start) for start, _ in _SUFFIXES)


def suffix_of(data: bytes) -> str:
    """The usual suffix of a checked picture's format, by its bytes, because files often have another suffix."""
    return "avif" if is_avif(data) else next(suffix for start, suffix in _SUFFIXES if data.startswith(start))


def read_picture(path: Picture) -> np.ndarray:
    """Decode a picture to uint8 RGB `[H, W, 3]`, turned upright by its EXIF orientation.

    Raises:
        InputError: it is missing, truncated, too large or not a picture; the message names the file.
    """
    return decode_picture(read_bytes(path), str(path))


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Decode a picture's bytes to uint8 RGB `[H, W, 3]`; an error calls it `name`.

    `decode` says how transparency and more than 8 bits per channel are treated.
    """
    return decode(data, name).pixels


@dataclass(frozen=True, eq=False, slots=True)
class Decoded:
    """A picture, and facts about its file that its pixels no longer show."""

    pixels: np.ndarray
    """uint8 RGB `[H, W, 3]`, upright."""
    alpha: bool
    """Whether the file had transparency. Transparency is left out: the colours are those beneath it."""
    bits: int
    """Bits per channel in the file: 8, or 16 where it holds more than 8."""
    used: int
    """The number of bits that a picture of more than 8 bits per channel is taken to use."""


def decode(data: bytes, name: str) -> Decoded:
    """Decode a picture's bytes; the same picture has the same pixels in every lossless format.

    Transparency is left out: a pixel has the colour that is stored beneath it, even where a file stores colours
    multiplied by their alpha. A picture of 16 bits per channel is taken to use 8, 10, 12, 14 or 16 bits, the fewest
    that hold its largest value, because cameras of 10 to 14 bits write such files without saying so; the upper 8 of
    these bits are kept.

    Raises:
        InputError: as for `read_picture`; also a TIFF of floating-point, signed or 32-bit numbers, because nothing
            says which value is white, one that OpenCV reads otherwise than it is meant, and a format that this
            OpenCV is too old to read.
    """
    header = read_header(data, name)
    _require_bounded(header, name)
    if header.tiff:
        _require_readable(header.tiff, name)
    if header.animated and _OPENCV < _ANIMATED_WEBP:
        raise InputError(f"{name}: an animated WebP, which OpenCV {cv2.__version__} cannot read; {_newer('4.11')}")
    image = _imdecode(data, header, name)
    if image is None:
        raise InputError(f"{name}: {_undecodable(header.format)}")
    if header.tiff and image.ndim == 3 and image.shape[2] == 4:  # colours are multiplied by alpha
        image = _divided(image)
    bits = used = 8
    if image.dtype == np.uint16:
        if header.tiff and header.tiff.colours == 0:  # OpenCV obeys that zero is white in pictures of 8 bits alone
            unused = 16 - header.tiff.bits  # the lower bits, in which OpenCV puts zeros
            image = (0xFFFF >> unused << unused) - image
        bits, top = 16, int(image.max())
        used = next(width for width in _DEPTHS if top < 1 << width)
        image = (image >> (used - 8)).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise InputError(f"{name}: channels of {image.dtype}; expected 8 or 16 bits that count from 0")
    turned = _TURNS[header.orientation](cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return Decoded(np.ascontiguousarray(turned), header.alpha, bits, used)


_OPENCV = tuple(int(part) for part in cv2.__version__.split(".")[:2])
_ANIMATED_WEBP = (4, 11)
_READ_FROM = {"gif": "4.12", "avif": "4.12"}
"""The first version of OpenCV whose wheels read the format."""
_DEPTHS = (8, 10, 12, 14, 16)
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x.transpose(1, 0, 2), 2),
    8: np.rot90,
}
"""How to turn a stored picture upright, by EXIF's number."""


def _require_bounded(header: Header, name: str) -> None:
    width, height = header.width, header.height
    if height * width > MAX_PIXELS:
        raise InputError(f"{name}: {width}x{height} pixels; pictures are read up to {MAX_PIXELS:,} pixels")


def _imdecode(data: bytes, header: Header, name: str) -> np.ndarray | None:
    """BGR, or BGRA for a TIFF whose colours are multiplied by alpha; uint8, or uint16 where the file has more bits."""
    # IMREAD_COLOR applies the EXIF orientation, drops alpha and converts grey to colour.
    flags = cv2.IMREAD_COLOR
    if header.format in ("png", "tiff"):
        flags |= cv2.IMREAD_ANYDEPTH
    if header.format in ("webp", "avif"):  # OpenCV rotates these from 4.13 on, or never
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    if header.tiff and header.tiff.alpha == "associated":
        flags = cv2.IMREAD_UNCHANGED  # with this flag OpenCV rotates a TIFF, but no other format
    try:
        return cv2.imdecode(np.frombuffer(_opaque(data, header), np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{name}: cannot be decoded ({error.err or 'OpenCV refused it'})") from None


def _opaque(data: bytes, header: Header) -> bytes:
    """Return the same file with its transparency marks changed, so that no decoder blends its colours.

    libtiff multiplies the colours of a TIFF by their alpha unless the file says that they are already multiplied;
    OpenCV replaces a GIF's transparent colour by a background.
    """
    if header.tiff and header.tiff.alpha == "unassociated":
        at = header.tiff.alpha_at
        return data[:at] + struct.pack(header.tiff.order + "H", 1) + data[at + 2 :]
    if header.gif_flags_at and header.alpha:
        at = header.gif_flags_at
        return data[:at] + bytes([data[at] & 0xFE]) + data[at + 1 :]
    return data


_TIFF_COLOURS = {3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}


def _require_readable(tiff: Tiff, name: str) -> None:
    """Stop where nothing says what a TIFF's numbers mean, or where OpenCV reads them as others without an error."""
    if tiff.sample_format != 1 or tiff.bits > 16:
        kind = {2: "signed numbers", 3: "floating-point numbers"}.get(tiff.sample_format, "numbers")
        raise InputError(
            f"{name}: a TIFF with {kind} of {tiff.bits} bits, of which nothing says what is white; "
            "expected 1 to 16 bits a channel that count from 0: save it so"
        )
    deep = f"{name}: a TIFF of {tiff.bits} bits a channel"
    if tiff.bits > 8 and tiff.planar:
        raise InputError(
            f"{deep} that stores its channels one after the other, which OpenCV mixes; save it with them interleaved"
        )
    if tiff.bits > 8 and tiff.colours not in (0, 1, 2):
        colours = _TIFF_COLOURS.get(tiff.colours, f"colour space {tiff.colours}")
        raise InputError(
            f"{deep} in {colours}, which OpenCV reads as if it were RGB or not at all; save it as RGB or grey"
        )
    if tiff.bits not in (1, 8, 10, 12, 14, 16) and (tiff.bits, tiff.colours) != (4, 3):
        raise InputError(f"{deep}, which OpenCV does not read; save it with 8 bits or 16")
    if tiff.channels > 4:
        raise InputError(
            f"{name}: a TIFF of {tiff.channels} channels; expected grey or RGB, with or without transparency"
        )


def _divided(image: np.ndarray) -> np.ndarray:
    """Undo the multiplication by alpha in the colours of BGRA `[H, W, 4]`, up to rounding; black remains black."""
    alpha = image[:, :, 3:].astype(np.uint32)
    top = np.iinfo(image.dtype).max
    colours = (image[:, :, :3].astype(np.uint32) * top + alpha // 2) // np.maximum(alpha, 1)
    return np.minimum(colours, top).astype(image.dtype)


def _undecodable(format: Format) -> str:
    first = _READ_FROM.get(format)
    if first is None:
        return "a damaged picture; OpenCV cannot decode it"
    if tuple(map(int, first.split("."))) > _OPENCV:
        return f"its format is {format.upper()}, which OpenCV {cv2.__version__} cannot read; {_newer(first)}"
    return f"a damaged picture, or this OpenCV ({cv2.__version__}) was built without {format.upper()}"


def _newer(version: str) -> str:
    return f"install opencv-python-headless {version} or newer, or save the picture as PNG or JPEG"
