"""docs/bundle.md describes the resize so exactly that a program which follows the page computes the same pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgepress.multilabel.preprocess import Preprocess

MOST_DIFFERENT = 0.003
"""The share of values that the page allows to differ by one."""


def by_area(source: int, target: int) -> np.ndarray:
    """The share of each source pixel in each target pixel, `[target, source]`."""
    scale, shares = source / target, np.zeros((target, source))
    for to in range(target):
        start, end = to * scale, min((to + 1) * scale, source)
        for at in range(source):
            covered = min(at + 1, end) - max(at, start)
            shares[to, at] = covered if covered > 1e-3 else 0
    return shares / shares.sum(axis=1, keepdims=True)


def by_cubic(source: int, target: int) -> np.ndarray:
    """The weight of each source pixel in each target pixel in 1/2048, `[target, source]`."""
    a, weights = -0.75, np.zeros((target, source), np.int64)
    for to in range(target):
        x = np.float32((to + 0.5) * source / target - 0.5)
        left = math.floor(x)
        f = np.float32(x - left)
        w = [((a * (f + 1) - 5 * a) * (f + 1) + 8 * a) * (f + 1) - 4 * a]
        w += [((a + 2) * g - (a + 3)) * g * g + 1 for g in (f, 1 - f)]
        for k, weight in enumerate([*w, 1 - sum(w)]):
            weights[to, min(max(left - 1 + k, 0), source - 1)] += round(float(weight) * 2048)
    return weights


def described(picture: np.ndarray, size: int) -> np.ndarray:
    """The resize of the page, in numpy."""
    shrunk = [min(side, size) for side in picture.shape[:2]]
    if shrunk != list(picture.shape[:2]):
        down, right = (by_area(side, to) for side, to in zip(picture.shape[:2], shrunk, strict=True))
        mean = np.einsum("th,sw,hwc->tsc", down, right, picture.astype(float), optimize=True)
        halved = picture.shape[:2] == (2 * shrunk[0], 2 * shrunk[1])
        picture = (np.floor(mean + 0.5) if halved else np.rint(np.round(mean, 4))).astype(np.uint8)
    if shrunk != [size, size]:
        down, right = (by_cubic(side, size) for side in shrunk)
        total = np.einsum("th,sw,hwc->tsc", down, right, picture.astype(np.int64), optimize=True)
        picture = np.clip((total + (1 << 21)) >> 22, 0, 255).astype(np.uint8)
    return picture


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (160, 160, 96),
        (128, 128, 64),
        (96, 96, 32),
        (120, 213, 64),
        (60, 50, 96),
        (60, 200, 96),
        (200, 33, 64),
        (64, 64, 64),
    ],
)
def test_the_page_gives_our_pixels(height, width, size):
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    apart = np.abs(Preprocess(size=size)(picture).astype(int) - described(picture, size))
    assert apart.max() <= 1
    assert (apart > 0).mean() <= MOST_DIFFERENT


def test_another_kernel_would_be_seen():
    picture = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    assert np.abs(Preprocess(size=96)(picture).astype(int) - described(picture.transpose(1, 0, 2), 96)).max() > 1


@pytest.mark.parametrize(("height", "width", "fraction"), [(90, 61, 0.875), (61, 90, 1.0), (20, 9, 0.5)])
def test_the_crop_is_the_pages(height, width, fraction):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = max(1, round(min(height, width) * fraction))
    top, left = (height - side) // 2, (width - side) // 2
    whole, cut = Preprocess(size=16), picture[top : top + side, left : left + side]
    crop = Preprocess(size=16, resize="crop", crop_fraction=fraction)
    assert np.array_equal(crop(picture), whole(np.ascontiguousarray(cut)))
