"""Preprocess: the one way from a picture to a model's input."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgepress.multilabel.preprocess import Preprocess, resize, without_ipp

# What OpenCV 4.8 to 5.0 give with Intel IPP off, on x86 with and without AVX2; compared in docs/devices.md.
SAME_EVERYWHERE = "b9b824f765c0146ea7723f247f0be2322b8ba9718601e4bb017c49415e6990ca"
_HASH = """
import hashlib
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from edgepress.multilabel.preprocess import resize

def hashed(_):
    noise = np.random.default_rng(0).integers(0, 256, (333, 517, 3), dtype=np.uint8)
    sizes = ((100, 900), (600, 100), (111, 47), (224, 224), (999, 1234), (166, 258))
    return hashlib.sha256(b"".join(resize(noise, *size).tobytes() for size in sizes)).hexdigest()

with ThreadPoolExecutor(2) as pool:
    print(hashed(0), *pool.map(hashed, range(4)))
"""


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_resize_is_area_down_cubic_up_and_nothing_at_the_same_size(noise):
    with without_ipp():
        down = cv2.resize(noise, (31, 20), interpolation=cv2.INTER_AREA)
        up = cv2.resize(noise, (200, 100), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(resize(noise, 20, 31), down)
    np.testing.assert_array_equal(resize(noise, 100, 200), up)
    np.testing.assert_array_equal(resize(noise, 60, 90), noise)


@pytest.mark.parametrize("setting", ["", "disabled", "sse42", "avx2", "avx512"])
def test_resize_gives_the_same_bytes_whatever_intel_ipp_would_do_in_every_thread(setting):
    environment = {**os.environ, "OPENCV_IPP": setting}
    done = subprocess.run([sys.executable, "-c", _HASH], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [SAME_EVERYWHERE] * 5


def test_the_switch_of_ipp_is_left_as_it_was(noise):
    before = cv2.ipp.useIPP()
    try:
        for used in (True, False):
            cv2.ipp.setUseIPP(used)
            used = cv2.ipp.useIPP()  # stays off in a build without IPP
            resize(noise, 200, 200)
            assert cv2.ipp.useIPP() == used
    finally:
        cv2.ipp.setUseIPP(before)


def test_resize_takes_each_side_by_its_own_rule(noise):
    # A picture whose rows are all alike loses nothing when its height shrinks: what is left is the cubic growth.
    alike = np.repeat(noise[:1], 60, axis=0)
    with without_ipp():
        expected = cv2.resize(alike, (180, 60), interpolation=cv2.INTER_CUBIC)[:1]
    np.testing.assert_array_equal(resize(alike, 15, 180), np.repeat(expected, 15, axis=0))
    # The same the other way round: columns alike, width grows, height shrinks by whole factors to block means.
    alike = np.repeat(noise[:, :1], 90, axis=1)
    means = alike[:, 0].reshape(15, 4, 3).mean(axis=1)
    result = resize(alike, 15, 180)
    assert result.shape == (15, 180, 3)
    assert np.abs(result - means[:, None]).max() <= 0.5


def test_a_fine_pattern_shrinks_to_its_mean_not_to_stripes():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(Preprocess(size=16)(stripes).astype(int) - 100).max() <= 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.integers(8, 40),
    mode=st.sampled_from(["squash", "crop"]),
    fraction=st.floats(0.3, 1.0),
)
def test_any_picture_becomes_a_square_of_uint8(height, width, size, mode, fraction):
    preprocess = Preprocess(size=size, resize=mode, crop_fraction=fraction)
    image = np.full((height, width, 3), (10, 120, 250), dtype=np.uint8)
    result = preprocess(image)
    assert result.shape == (size, size, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, np.broadcast_to(np.uint8([10, 120, 250]), result.shape))


def test_squash_keeps_the_whole_picture_and_crop_the_middle():
    image = np.zeros((32, 96, 3), dtype=np.uint8)
    image[:, :32, 0] = image[:, 32:64, 1] = image[:, 64:, 2] = 255
    squashed = Preprocess(size=24)(image)
    assert [tuple(squashed[12, x]) for x in (2, 12, 21)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    cropped = Preprocess(size=32, resize="crop", crop_fraction=1.0)(image)
    np.testing.assert_array_equal(cropped, image[:, 32:64])
    cropped = Preprocess(size=16, resize="crop", crop_fraction=0.5)(image.transpose(1, 0, 2))
    np.testing.assert_array_equal(cropped, image[8:24, 40:56].transpose(1, 0, 2))


def test_load_reads_and_prepares(tmp_path, noise):
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), cv2.cvtColor(noise, cv2.COLOR_RGB2BGR))
    preprocess = Preprocess(size=24)
    np.testing.assert_array_equal(preprocess.load(file), preprocess(noise))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ],
)
def test_what_is_no_rgb_picture_is_refused(image):
    with pytest.raises(ValueError, match=r"received .*; expected a uint8 RGB picture \[H, W, 3\]"):
        Preprocess(size=16)(image)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"size": 4},
        {"size": 5000},
        {"size": 32, "sizes": 3},
        {"size": 32, "resize": "pad"},
        {"size": 32, "crop_fraction": 0},
        {"size": 32, "crop_fraction": 1.1},
        {"size": 32, "mean": (0.5, 0.5)},
        {"size": 32, "color_order": "BGR"},
    ],
)
def test_wrong_settings_are_refused(fields):
    with pytest.raises(ValidationError):
        Preprocess(**fields)


def test_it_is_frozen_and_survives_json():
    preprocess = Preprocess(size=32, resize="crop", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    with pytest.raises(ValidationError, match="frozen"):
        preprocess.size = 64
    assert Preprocess.model_validate_json(preprocess.model_dump_json()) == preprocess
    larger = preprocess.with_size(64)
    assert (larger.size, larger.resize, larger.mean) == (64, "crop", preprocess.mean)
    assert preprocess.size == 32


@pytest.mark.parametrize("change", [{"size": -5}, {"std": (0, 1, 1)}, {"mean": (float("nan"), 0, 0)}])
def test_numbers_that_cannot_normalise_are_refused(change):
    with pytest.raises(ValidationError):
        Preprocess(**{"size": 32, **change})
    if "size" in change:
        with pytest.raises(ValidationError):
            Preprocess(size=32).with_size(change["size"])
