"""What a picture file's header says before a decoder allocates memory: format, size, alpha and orientation.

The functions read headers only, are bounded, and raise `struct.error` where a file ends before its header does.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import Literal

from edgepress.multilabel.errors import InputError

Format = Literal["jpeg", "png", "webp", "bmp", "gif", "tiff", "avif"]
JPEG = b"\xff\xd8"
PNG = b"\x89PNG\r\n\x1a\n"
# Inside JPEG's coded data a marker is FF followed by anything but 00 (stuffing), D0-D7 (restart) or FF (fill).
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_ORIENTATION = 0x112
_MOST_BOXES = 4096
"""The AVIF boxes and properties that are read."""
_MOST_BRANDS = 4096
"""Bytes of a box `ftyp` that are read."""
_OTHERS = tuple(
    (re.compile(form, re.DOTALL | re.IGNORECASE), said)
    for form, said in (
        (rb"version https://git-lfs", "Git LFS's pointer to one that was not fetched: git lfs pull fetches it"),
        (rb"\s{0,99}<(svg|(\?xml|!--|!doctype svg).{0,4000}<svg)", "SVG: save it as PNG"),
        (rb"\s{0,99}<(!doctype|html|head|\?xml)", "a page or an error that a server sent in its place: fetch it again"),
        (rb"....ftyp(hei|hev|mif1|msf1)", "HEIC, as phones write it: save it as JPEG"),
        (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL: save it as PNG or JPEG"),
        (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000: save it as PNG or JPEG"),
        (rb".{128}DICM", "DICOM: save it as PNG"),
        (rb"8BPS", "Photoshop's own form: save it as PNG"),
        (rb"%PDF", "PDF: save its pages as PNG"),
        (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video: save its frames as pictures"),
    )
)
"""What files in the place of pictures begin with, and what they are."""


@dataclass(frozen=True, slots=True)
class Header:
    """A picture file's header."""

    format: Format
    height: int
    width: int
    alpha: bool = False
    """Whether a channel or a colour marks pixels as transparent."""
    orientation: int = 1
    """EXIF's number, of a WebP or an AVIF, which OpenCV rotates only in new versions or not at all. It is 1 for the
    other formats, because OpenCV rotates them itself."""
    animated: bool = False
    """Whether a WebP is animated."""
    tiff: Tiff | None = None
    gif_flags_at: int = 0
    """Offset of the flags byte of a GIF's first picture, whose lowest bit says that a colour is transparent; 0 where
    the file has no such byte."""


@dataclass(frozen=True, slots=True)
class Tiff:
    """What a TIFF's first directory says about its pixels."""

    height: int
    width: int
    bits: int
    """Bits per channel."""
    sample_format: int
    """1: unsigned integers, 2: signed integers, 3: floating point."""
    alpha: Literal["none", "unspecified", "associated", "unassociated"]
    """`associated` colours are already multiplied by alpha; it is read only for four channels that are RGB and
    alpha."""
    alpha_at: int
    """Offset in the file of the 16-bit number that says so."""
    order: Literal["<", ">"]
    colours: int = 1
    """TIFF's number of the colour space; 0: grey whose zero is white, 1: grey, 2: RGB."""
    channels: int = 1
    """Number of channels, those beyond the colours as well."""
    planar: bool = False
    """Whether each channel is stored by itself, one after the other."""


def read_header(data: bytes, name: str) -> Header:
    """Read a picture's header; for a JPEG or a PNG, also check that the file ends as it must.

    Raises:
        InputError: the file is truncated, or its format is not supported; the message calls the file `name`.
    """
    if data[:2] == JPEG:
        height, width = _jpeg_size(data, name)
        return Header("jpeg", height, width)
    if data[:8] == PNG:
        return _png(data, name)
    if data[:2] == b"BM" and len(data) >= 66:
        _require_bgr(data, name)
    if data[:4] in (b"II+\x00", b"MM\x00+"):
        raise InputError(
            f"{name}: a BigTIFF, the form for files of more than 4 GB, which is not read; save it as TIFF or PNG"
        )
    try:
        header = _other(data)
    except struct.error:
        raise InputError(f"{name}: truncated picture ({len(data)} bytes); copy the file again") from None
    if header is None:
        other = next((f", but {said}" for form, said in _OTHERS if form.match(data)), "")
        raise InputError(
            f"{name}: not a picture in a format that is read (JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF){other}"
        )
    return header


