"""Pictures as someone who means harm, or knows no better, gives them: each by the name of its file."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

NAMES = ("<img src=x onerror=harmed=1>.jpg", "${window.harmed=1}.jpg", "{{#each this}}{{@key}}{{/each}}.jpg")
PNG = b"\x89PNG\r\n\x1a\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.harmed = 1"><script>window.harmed = 1</script></svg>'


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header promises so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg_claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """A baseline JPEG with another size in its frame header."""
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def webp_claiming(side: int) -> bytes:
    """A WebP in the extended format whose header promises `side` x `side` pixels."""
    size = struct.pack("<I", side - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + size + bytes(100)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """The JPEG with an EXIF segment behind its start marker."""
    exif = b"Exif\0\0" + exif
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def with_orientation(jpeg: bytes, orientation: int, extra: bytes = b"") -> bytes:
    """The JPEG with an EXIF segment of one entry, tag 0x0112."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return with_exif(jpeg, struct.pack("<2sHIH", b"II", 42, 8, 1) + entry + struct.pack("<I", 0) + extra)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def refused(jpeg: bytes) -> dict[str, tuple[bytes, str]]:
    """What cannot be read: a file's name to its bytes, and what the page says of it."""
    return {
        "huge.png": (png_claiming(60_000, 60_000), "60000x60000"),
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


def _cut_at_markers(jpeg: bytes) -> dict[str, tuple[bytes, str]]:
    """A JPEG that ends before each of its markers, and right behind it."""
    places = [found.start() for found in re.finditer(rb"\xff[^\x00\xd0-\xd7\xff]", jpeg)][1:]
    cuts = {f"cut-{place:05d}.jpg": jpeg[:place] for place in places}
    cuts |= {f"cut-{place:05d}-behind.jpg": jpeg[: place + 2] for place in places[:-1]}
    return {name: (data, "truncated JPEG") for name, data in cuts.items()}


def _more_refused(rgb: np.ndarray, jpeg: bytes) -> dict[str, tuple[bytes, str]]:
    png, webp = _saved(Image.fromarray(rgb), "PNG"), _saved(Image.fromarray(rgb), "WEBP")
    return {
        "bomb.jpg": (jpeg_claiming(jpeg, 65_000, 65_000), "65000x65000 pixels"),
        "bomb.webp": (webp_claiming(1 << 20), "1048576x1048576 pixels"),
        "tall.png": (png_claiming(1, 120_000_001), "1x120000001 pixels"),
        "zero.jpg": (b"", "the file is empty"),
        "zeros.png": (bytes(5000), "not a picture in a format that is read"),
        "half.png": (png[: len(png) // 2], "truncated PNG"),
        "half.webp": (webp[: len(webp) // 2], "a damaged picture"),
        "head.webp": (webp[:16], "truncated picture"),
        "wrong\nline.jpg": (b"no picture", "not a picture"),
        "\x1b[2J\x1b]0;owned\x07.jpg": (b"no picture", "not a picture"),
    }


def _more_readable(rgb: np.ndarray, jpeg: bytes) -> dict[str, bytes]:
    image = Image.fromarray(rgb)
    moving = _saved(image, "WEBP", save_all=True, append_images=[Image.new("RGB", image.size)] * 3)
    return {
        "palette.png": _saved(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        "bits.png": _saved(image.convert("1"), "PNG"),
        "grey.jpg": _saved(image.convert("L"), "JPEG"),
        "dot.png": _saved(image.crop((0, 0, 1, 1)), "PNG"),
        "line.png": _saved(image.crop((0, 0, 1, 1)).resize((1, 20_000)), "PNG"),
        "moving.webp": moving,
        "turned-99.jpg": with_orientation(jpeg, 99),
        "exif-cut.jpg": with_exif(jpeg, struct.pack("<2sHIHHH", b"II", 42, 8, 9, 0x0112, 3)),
        "exif-away.jpg": with_exif(jpeg, struct.pack("<2sHI", b"II", 42, 1 << 31)),
        "good\nline.jpg": jpeg,
        "good\x1b[2J.jpg": jpeg,
        "png.jpg": _saved(image, "PNG"),
    }


def write_corpus(folder: Path, rgb: np.ndarray) -> dict[Path, str | None]:
    """Everything above as files, and what is no file under a picture's name.

    Args:
        rgb: a picture, uint8 RGB.

    Returns:
        Every path that ends as pictures do, and why it cannot be read; None where it can.
    """
    folder.mkdir(parents=True)
    done, coded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert done
    jpeg = coded.tobytes()
    named = {name.replace("/", "|"): one for name, one in refused(jpeg).items()}
    broken = {**named, **_cut_at_markers(jpeg), **_more_refused(rgb, jpeg)}
    whole = {**readable(rgb), **_more_readable(rgb, jpeg)}
    for name, data in {**{name: data for name, (data, _) in broken.items()}, **whole}.items():
        (folder / name).write_bytes(data)
    broken.pop("script.svg")  # no picture of a folder ends so
    os.mkfifo(folder / "pipe.jpg")
    links = {"loop.jpg": "loop.jpg", "nowhere.jpg": "gone.jpg", "endless.jpg": "/dev/zero", "round": "."}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    special = dict.fromkeys(("pipe.jpg", "endless.jpg"), "a device or a pipe")
    special |= dict.fromkeys(("loop.jpg", "nowhere.jpg"), "cannot be read")
    reasons = {name: said for name, (_, said) in broken.items()} | special
    return {folder / name: reasons.get(name) for name in (*whole, *reasons)}
