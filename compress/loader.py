"""From picture files to batches of uint8 pixels, augmented reproducibly.

The sampler yields (epoch, index), so a worker needs no shared state and a picture's augmentation follows from
(seed, epoch, index) alone, whatever the number of workers or processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from multilabel.datasets import MultiLabelDataset
from multilabel.errors import InputError
from multilabel.pictures import read_picture
from multilabel.preprocess import Preprocess, resize


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training pictures are varied; see `TrainConfig` for the fields."""

    augment: Literal["none", "randaugment"]
    flip: float
    cutout: float
    seed: int

    def __call__(self, image: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """uint8 `[S, S, 3]` to uint8 `[S, S, 3]`, the same for the same (seed, epoch, index)."""
        rng = np.random.default_rng((self.seed, epoch, index))
        if self.augment == "randaugment":
            # torchvision draws from torch's global generator: it is borrowed and given back untouched.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(rng.integers(2**63)))
                pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
                image = _RAND_AUGMENT(pixels).permute(1, 2, 0).contiguous().numpy()
        if rng.random() < self.flip:
            image = image[:, ::-1]
        side = round(image.shape[0] * self.cutout * rng.random())
        if side:
            top, left = rng.integers(0, image.shape[0] - side + 1, size=2)
            image = image.copy()
            image[top : top + side, left : left + side] = 128
        return np.ascontiguousarray(image)


_RAND_AUGMENT = v2.RandAugment(num_ops=2, magnitude=9, interpolation=v2.InterpolationMode.BILINEAR, fill=128)


@dataclass
class Batch:
    """What one step sees. Everything is on the device that trains."""

    images: Tensor
    """uint8 `[B, size, size, 3]`, at the model's input size."""
    teacher_images: Tensor | None
    """The same pictures, augmented alike, at the teacher's input size."""
    targets: Tensor
    """float32 `[B, C]`."""
    ignore: Tensor
    """bool `[B, C]`."""
    index: Tensor
    """int64 `[B]`, the pictures' places in the split."""
    epoch: int
    progress: float = 0.0
    """Share of the training's steps that are done."""


class _EpochSampler(Sampler):
    def __init__(self, count: int, seed: int, shuffle: bool) -> None:
        self.count, self.seed, self.shuffle, self.epoch = count, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.count)
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        return iter([(self.epoch, int(index)) for index in order])


class _Pictures(Dataset):
    def __init__(
        self,
        data: MultiLabelDataset,
        preprocess: list[Preprocess],
        augmentation: Augmentation | None,
        augment_size: int | None,
    ) -> None:
        self.data, self.preprocess, self.augmentation = data, preprocess, augmentation
        self.augmented = preprocess[0].with_size(augment_size or max(p.size for p in preprocess))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, ...]:
        epoch, index = key
        image = read_picture(self.data.paths[index])
        if self.augmentation is None:
            views = [preprocess(image) for preprocess in self.preprocess]
        else:
            # Augmented once, at the larger size, so that teacher and student see the same picture.
            image = self.augmentation(self.augmented(image), epoch, index)
            views = [resize(image, preprocess.size, preprocess.size) for preprocess in self.preprocess]
        targets = self.data.targets[index].astype(np.float32)
        return (targets, self.data.ignore[index], np.int64(index), *views)


def make_loader(
    data: MultiLabelDataset,
    preprocess: list[Preprocess],
    *,
    batch_size: int,
    workers: int,
    augmentation: Augmentation | None = None,
    augment_size: int | None = None,
    in_order: bool = False,
    device: torch.device | None = None,
) -> DataLoader:
    """A loader of tuples for `to_batch`: shuffled and augmented where an augmentation is given, else in order.

    Args:
        preprocess: the model's, and the teacher's where there is one.
        augment_size: the side at which pictures are augmented; by default the largest of `preprocess`.
        in_order: augmented, but every picture once and in order, to store what a teacher says of them.
    """
    training = augmentation is not None and not in_order
    return DataLoader(
        _Pictures(data, preprocess, augmentation, augment_size),
        batch_size=batch_size,
        sampler=_EpochSampler(len(data), augmentation.seed if augmentation else 0, shuffle=training),
        # A last batch of one picture has no batch statistics.
        drop_last=training and len(data) >= batch_size,
        num_workers=workers,
        # Evaluation makes a loader a time; its processes must not outlive it.
        persistent_workers=training and workers > 0,
        # The seeds of workers come from here and not from the global generator, whose state dropout depends on.
        generator=torch.Generator(),
        pin_memory=device is not None and device.type == "cuda",
        worker_init_fn=_one_thread,
    )


def batches(loader, epoch: int, sampler_of: DataLoader) -> Iterator[Batch]:
    """One epoch of batches from a loader, which may be wrapped for a device or several processes.

    Args:
        sampler_of: the loader as `make_loader` made it.

    Raises:
        InputError: a picture cannot be read; names it.
    """
    sampler = sampler_of.sampler
    assert isinstance(sampler, _EpochSampler)
    sampler.set_epoch(epoch)
    if loader is not sampler_of:  # accelerate's wrapper counts epochs itself and would set the sampler back
        loader.set_epoch(epoch)
    try:
        for targets, ignore, index, images, *others in loader:
            yield Batch(images, others[0] if others else None, targets, ignore, index, epoch)
    except InputError as error:
        # torch wraps a worker's error in the worker's whole traceback; the person needs its last line.
        raise InputError(str(error).strip().rsplit("InputError: ", 1)[-1]) from error


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
