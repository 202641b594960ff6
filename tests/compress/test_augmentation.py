"""How pictures are varied: by seed, variation and content alone, and what each way of varying does."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from edgepress.compress import augmentation as augmentation_module
from edgepress.compress.augmentation import Augmentation
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import Interpolation

AUGMENTATION = Augmentation(augment="randaugment", flip=0.5, cutout=0.5, seed=3)


def random_picture(side: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("augment", ["none", "randaugment"])
def test_an_augmentation_follows_from_seed_epoch_and_index_alone(augment):
    image = random_picture()
    vary = Augmentation(augment=augment, flip=0.5, cutout=0.5, seed=3)
    first = vary(image, 1, 5)
    torch.manual_seed(99)
    np.random.seed(99)
    for other in (0, 1, 2):
        vary(image, other, other)
    assert np.array_equal(vary(image, 1, 5), first)
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert first.flags["C_CONTIGUOUS"]
    assert any(not np.array_equal(vary(image, 1, other), first) for other in range(6, 10))
    assert any(not np.array_equal(vary(image, other, 5), first) for other in range(2, 6))
    assert np.array_equal(replace(vary, variations=2)(image, 3, 5), vary(image, 1, 5))
    reseeded = [Augmentation(augment=augment, flip=0.5, cutout=0.5, seed=seed)(image, 1, 5) for seed in range(4, 8)]
    assert any(not np.array_equal(other, first) for other in reseeded)


def test_augmenting_leaves_its_picture_and_the_global_generators_alone():
    image = random_picture()
    kept = image.copy()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    for index in range(20):
        AUGMENTATION(image, 0, index)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)
    assert np.array_equal(image, kept)


def test_nothing_to_vary_gives_the_picture_itself():
    image = random_picture()
    still = Augmentation(augment="none", flip=0, cutout=0, seed=0)
    assert all(np.array_equal(still(image, 0, index), image) for index in range(5))


def test_flip_is_a_mirror_image_at_its_probability():
    image = random_picture()
    always = Augmentation(augment="none", flip=1, cutout=0, seed=0)
    assert np.array_equal(always(image, 0, 0), image[:, ::-1])
    half = Augmentation(augment="none", flip=0.5, cutout=0, seed=0)
    flipped = sum(np.array_equal(half(image, 0, index), image[:, ::-1]) for index in range(200))
    assert 70 <= flipped <= 130


def test_cutout_lays_one_grey_square_no_larger_than_its_share():
    image = np.zeros((40, 40, 3), np.uint8)
    cut = Augmentation(augment="none", flip=0, cutout=0.5, seed=0)
    sides = set()
    for index in range(100):
        grey = (cut(image, 0, index) == 128).all(axis=2)
        rows, columns = np.nonzero(grey.any(axis=1))[0], np.nonzero(grey.any(axis=0))[0]
        if len(rows):
            assert len(rows) == len(columns) == rows[-1] - rows[0] + 1 == columns[-1] - columns[0] + 1
            assert grey.sum() == len(rows) ** 2
        sides.add(len(rows))
    assert max(sides) <= 20
    assert max(sides) >= 17


def test_augmenting_seeds_no_generator_of_a_gpu(monkeypatch):
    """A GPU's generator decides the step's dropout."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    AUGMENTATION(np.zeros((32, 32, 3), np.uint8), 0, 1)
    assert not seeded
    torch.manual_seed(0)
    assert seeded


def test_resize_jitter_draws_an_interpolation_for_each_picture_and_variation():
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    own, ways = Preprocess(size=24), get_args(Interpolation)
    scaled = {way: own.model_copy(update={"interpolation": way})(noise).tobytes() for way in ways}
    vary = Augmentation(augment="none", flip=0, cutout=0, seed=0, resize_jitter=True)
    drawn = [
        next(way for way, pixels in scaled.items() if vary.scale(noise, own, epoch, picture).tobytes() == pixels)
        for epoch in range(4)
        for picture in range(10)
    ]
    assert set(drawn) == set(ways)
    assert vary.scale(noise, own, 3, 9).tobytes() == scaled[drawn[-1]]
    still = Augmentation(augment="none", flip=0, cutout=0, seed=0, interpolation="bilinear")
    assert all(still.scale(noise, own, epoch, 1).tobytes() == scaled["bilinear"] for epoch in range(9))


def test_random_crops_show_a_part_of_the_picture_of_at_least_the_share():
    """By the corners of a gradient of rows and columns: where the part begins and ends."""
    rows, columns = np.mgrid[0:100, 0:200]
    picture = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
    vary = Augmentation(augment="none", flip=0, cutout=0, seed=0, random_crop=0.3, interpolation="bilinear")
    areas, forms, tops = [], [], []
    for number in range(200):
        part = augmentation_module._cropped(picture, 0.3, np.random.default_rng(number))
        height, width = part.shape[:2]
        assert np.array_equal(part, picture[part[0, 0, 0] :, part[0, 0, 1] :][:height, :width])
        areas.append(height * width / 20_000)
        forms.append(width / height / 2)
        tops.append(int(part[0, 0, 0]))
    assert 0.28 < min(areas) < 0.35
    assert 0.9 < max(areas) <= 1
    assert 0.74 < min(forms) < 0.85
    assert 1.2 < max(forms) < 1.35
    assert len(set(tops)) > 20
    own = Preprocess(size=24)
    first = vary.scale(picture, own, 0, 1)
    assert np.array_equal(first, vary.scale(picture, own, 0, 1))
    assert not np.array_equal(first, vary.scale(picture, own, 1, 1))
    assert not np.array_equal(first, replace(vary, random_crop=1.0).scale(picture, own, 0, 1))
