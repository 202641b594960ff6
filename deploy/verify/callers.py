"""Callers: how other programs decode and scale a picture before they call an engine, for `verify --as`.

Each differs from the bundle's own preprocessing in what it does with the EXIF orientation and in how it scales; which
part of the picture is taken (`resize`) stays the bundle's, because every caller can be told that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.pictures import decode_picture
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import Interpolation


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What a program does with a picture."""

    does: str
    """Its usual lines, in its own words."""
    interpolation: Interpolation
    """How it scales; `docs/pixels.md` says how near this is to it."""
    turns: bool
    """Whether it turns a picture upright by its EXIF orientation."""
    halves_colours: bool = False
    """Whether it keeps one colour for each 2x2 pixels, as video does."""


CALLERS = {
    "pil": Caller(does="Image.open(f).convert('RGB').resize((size, size))", interpolation="bicubic-aa", turns=False),
    "torchvision": Caller(
        does="decode_image(f), v2.Resize((size, size), antialias=True)", interpolation="bilinear-aa", turns=False
    ),
    "opencv-linear": Caller(does="cv2.resize(cv2.imread(f), (size, size))", interpolation="bilinear", turns=True),
    "browser": Caller(
        does="createImageBitmap(blob, {resizeWidth, resizeHeight, resizeQuality: 'low'})",
        interpolation="bilinear",
        turns=True,
    ),
    "android": Caller(
        does="Bitmap.createScaledBitmap(BitmapFactory.decodeFile(f), size, size, true)",
        interpolation="bilinear",
        turns=False,
    ),
    "nvinfer": Caller(
        does="frames of NV12, scaled bilinearly by DeepStream",
        interpolation="bilinear",
        turns=False,
        halves_colours=True,
    ),
}
"""By their names on the command line."""
Prepare = Callable[[MultiLabelDataset, int], np.ndarray]
"""From a data set and a row of it to uint8 RGB `[size, size, 3]`."""


def as_caller(name: str, own: Preprocess) -> Prepare:
    """How a caller prepares a picture of a data set for an engine.

    Args:
        name: one of `CALLERS`.
        own: the bundle's preprocessing, of which the size and the part of the picture are kept.

    Raises:
        InputError: there is no such caller; near names are suggested. The function raises it for a picture that cannot
            be read.

    Example:
        >>> prepare = as_caller("pil", engine.preprocess)
        >>> pixels = prepare(load_dataset("my-pictures", "test"), 0)
    """
    if name not in CALLERS:
        raise InputError(f"no caller {name!r}{did_you_mean(name, CALLERS)}; expected one of {', '.join(CALLERS)}")
    caller = CALLERS[name]
    scaled = own.model_copy(update={"interpolation": caller.interpolation})

    def prepare(data: MultiLabelDataset, row: int) -> np.ndarray:
        image = data.picture(row)
        if not caller.turns:
            image = _as_stored(data.stored(row), str(data.paths[row]))
        return scaled(_with_half_colours(image) if caller.halves_colours else image)

    return prepare


def _as_stored(data: bytes, name: str) -> np.ndarray:
    """Decode a picture without turning it."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:  # a picture that this decoder alone refuses
        return decode_picture(data, name)
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _with_half_colours(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    yuv = cv2.cvtColor(image, cv2.COLOR_RGB2YUV)
    half = cv2.resize(yuv[..., 1:], (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)
    yuv[..., 1:] = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB)
