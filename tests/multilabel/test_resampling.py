"""Resampling: each interpolation is what it is named after, byte for byte, everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepress.multilabel.resampling import Interpolation, resample, without_ipp

# What OpenCV 4.8 to 5.0 give with Intel IPP off, on x86 with and without AVX2; compared in docs/devices.md.
SAME_EVERYWHERE = {
    "area-cubic": "b9b824f765c0146ea7723f247f0be2322b8ba9718601e4bb017c49415e6990ca",
    "bilinear-aa": "c8b2c7ade4397c3d930e7c2a086df411414ec15a7c8cfd0e69168b33672ac980",
    "bicubic-aa": "fec8e9fdeb7872b1680ac4b9adca052ae6b00ac1e81731225d74e9fcfb318ccd",
    "bilinear": "a01c1a7374a42d78a12a1a68529238b238c9151627557d33ccfa5b6a78221cfe",
}
_HASH = """
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import get_args
import numpy as np
from edgepress.multilabel.resampling import Interpolation, resample

def hashed(way):
    noise = np.random.default_rng(0).integers(0, 256, (333, 517, 3), dtype=np.uint8)
    sizes = ((100, 900), (600, 100), (111, 47), (224, 224), (999, 1234), (166, 258))
    return hashlib.sha256(b"".join(resample(noise, *size, way).tobytes() for size in sizes)).hexdigest()

with ThreadPoolExecutor(2) as pool:
    ways = get_args(Interpolation)
    print(*map(hashed, ways), *pool.map(hashed, ways * 2))
"""


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_resize_is_area_down_cubic_up_and_nothing_at_the_same_size(noise):
    with without_ipp():
        down = cv2.resize(noise, (31, 20), interpolation=cv2.INTER_AREA)
        up = cv2.resize(noise, (200, 100), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(resample(noise, 20, 31), down)
    np.testing.assert_array_equal(resample(noise, 100, 200), up)
    np.testing.assert_array_equal(resample(noise, 60, 90), noise)


@pytest.mark.parametrize("setting", ["", "disabled", "sse42", "avx2", "avx512"])
def test_resize_gives_the_same_bytes_whatever_intel_ipp_would_do_in_every_thread(setting):
    environment = {**os.environ, "OPENCV_IPP": setting}
    done = subprocess.run([sys.executable, "-c", _HASH], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(SAME_EVERYWHERE.values()) * 3


def test_the_switch_of_ipp_is_left_as_it_was(noise):
    before = cv2.ipp.useIPP()
    try:
        for used in (True, False):
            cv2.ipp.setUseIPP(used)
            used = cv2.ipp.useIPP()  # stays off in a build without IPP
            resample(noise, 200, 200)
            assert cv2.ipp.useIPP() == used
    finally:
        cv2.ipp.setUseIPP(before)


def test_resize_takes_each_side_by_its_own_rule(noise):
    # A picture whose rows are all alike loses nothing when its height shrinks: what is left is the cubic growth.
    alike = np.repeat(noise[:1], 60, axis=0)
    with without_ipp():
        expected = cv2.resize(alike, (180, 60), interpolation=cv2.INTER_CUBIC)[:1]
    np.testing.assert_array_equal(resample(alike, 15, 180), np.repeat(expected, 15, axis=0))
    # The same the other way round: columns alike, width grows, height shrinks by whole factors to block means.
    alike = np.repeat(noise[:, :1], 90, axis=1)
    means = alike[:, 0].reshape(15, 4, 3).mean(axis=1)
    result = resample(alike, 15, 180)
    assert result.shape == (15, 180, 3)
    assert np.abs(result - means[:, None]).max() <= 0.5


@pytest.mark.parametrize(("interpolation", "theirs"), [("bilinear-aa", "BILINEAR"), ("bicubic-aa", "BICUBIC")])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 300), width=st.integers(1, 90), rows=st.integers(1, 120), columns=st.integers(1, 120),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_antialiased_pixels_are_pillows_own(interpolation, theirs, height, width, rows, columns, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((columns, rows), getattr(Image.Resampling, theirs)))
    np.testing.assert_array_equal(resample(image, rows, columns, interpolation), expected)


def test_bilinear_looks_at_the_four_nearest_pixels_alone(noise):
    by_opencv = cv2.resize(noise, (31, 20), interpolation=cv2.INTER_LINEAR)
    assert np.abs(resample(noise, 20, 31, "bilinear").astype(int) - by_opencv).max() <= 1
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, 1::4] = stripes[:, 2::4] = 200
    assert (resample(stripes, 16, 16, "bilinear") == 200).all()
    assert np.ptp(resample(stripes, 16, 16, "bilinear-aa")[:, 2:-2]) <= 1


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_nothing_is_done_at_the_same_size_and_a_colour_stays(interpolation, noise):
    np.testing.assert_array_equal(resample(noise, 60, 90, interpolation), noise)
    plain = np.full((7, 300, 3), (0, 130, 255), np.uint8)
    for size in ((3, 5), (64, 31), (7, 999)):
        scaled = resample(plain, *size, interpolation)
        assert (scaled.dtype, scaled.flags.c_contiguous) == (np.uint8, True)
        np.testing.assert_array_equal(scaled, np.broadcast_to(plain[:1, :1], (*size, 3)))
