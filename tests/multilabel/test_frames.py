"""Files of several pictures, of which the first is read: counted, so that `data` can say so."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

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
