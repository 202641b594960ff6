"""Pictures to batches: reproducible whatever reads them, the evaluation's exact pixels, errors in one line."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from edgepress.compress import loader as loader_module
from edgepress.compress.loader import Augmentation, Batch, ahead, batches, make_loader
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import Interpolation, resample

AUGMENTATION = Augmentation(augment="randaugment", flip=0.5, cutout=0.5, seed=3)
SMALL, LARGE = Preprocess(size=32), Preprocess(size=64)


@pytest.fixture(scope="module")
def train(tiny_data: Path) -> MultiLabelDataset:
    return load_dataset(tiny_data, "train")


@pytest.fixture(scope="module")
def val(tiny_data: Path) -> MultiLabelDataset:
    return load_dataset(tiny_data, "val")


def epoch_of(data: MultiLabelDataset, epoch: int = 0, **settings) -> list[Batch]:
    given = {"preprocess": [SMALL], "batch_size": 8, "workers": 0, "augmentation": AUGMENTATION, **settings}
    loader = make_loader(data, given.pop("preprocess"), **given)
    return list(batches(loader, epoch, loader))


def by_index(found: list[Batch]) -> dict[int, torch.Tensor]:
    return {int(i): image for batch in found for i, image in zip(batch.index, batch.images, strict=True)}


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


def test_workers_change_nothing(train):
    alone, several = epoch_of(train, epoch=2), epoch_of(train, epoch=2, workers=2)
    assert len(alone) == len(several) == 3
    for one, other in zip(alone, several, strict=True):
        for field in ("images", "targets", "ignore", "index"):
            assert torch.equal(getattr(one, field), getattr(other, field)), field


@pytest.mark.parametrize("augmentation", [AUGMENTATION, None])
def test_threads_change_nothing(train, monkeypatch, augmentation):
    readers, read = set(), MultiLabelDataset.picture

    def picture(data: MultiLabelDataset, row: int) -> np.ndarray:
        readers.add(threading.current_thread().name)
        return read(data, row)

    monkeypatch.setattr(MultiLabelDataset, "picture", picture)
    found = {}
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found[threads] = epoch_of(train, augmentation=augmentation)
        assert all("pictures" in name for name in readers) == (threads == 3)
        readers.clear()
    for one, other in zip(found[1], found[3], strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.images, other.images)


def test_persistent_workers_follow_the_epoch(train):
    loader = make_loader(train, [SMALL], batch_size=8, workers=1, augmentation=AUGMENTATION)
    for epoch in (0, 1, 0):
        found, expected = list(batches(loader, epoch, loader)), epoch_of(train, epoch)
        assert all(torch.equal(one.images, other.images) for one, other in zip(found, expected, strict=True))


def test_augmenting_seeds_no_generator_of_a_gpu(monkeypatch):
    """A GPU's generator decides the step's dropout."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    AUGMENTATION(np.zeros((32, 32, 3), np.uint8), 0, 1)
    assert not seeded
    torch.manual_seed(0)
    assert seeded


def test_another_epoch_is_another_order_and_other_augmentations(train):
    first, second = epoch_of(train, 0), epoch_of(train, 1)
    orders = [torch.cat([batch.index for batch in found]).tolist() for found in (first, second)]
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])
    one, other = by_index(first), by_index(second)
    assert sum(torch.equal(one[i], other[i]) for i in one) < len(one) / 2


def test_every_picture_once_an_epoch(train):
    for epoch in range(3):
        seen = torch.cat([batch.index for batch in epoch_of(train, epoch)]).tolist()
        assert sorted(seen) == list(range(24))


def test_a_last_part_of_a_batch_is_left_out_of_training_only(train, val):
    assert [len(batch.index) for batch in epoch_of(train, batch_size=9)] == [9, 9]
    assert [len(batch.index) for batch in epoch_of(train, batch_size=9, augmentation=None)] == [9, 9, 6]
    # Fewer pictures than a batch are still trained on.
    assert [len(batch.index) for batch in epoch_of(val, batch_size=64)] == [12]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("preprocess", [SMALL, Preprocess(size=40, resize="crop", crop_fraction=0.8)])
def test_evaluation_reads_in_order_what_preprocess_loads(val, preprocess, workers):
    found = epoch_of(val, preprocess=[preprocess], batch_size=5, workers=workers, augmentation=None)
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(12))
    images = torch.cat([batch.images for batch in found])
    expected = np.stack([preprocess.load(path) for path in val.paths])
    assert images.dtype == torch.uint8
    assert np.array_equal(images.numpy(), expected)


