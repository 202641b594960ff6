"""Whether a picture file holds several pictures: an animation, or a TIFF of several pages. The first one is read."""

from __future__ import annotations

import struct

_NEW_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101
"""The tag that says what a directory of a TIFF is, and its bits for a smaller copy and for a mask (TIFF 6.0, p. 36)."""
_SUBFILE_TYPE, _REDUCED, _SHORT = 255, 2, 3
"""The older tag, its value for a smaller copy, and the type of that value."""


def has_several(data: bytes) -> bool:
    """Whether a file that was decoded holds further pictures (of a TIFF: further directories) after the first one."""
    try:
        if data[:3] == b"GIF":
            return _of_gif(data)
        if data[:4] in (b"II*\x00", b"MM\x00*"):
            return _further_pages(data, "<" if data[:2] == b"II" else ">")
        if data[:4] == b"RIFF":
            return data[12:16] == b"VP8X" and bool(data[20] & 0x02)
        if data[:4] == b"\x89PNG":
            return _frames_of_png(data) > 1
        return data[4:12] in (b"ftypavis", b"ftypmsf1")
    except (struct.error, IndexError):  # the file ends behind the picture that was decoded
        return False


def _further_pages(data: bytes, order: str) -> bool:
    """Whether a directory after a TIFF's first one is a page: a thumbnail or a mask belongs to another one."""
    (directory,) = struct.unpack_from(order + "I", data, 4)
    seen: set[int] = set()
    while directory not in seen:
        seen.add(directory)
        (entries,) = struct.unpack_from(order + "H", data, directory)
        (following,) = struct.unpack_from(order + "I", data, directory + 2 + 12 * entries)
        if len(seen) > 1 and _is_page(data, order, directory, entries):
            return True
        if not following:
            break
        directory = following
    return False


def _is_page(data: bytes, order: str, directory: int, entries: int) -> bool:
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag == _NEW_SUBFILE_TYPE:
            return not struct.unpack_from(order + "I", data, at + 8)[0] & _REDUCED_OR_MASK
        if tag == _SUBFILE_TYPE and kind == _SHORT:
            return struct.unpack_from(order + "H", data, at + 8)[0] != _REDUCED
    return True


def _of_gif(data: bytes) -> bool:
    found = 0
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[at] != 0x3B:
        if data[at] == 0x2C:  # a picture: its place, its own colours, the width of its codes
            found += 1
            if found > 1:
                return True
            flags = data[at + 9]
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif data[at] == 0x21:
            at += 2
        else:
            return False
        while data[at]:  # blocks that each follow their length; length 0 marks the last
            at += 1 + data[at]
        at += 1
    return False


def _frames_of_png(data: bytes) -> int:
    """The number that the chunk acTL says, which stands before the picture's data; 1 without one."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"acTL":
            return struct.unpack_from(">I", data, at + 8)[0]
        if kind == b"IDAT":
            return 1
        at += 12 + length
    return 1
