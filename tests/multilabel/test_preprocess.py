"""Preprocess: the one way from a picture to a model's input."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import Interpolation, resample


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


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
    interpolation=st.sampled_from(get_args(Interpolation)),
    fraction=st.floats(0.3, 1.0),
)
def test_any_picture_becomes_a_square_of_uint8(height, width, size, mode, interpolation, fraction):
    preprocess = Preprocess(size=size, resize=mode, crop_fraction=fraction, interpolation=interpolation)
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


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((32, 96), (6, 14), (0, 20)), ((50, 20), (0, 20), (6, 14)), ((1, 900), (9, 10), (0, 20))],
)
def test_letterbox_keeps_the_shape_between_black_bars(shape, rows, columns):
    result = Preprocess(size=20, resize="letterbox")(np.full((*shape, 3), 200, np.uint8))
    shown = np.zeros((20, 20, 3), np.uint8)
    shown[slice(*rows), slice(*columns)] = 200
    if shape[0] == 32:  # 6.67 rows become 7: one bar is a row wider
        shown[13] = 0
    np.testing.assert_array_equal(result, shown)


def test_the_interpolation_is_kept_and_a_manifest_without_one_has_the_first(noise):
    antialiased = Preprocess(size=24, interpolation="bilinear-aa")
    np.testing.assert_array_equal(antialiased(noise), resample(noise, 24, 24, "bilinear-aa"))
    assert (Preprocess(size=24)(noise) != antialiased(noise)).any()
    kept = antialiased.model_dump(exclude={"interpolation"})
    assert Preprocess.model_validate(kept).interpolation == "area-cubic"


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
    with pytest.raises(InputError, match=r"received .*; expected a uint8 RGB picture \[H, W, 3\]"):
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


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mean": 127}, "mean\n  Value error, expected three numbers, for red, green and blue"),
        ({"std": (0.2, 0.2)}, "std\n  Value error, expected three numbers, for red, green and blue"),
        ({"mean": "0.485,0.456,0.406"}, "expected three numbers, for red, green and blue, such as 0.485, 0.456, 0.406"),
        ({"mean": (123.675, 116.28, 103.53)}, "pixels in 0..255 are divided by 255: 0.485,0.456,0.406"),
        ({"std": (58.395, 57.12, 57.375)}, "pixels in 0..255 are divided by 255: 0.229,0.224,0.225"),
        ({"mean": (-2, 0, 0)}, "expected three numbers from -1 to 1"),
        ({"std": (0.2, 0, 0.2)}, "expected three numbers from 0 to 2, those of std above 0"),
    ],
)
def test_a_mean_or_std_of_no_pixels_in_0_to_1_is_refused_with_what_to_give(fields, said):
    with pytest.raises(ValidationError) as refused:
        Preprocess(size=32, **fields)
    assert said in str(refused.value)
    one = Preprocess(size=32, mean=(0, 0, 0), std=(1 / 255,) * 3)  # of a model that takes 0..255
    assert one.std[0] == 1 / 255


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
