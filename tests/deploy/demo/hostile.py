"""Pictures as someone who means harm, or knows no better, gives them: each by the name of its file."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

NAMES = ("<img src=x onerror=harmed=1>.jpg", "${window.harmed=1}.jpg", "{{#each this}}{{@key}}{{/each}}.jpg")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.harmed = 1"><script>window.harmed = 1</script></svg>'


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_few_bytes(side: int) -> bytes:
    """A PNG whose header promises `side` x `side` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def refused(jpeg: bytes) -> dict[str, tuple[bytes, str]]:
    """What cannot be read: a file's name to its bytes, and what the page says of it."""
    return {
        "huge.png": (png_of_few_bytes(60_000), "60000x60000"),
        "script.svg": (SVG, "not a picture in a format that is read"),
        "script.jpg": (SVG, "not a picture in a format that is read"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated JPEG"),
        "text.jpg": (b"this is no picture\n" * 50, "not a picture in a format that is read"),
        "noise.jpg": (jpeg[:2] + bytes(range(256)) + jpeg[-2:], "a JPEG without a picture"),
        **{name: (b"no picture", "not a picture") for name in NAMES},
    }


def readable(rgb: np.ndarray) -> dict[str, bytes]:
    """The same picture, uint8 RGB, in forms that are read."""
    image = Image.fromarray(rgb)
    deep = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257
    return {
        "cmyk.jpg": _saved(image.convert("CMYK"), "JPEG", quality=95),
        "deep.png": cv2.imencode(".png", deep)[1].tobytes(),
        "moving.gif": _saved(image, "GIF", save_all=True, append_images=[Image.new("RGB", image.size)] * 3),
        "alpha.png": _saved(image.convert("RGBA"), "PNG"),
        "scan.tif": _saved(image, "TIFF"),
    }