def is_avif(head: bytes) -> bool:
    """Whether a file begins as an AVIF does: with a box `ftyp` that has one of AVIF's brands, first or among the
    compatible ones. The first may be `mif1`, which says only that it is of HEIF's form, as HEIC is."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), _MOST_BRANDS)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    return not brands.isdisjoint((b"avif", b"avis"))


def _other(data: bytes) -> Header | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:2] == b"BM":
        width, height = struct.unpack_from("<ii", data, 18)
        return Header("bmp", abs(height), abs(width))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        width, height = struct.unpack_from("<HH", data, 6)
        at = _gif_flags(data)
        return Header("gif", height, width, alpha=bool(at and data[at] & 1), gif_flags_at=at)
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        tiff = _tiff(data)
        return Header("tiff", tiff.height, tiff.width, tiff.alpha != "none", tiff=tiff) if tiff else None
    return _avif(data) if is_avif(data) else None


def _gif_flags(data: bytes) -> int:
    """Offset of the flags in the first graphic control extension; 0 where the first picture comes before one."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    while data[at : at + 1] == b"!":
        if data[at + 1 : at + 3] == b"\xf9\x04" and len(data) > at + 3:
            return at + 3
        at += 2
        while at < len(data) and data[at]:  # blocks that each follow their length; length 0 marks the last
            at += 1 + data[at]
        at += 1
    return 0


def _webp(data: bytes) -> Header | None:
    kind = data[12:16]
    if kind == b"VP8X":  # 24-bit numbers that are one less than the size
        low, high = struct.unpack_from("<IH", data, 24)
        flags = data[20]
        return Header(
            "webp",
            1 + (low >> 24 | high << 8),
            1 + (low & 0xFFFFFF),
            alpha=bool(flags & 0x10),
            orientation=_webp_orientation(data) if flags & 0x08 else 1,
            animated=bool(flags & 0x02),
        )
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("webp", 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF), alpha=bool(bits >> 28 & 1))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("webp", height & 0x3FFF, width & 0x3FFF)
    return None


def _webp_orientation(data: bytes) -> int:
    """Orientation in the chunk EXIF; 1 where the chunk is damaged, as the decoders assume."""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            exif = data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0")
            try:
                return _exif_orientation(exif)
            except struct.error:
                return 1
        position += 8 + length + (length & 1)
    return 1


def _exif_orientation(exif: bytes) -> int:
    """Orientation in EXIF data, which has the form of a TIFF's first directory."""
    if exif[:4] not in (b"II*\x00", b"MM\x00*"):
        return 1
    order = "<" if exif[:2] == b"II" else ">"
    for tag, _, _, at in _entries(exif, order):
        if tag == _ORIENTATION:
            (value,) = struct.unpack_from(order + "H", exif, at)
            return value if 1 <= value <= 8 else 1
    return 1


def _entries(data: bytes, order: str) -> list[tuple[int, int, int, int]]:
    """Tag, type, count and offset of the value, for every entry of the first directory."""
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    found = []
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, entry)
        size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}.get(kind, 1) * values
        at = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        found.append((tag, kind, values, at))
    return found


_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}
"""Number of channels of RGB, CMYK, YCbCr and Lab, by TIFF's number; every other colour space has one."""


def _require_bgr(data: bytes, name: str) -> None:
    """Stop where the bit masks of a 32-bit BMP say that red is the first byte: OpenCV takes it for blue."""
    bits, compression = struct.unpack_from("<HI", data, 28)
    if (bits, compression) == (32, 3) and struct.unpack_from("<III", data, 54) != (0xFF0000, 0xFF00, 0xFF):
        raise InputError(
            f"{name}: a BMP whose bit masks give another order of colours than blue, green, red, which OpenCV does not "
            "obey; save it as PNG"
        )


def _tiff(data: bytes) -> Tiff | None:
    """Tags 256 and 257 are width and height, 258 is the bits, 262 the colour space, 277 the number of channels, 284 how
    they are stored, 338 the meaning of the channels beyond the colours, 339 the number format."""
    order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
    found: dict[int, int] = {}
    extra_at = 0
    for tag, kind, _, at in _entries(data, order):
        if tag in (256, 257, 258, 262, 277, 284, 338, 339):
            (found[tag],) = struct.unpack_from(order + ("I" if kind == 4 else "H"), data, at)
            extra_at = at if tag == 338 else extra_at
    if 256 not in found or 257 not in found:
        return None
    alpha: Literal["none", "unspecified", "associated", "unassociated"] = "none"
    if found.setdefault(277, 1) > _COLOURS.get(found.setdefault(262, 1), 1):
        kinds: dict[int, Literal["associated", "unassociated"]] = {1: "associated", 2: "unassociated"}
        alpha = kinds.get(found.get(338, 0), "unspecified") if (found[277], found[262]) == (4, 2) else "unspecified"
    return Tiff(
        height=found[257],
        width=found[256],
        bits=found.get(258, 1),
        sample_format=found.get(339, 1),
        alpha=alpha,
        alpha_at=extra_at,
        order=order,
        colours=found[262],
        channels=found[277],
        planar=found.get(284) == 2 and found[277] > 1,
    )


