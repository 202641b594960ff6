"""Files of several pictures, of which the first is read: counted, so that `data` can say so."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from edgepress.multilabel.frames import has_several

FORMATS = ["GIF", "TIFF", "WEBP", "PNG", "AVIF"]


def saved(format: str, frames: int) -> bytes:
    noise = np.random.default_rng(0)
    first, *others = (Image.fromarray(noise.integers(0, 256, (20, 30, 3), np.uint8)) for _ in range(frames))
    file = io.BytesIO()
    first.save(file, format, **({"save_all": True, "append_images": others} if others else {}))
    return file.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_several_pictures_are_told_from_one(format):
    assert not has_several(saved(format, 1))
    assert has_several(saved(format, 3))


@pytest.mark.parametrize("format", ["JPEG", "BMP"])
def test_other_formats_have_one(format):
    assert not has_several(saved(format, 1))


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_cut_anywhere_ends_in_an_answer(format):
    """No part of one picture looks like several, and of two pictures no longer part is told otherwise."""
    one, two = saved(format, 1), saved(format, 2)
    assert not any(has_several(one[:end]) for end in range(0, len(one), 7))
    told = [has_several(two[:end]) for end in range(0, len(two), 7)]
    assert told == sorted(told)
    assert not told[0]


@pytest.mark.parametrize(
    ("tag", "value", "several"), [(254, 1, False), (254, 4, False), (254, 2, True), (255, 2, False)]
)
def test_a_thumbnail_or_a_mask_in_a_tiff_is_no_page(tag, value, several):
    file, (page, thumbnail) = io.BytesIO(), (Image.new("RGB", size) for size in ((30, 20), (8, 8)))
    said = TiffImagePlugin.ImageFileDirectory_v2()
    said.tagtype[tag], said[tag] = 4 if tag == 254 else 3, value
    thumbnail.encoderinfo = {"tiffinfo": said}
    page.save(file, "TIFF", save_all=True, append_images=[thumbnail])
    assert has_several(file.getvalue()) == several


def test_directories_of_a_tiff_that_follow_each_other_in_a_circle_end():
    data = bytearray(saved("TIFF", 1))
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * entries, directory)
    assert not has_several(bytes(data))