def test_targets_and_ignore_mask_travel_with_their_picture(train):
    ignore = np.zeros_like(train.ignore)
    ignore[::3, 1] = True
    data = MultiLabelDataset(
        root=train.root,
        split=train.split,
        labels=train.labels,
        paths=train.paths,
        targets=train.targets,
        ignore=ignore,
    )
    for batch in epoch_of(data):
        assert batch.targets.dtype == torch.float32
        assert batch.ignore.dtype == torch.bool
        assert batch.teacher_images is None
        assert np.array_equal(batch.targets.numpy(), data.targets[batch.index.numpy()])
        assert np.array_equal(batch.ignore.numpy(), ignore[batch.index.numpy()])


@pytest.mark.parametrize(("student", "teacher"), [(SMALL, LARGE), (LARGE, SMALL), (SMALL, SMALL)])
def test_teacher_and_student_see_the_same_varied_picture(train, student, teacher):
    """One augmentation at the larger size; the smaller view is that picture scaled down."""
    largest = max(student.size, teacher.size)
    for batch in epoch_of(train, preprocess=[student, teacher]):
        assert batch.images.shape[1:] == (student.size, student.size, 3)
        assert batch.teacher_images.shape[1:] == (teacher.size, teacher.size, 3)
        for place, index in enumerate(batch.index.tolist()):
            own = int(train.hashes()[index][:16], 16)
            varied = AUGMENTATION(Preprocess(size=largest).load(train.paths[index]), 0, own)
            for view, size in ((batch.images, student.size), (batch.teacher_images, teacher.size)):
                assert np.array_equal(view[place].numpy(), resample(varied, size, size))


def test_a_picture_is_varied_alike_wherever_it_is_in_a_data_set(train):
    """So that what a teacher said of it is still true when pictures are added, renamed or sorted otherwise."""
    turned = train.subset(np.arange(len(train))[::-1])
    first, second = by_index(epoch_of(train, 1)), by_index(epoch_of(turned, 1))
    assert all(torch.equal(first[place], second[len(train) - 1 - place]) for place in first)


def test_items_are_made_ahead_by_a_thread_and_errors_come_when_they_are_due():
    made: list[int] = []

    def items(fail: bool = False):
        for number in range(6):
            made.append(number)
            yield number
        if fail:
            raise InputError("the seventh")

    assert list(ahead(items())) == list(range(6))
    coming = ahead(items(fail=True))
    assert [next(coming) for _ in range(6)] == list(range(6))
    with pytest.raises(InputError, match="the seventh"):
        next(coming)
    made.clear()
    early = ahead(items())
    next(early)
    early.close()  # the consumer has had enough: the thread ends, and nobody waits for it
    assert len(made) <= 4
    assert not any(thread.name == "pictures" for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_picture_is_told_in_one_line(train, tmp_path, workers):
    whole = train.paths[4].read_bytes()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(whole[: len(whole) // 2])
    data = MultiLabelDataset(
        root=train.root,
        split=train.split,
        labels=train.labels,
        paths=[*train.paths[:4], broken, *train.paths[5:]],
        targets=train.targets,
        ignore=train.ignore,
    )
    with pytest.raises(InputError, match="truncated") as caught:
        epoch_of(data, workers=workers)
    message = str(caught.value)
    assert message.startswith(str(broken))
    assert "\n" not in message
    assert "Traceback" not in message


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
        part = loader_module._cropped(picture, 0.3, np.random.default_rng(number))
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


def test_each_model_gets_pixels_of_its_own_interpolation(train):
    large, small = Preprocess(size=48, interpolation="bicubic-aa"), Preprocess(size=24, interpolation="bilinear")
    vary = Augmentation(augment="none", flip=0, cutout=0, seed=0, interpolation="bilinear-aa")
    loader = make_loader(train, [small, large], batch_size=2, workers=0, augmentation=vary, in_order=True)
    batch = next(batches(loader, 0, loader))
    base = large.model_copy(update={"interpolation": "bilinear-aa"})(train.picture(0))
    np.testing.assert_array_equal(batch.teacher_images[0].numpy(), base)
    np.testing.assert_array_equal(batch.images[0].numpy(), resample(base, 24, 24, "bilinear"))
