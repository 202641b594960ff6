"""Pictures to batches: reproducible whatever reads them, the evaluation's exact pixels, errors in one line."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from edgepress.compress.augmentation import Augmentation
from edgepress.compress.loader import Batch, batches, make_loader
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import resample

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


def test_each_model_gets_pixels_of_its_own_interpolation(train):
    large, small = Preprocess(size=48, interpolation="bicubic-aa"), Preprocess(size=24, interpolation="bilinear")
    vary = Augmentation(augment="none", flip=0, cutout=0, seed=0, interpolation="bilinear-aa")
    loader = make_loader(train, [small, large], batch_size=2, workers=0, augmentation=vary, in_order=True)
    batch = next(batches(loader, 0, loader))
    base = large.model_copy(update={"interpolation": "bilinear-aa"})(train.picture(0))
    np.testing.assert_array_equal(batch.teacher_images[0].numpy(), base)
    np.testing.assert_array_equal(batch.images[0].numpy(), resample(base, 24, 24, "bilinear"))