def _jpeg_size(data: bytes, name: str) -> tuple[int, int]:
    """Walk the segments to the end-of-image marker; returns the height and width that the frame header gives."""

    def truncated() -> InputError:  # made only where it is raised, because it takes a fifth of the time of a header
        return InputError(f"{name}: truncated JPEG ({len(data)} bytes, no end-of-image marker); copy the file again")

    size: tuple[int, int] | None = None
    position = 2
    while True:
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise truncated()
        marker, position = data[found.start() + 1], found.end()
        if marker == 0xD9:
            break
        if marker == 0x01 or marker == 0xD8:  # these markers have no length
            continue
        if position + 2 > len(data):
            raise truncated()
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAMES and position + 7 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (height, width)
        position += length
    if size is None:
        raise InputError(f"{name}: a JPEG without a picture in it; copy the file again")
    return size


def _png(data: bytes, name: str) -> Header:
    truncated = InputError(f"{name}: truncated PNG ({len(data)} bytes, no end chunk); copy the file again")
    if len(data) < 26:
        raise truncated
    width, height = struct.unpack_from(">II", data, 16)
    alpha = bool(data[25] & 4)  # the colour type's third bit
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        alpha = alpha or kind == b"tRNS"
        if kind == b"IEND":
            return Header("png", height, width, alpha)
    raise truncated


def _avif(data: bytes) -> Header | None:
    """Read the box `meta`: the primary item's size (`ispe`), rotation (`irot`) and mirror (`imir`)."""
    meta = _box(data, 0, len(data), b"meta")
    if meta is None:
        return None
    start, end = meta[0] + 4, meta[1]  # after version and flags
    primary, properties = _box(data, start, end, b"pitm"), _box(data, start, end, b"iprp")
    if primary is None or properties is None:
        return None
    item = struct.unpack_from(">H" if data[primary[0]] == 0 else ">I", data, primary[0] + 4)[0]
    container, uses = _box(data, *properties, b"ipco"), _box(data, *properties, b"ipma")
    if container is None or uses is None:
        return None
    boxes = _boxes(data, *container)
    header, turns, mirror = None, 0, -1
    for index in _properties_of(data, uses[0], item):
        if not 1 <= index <= len(boxes):
            continue
        kind, at, _ = boxes[index - 1]
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", data, at + 4)
            header = Header("avif", height, width)
        elif kind == b"irot":
            turns = struct.unpack_from("B", data, at)[0] & 3
        elif kind == b"imir":
            mirror = struct.unpack_from("B", data, at)[0] & 1
    alpha = any(kind == b"auxC" and b"alpha" in data[at:stop] for kind, at, stop in boxes)
    return header and replace(header, alpha=alpha, orientation=_TURNED[turns, mirror])


# EXIF's number by the count of counterclockwise quarter turns and the mirror that follows them (0 swaps top and
# bottom, 1 left and right, -1 is none).
_TURNED = {
    (0, -1): 1, (1, -1): 8, (2, -1): 3, (3, -1): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip


def _boxes(data: bytes, start: int, end: int) -> list[tuple[bytes, int, int]]:
    """Kind, first byte of the content and the byte after it, for every box within a range."""
    found: list[tuple[bytes, int, int]] = []
    while start + 8 <= end and len(found) < _MOST_BOXES:
        length, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = end if length == 0 else start + length
        if stop < content:
            break
        found.append((kind, content, min(stop, end)))
        start = stop
    return found


def _box(data: bytes, start: int, end: int, kind: bytes) -> tuple[int, int] | None:
    return next(((at, stop) for found, at, stop in _boxes(data, start, end) if found == kind), None)


def _properties_of(data: bytes, at: int, item: int) -> list[int]:
    """The numbers of an item's properties in `ipma`, in order; the first property is number 1."""
    wide_items, wide_numbers = data[at] > 0, bool(data[at + 3] & 1)
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(entries, _MOST_BOXES)):
        (found,) = struct.unpack_from(">I" if wide_items else ">H", data, at)
        at += 4 if wide_items else 2
        (count,) = struct.unpack_from("B", data, at)
        width = 2 if wide_numbers else 1
        numbers = struct.unpack_from(f">{count}{'H' if wide_numbers else 'B'}", data, at + 1)
        if found == item:
            return [number & (0x7FFF if wide_numbers else 0x7F) for number in numbers]
        at += 1 + count * width
    return []
