"""Resampling: scale a picture in the ways in which programs do it, the same byte for byte on every processor."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import cv2
import numpy as np

Interpolation = Literal["area-cubic", "bilinear-aa", "bicubic-aa", "bilinear"]
"""How the pixels of a scaled picture are computed.

- `area-cubic`: OpenCV's area interpolation along a side that shrinks, cubic along one that grows.
- `bilinear-aa`, `bicubic-aa`: a triangle, or Keys's cubic with a = -0.5, which is as wide as what becomes one pixel
  (antialiased): Pillow's BILINEAR and BICUBIC, and torchvision's with `antialias`.
- `bilinear`: between the four nearest pixels, however much a picture shrinks: OpenCV's default, and what most
  hardware scalers and canvases do.
"""
_BITS = 22
"""Bits of a weight, as in Pillow: a sum of weights times bytes is exact in float64 in any order, so it is the same on
every processor."""
_BLOCK = 4
"""Rows of the result that are computed from one float64 copy of the rows beneath them."""


def resample(image: np.ndarray, height: int, width: int, interpolation: Interpolation = "area-cubic") -> np.ndarray:
    """Scale uint8 RGB `[H, W, 3]` to uint8 RGB `[height, width, 3]`.

    The result is the same on every x86 processor and in OpenCV 4.8 to 5.0. On ARM `area-cubic` differs by one in about
    one value of a million where a picture grows (docs/devices.md, "ARM, emulated"). `bilinear-aa` and `bicubic-aa` are
    Pillow's own bytes.

    Example:
        >>> resample(np.zeros((480, 640, 3), np.uint8), 224, 224, "bilinear-aa").shape
        (224, 224, 3)
    """
    if interpolation == "area-cubic":
        return _area_cubic(image, height, width)
    if interpolation == "bilinear":
        with without_ipp():
            return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    # Rows first, as Pillow does it: the first result is rounded and clipped, so the order shows.
    scaled = cv2.transpose(_columns(cv2.transpose(image), width, interpolation))
    return _columns(scaled, height, interpolation)


def _area_cubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    shrunk = (min(image.shape[0], height), min(image.shape[1], width))
    with without_ipp():
        if shrunk != image.shape[:2]:
            image = cv2.resize(image, (shrunk[1], shrunk[0]), interpolation=cv2.INTER_AREA)
        if shrunk != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return image


@contextlib.contextmanager
def without_ipp() -> Iterator[None]:
    """Stop OpenCV from using Intel IPP in this thread until the block ends.

    OpenCV's wheels for x86 resize with IPP, whose pixels differ between processors, and those for ARM do not have it.
    The setting belongs to the thread that changes it, so it is changed around each call. The environment variable
    OPENCV_IPP=disabled would do the same for the whole process, with a warning on stderr.
    """
    used = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(used)


class _Taps(NamedTuple):
    """Which rows make each row of the result, and by how much."""

    first: list[int]
    taken: list[int]
    weights: np.ndarray
    """float64 `[size, most]`, whole numbers of 2^-22ths; 0 beyond `taken`."""


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _keys(x: np.ndarray) -> np.ndarray:
    """Keys's cubic convolution with a = -0.5 (IEEE Transactions on Acoustics, Speech, and Signal Processing, 1981)."""
    x = np.abs(x)
    inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


_FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "bilinear-aa": (_triangle, 1),
    "bicubic-aa": (_keys, 2),
}
"""Each filter, and where it ends on either side."""


@functools.lru_cache(maxsize=256)
def _taps(length: int, size: int, interpolation: str) -> _Taps:
    """The taps that scale `length` rows to `size`: the filter is widened where rows become fewer."""
    filtered, support = _FILTERS[interpolation]
    scale = length / size
    wide = max(scale, 1.0)
    centre = (np.arange(size) + 0.5) * scale
    first = np.maximum(np.floor(centre - support * wide + 0.5).astype(np.int64), 0)
    count = np.minimum(np.floor(centre + support * wide + 0.5).astype(np.int64), length) - first
    place = np.arange(int(count.max()))
    weights = filtered((first[:, None] + place - centre[:, None] + 0.5) / wide) * (place < count[:, None])
    weights = weights * (1 / weights.cumsum(axis=1)[:, -1:]) * 2**_BITS  # added one after the other, as in Pillow
    weights = np.trunc(weights + np.copysign(0.5, weights))
    return _Taps(first.tolist(), count.tolist(), weights / 2**_BITS)


def _columns(image: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """Scale the columns of uint8 `[N, M, 3]`: uint8 `[size, M, 3]`."""
    length, width = image.shape[:2]
    if length == size:
        return image
    taps = _taps(length, size, interpolation)
    flat, scaled = image.reshape(length, width * 3), np.empty((size, width * 3), np.uint8)
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        low, high = taps.first[start], max(map(sum, zip(taps.first[start:end], taps.taken[start:end], strict=True)))
        beneath = flat[low:high].astype(np.float64)
        sums = np.empty((end - start, width * 3))
        for row, out in enumerate(sums, start):
            first, taken = taps.first[row] - low, taps.taken[row]
            np.dot(taps.weights[row, :taken], beneath[first : first + taken], out=out)
        sums += 0.5
        if interpolation == "bicubic-aa":  # it overshoots
            np.clip(sums, 0, 255, out=sums)
        scaled[start:end] = sums
    return scaled.reshape(size, width, 3)
