"""From picture files to batches of uint8 pixels, augmented reproducibly.

The sampler yields (epoch, index), so a worker needs no shared state, and a picture's augmentation is determined by
the seed, the epoch and the picture's content alone, regardless of its place and of the number of workers or processes.
"""

from __future__ import annotations

import errno
import multiprocessing
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from edgepress.compress.augmentation import Augmentation
from edgepress.compress.mixup import Mix, drawn_mix
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import DataChangedError, InputError
from edgepress.multilabel.pictures import Picture, ShardPicture
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.resampling import resample


@dataclass
class Batch:
    """What one step sees. Everything is on the training device."""

    images: Tensor
    """uint8 `[B, size, size, 3]`, at the model's input size."""
    teacher_images: Tensor | None
    """The same pictures with the same augmentation, at the teacher's input size."""
    targets: Tensor
    """Targets, float32 `[B, C]`."""
    ignore: Tensor
    """Ignore mask, bool `[B, C]`."""
    labelled: Tensor
    """bool `[B]`, false for a picture that nobody labelled: its targets are 0, and all its cells are ignored."""
    index: Tensor
    """int64 `[B]`, the pictures' indices in the split, followed by those of unlabelled pictures."""
    epoch: int
    mix: Mix | None = None
    """How pictures were mixed, if they were: `images` and `targets` are then mixed, and a cell is ignored that is
    ignored for either picture; `teacher_images` are the pictures as they are."""


_WINDOW = 8
"""Number of shards whose pictures are shuffled together: at the usual 256 MB they stay in the machine's memory."""


class _EpochSampler(Sampler):
    """(epoch, index) of every picture once; when shuffled, the order is determined by (seed, epoch) alone.

    A full shuffle of pictures in shards would jump across all disks. Instead the shards are shuffled, and then the
    pictures of `_WINDOW` shards at a time; if one window is the whole set, it is shuffled as files are.
    """

    def __init__(self, paths: Sequence[Picture], seed: int, shuffle: bool) -> None:
        self.count, self.seed, self.shuffle, self.epoch = len(paths), seed, shuffle, 0
        numbers: dict[object, int] = {}
        files = [path.shard if isinstance(path, ShardPicture) else None for path in paths]
        self.shards = np.array([numbers.setdefault(file, len(numbers)) for file in files], dtype=np.int64)
        """`[N]`, the number of each picture's shard; picture files count as a single shard."""

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.count)
        rng = np.random.default_rng((self.seed, self.epoch))
        count = int(self.shards.max(initial=0)) + 1
        if self.shuffle and count > _WINDOW:
            windows = rng.permutation(count)[self.shards] // _WINDOW
            order = np.lexsort((rng.random(self.count), windows))
        elif self.shuffle:
            rng.shuffle(order)
        return iter([(self.epoch, int(index)) for index in order])


class _MixedSampler(Sampler):
    """(epoch, index) of labelled and unlabelled pictures, with a fixed number of each in every batch.

    An epoch is one pass over the labelled pictures. The unlabelled ones follow each other in passes of their own,
    which continue from epoch to epoch; a pass's order is determined by (seed, pass) alone.

    Args:
        labelled: a sampler for the labelled pictures.
        count: number of unlabelled pictures; their indices follow those of the labelled ones.
        batch_size: number of pictures per batch.
        share: share of unlabelled pictures in a batch, which has at least one picture of each kind.
    """

    def __init__(self, labelled: _EpochSampler, count: int, batch_size: int, share: float) -> None:
        self.labelled, self.count = labelled, count
        self.others = min(max(round(batch_size * share), 1), batch_size - 1)
        self.own = batch_size - self.others
        self.batches = len(labelled) // self.own
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.labelled.set_epoch(epoch)

    def __len__(self) -> int:
        return self.batches * (self.own + self.others)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        own = np.array([index for _, index in self.labelled])[: self.batches * self.own].reshape(-1, self.own)
        places = np.arange(self.epoch * self.batches * self.others, (self.epoch + 1) * self.batches * self.others)
        turns, within = np.divmod(places, self.count)
        others = np.empty_like(places)
        for turn in np.unique(turns).tolist():
            order = np.random.default_rng((self.labelled.seed, turn, self.count)).permutation(self.count)
            others[turns == turn] = order[within[turns == turn]]
        mixed = np.concatenate([own, len(self.labelled) + others.reshape(-1, self.others)], axis=1)
        return iter([(self.epoch, int(index)) for index in mixed.ravel()])


class _Pictures(Dataset):
    def __init__(
        self,
        data: MultiLabelDataset,
        preprocess: list[Preprocess],
        augmentation: Augmentation | None,
        augment_size: int | None,
        labelled: int,
    ) -> None:
        self.data, self.preprocess, self.augmentation, self.labelled = data, preprocess, augmentation, labelled
        self.augmented = preprocess[0].with_size(augment_size or max(p.size for p in preprocess))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, ...]:
        return self._item(key, self._scaled(key))

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[tuple[np.ndarray, ...]]:
        """A batch. Its pictures are read and scaled in as many threads as torch has: one in a process that reads."""
        threads = min(torch.get_num_threads(), len(keys))
        if threads == 1:
            return [self[key] for key in keys]
        with ThreadPoolExecutor(threads, thread_name_prefix="pictures") as pool:
            return [self._item(key, scaled) for key, scaled in zip(keys, pool.map(self._scaled, keys), strict=True)]

    def _scaled(self, key: tuple[int, int]) -> list[np.ndarray]:
        """A picture as the models see it, or at the one size at which it is to be augmented."""
        epoch, index = key
        image = self.data.picture(index)
        if self.augmentation is None:
            return [preprocess(image) for preprocess in self.preprocess]
        return [self.augmentation.scale(image, self.augmented, epoch, self._own(index))]

    def _own(self, index: int) -> int:
        """A number that is the picture's own, from its content."""
        return int(self.data.hashes()[index][:16], 16)

    def _item(self, key: tuple[int, int], views: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        epoch, index = key
        if self.augmentation is not None:
            # Once, at the larger size, so that teacher and student see the same picture; and in one thread, because
            # RandAugment draws from torch's global generator.
            image = self.augmentation(views[0], epoch, self._own(index))
            views = [resample(image, one.size, one.size, one.interpolation) for one in self.preprocess]
        targets = self.data.targets[index].astype(np.float32)
        return (targets, self.data.ignore[index], np.bool_(index < self.labelled), np.int64(index), *views)


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
    unlabelled: MultiLabelDataset | None = None,
    unlabelled_share: float = 0.5,
) -> DataLoader:
    """Make a loader of tuples for `batches`: shuffled and augmented if an augmentation is given, otherwise in order.

    Args:
        preprocess: the model's, and the teacher's if there is one.
        augment_size: the side at which pictures are augmented; by default the largest of `preprocess`.
        in_order: whether to augment every picture once and in order, to store the teacher's outputs on it.
        unlabelled: pictures that nobody labelled, mixed into every batch, or after the others if in order.
        unlabelled_share: their share of a batch.
    """
    training = augmentation is not None and not in_order
    seed = augmentation.seed if augmentation else 0
    both = data if unlabelled is None else data.followed_by(unlabelled)
    both.hashes()  # here, and not in every process that reads
    sampler: _EpochSampler | _MixedSampler = _EpochSampler(both.paths, seed, shuffle=training)
    if unlabelled is not None and training:
        labelled = _EpochSampler(data.paths, seed, shuffle=True)
        sampler = _MixedSampler(labelled, len(unlabelled), batch_size, unlabelled_share)
    return DataLoader(
        _Pictures(both, preprocess, augmentation, augment_size, len(data)),
        batch_size=batch_size,
        sampler=sampler,
        # A last batch of one picture has no batch statistics.
        drop_last=training and len(data) >= batch_size,
        num_workers=workers,
        # Evaluation makes a new loader each time; its processes must not outlive it.
        persistent_workers=training and workers > 0,
        # The seeds of workers come from here and not from the global generator, whose state affects dropout.
        generator=torch.Generator(),
        pin_memory=device is not None and device.type == "cuda",
        worker_init_fn=_one_thread,
    )


def batches(loader, epoch: int, sampler_of: DataLoader) -> Iterator[Batch]:
    """Iterate over one epoch of batches from a loader, which may be wrapped for a device or several processes.

    Args:
        sampler_of: the loader that `make_loader` made.

    Raises:
        InputError: a picture cannot be read (the message names it), or a reading process has no shared memory.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    sampler = sampler_of.sampler
    assert isinstance(sampler, _EpochSampler | _MixedSampler)
    sampler.set_epoch(epoch)
    if loader is not sampler_of:  # accelerate's wrapper counts epochs itself and would reset the sampler
        loader.set_epoch(epoch)
    try:
        if sampler_of.num_workers:
            # Do what torch is about to do: if it fails, torch's half-made iterator prints a traceback of its own.
            multiprocessing.Lock()
        for targets, ignore, labelled, index, images, *others in loader:
            yield Batch(images, others[0] if others else None, targets, ignore, labelled, index, epoch)
    except (InputError, DataChangedError) as error:
        # torch wraps a worker's error in the worker's whole traceback, of which people need the last line.
        kind = type(error)
        raise kind(str(error).strip().rsplit(f"{kind.__name__}: ", 1)[-1]) from error
    except (RuntimeError, OSError) as error:
        if sampler_of.num_workers == 0 or not _of_shared_memory(error):
            raise
        raise InputError(
            f"the {sampler_of.num_workers} processes that read pictures died or did not start, most often for want of "
            f"shared memory ({_shared_memory()}): give the container more (docker run --shm-size=1g), or read without "
            "them (--workers 0)"
        ) from error


def mixed(batch: Batch, seed: int, alpha: float) -> Batch:
    """The batch with each picture mixed with its neighbour; see `compress.mixup`. Pictures are float32 then.

    A pair with an unlabelled picture is unlabelled.
    """
    mix = drawn_mix(batch.index, seed, batch.epoch, alpha)
    return replace(
        batch,
        images=mix.of(batch.images.float()),
        targets=mix.of(batch.targets),
        ignore=batch.ignore | batch.ignore[mix.partner],
        labelled=batch.labelled & batch.labelled[mix.partner],
        mix=mix,
    )


_SHARED_MEMORY = re.compile(r"shared memory|\(shm\)|</torch_|DataLoader worker .*(killed|exited)", re.DOTALL)


def _of_shared_memory(error: RuntimeError | OSError) -> bool:
    """Whether torch or multiprocessing failed because /dev/shm has no space, is missing, or is not writable."""
    if isinstance(error, OSError):  # an error of a semaphore, which names no file
        return error.filename is None and error.errno in (errno.ENOSPC, errno.EROFS, errno.ENOSYS, errno.EACCES)
    return _SHARED_MEMORY.search(str(error)) is not None


def _shared_memory() -> str:
    try:
        return f"/dev/shm has {shutil.disk_usage('/dev/shm').total / 1e6:.0f} MB"  # noqa: S108 # asked, not written
    except OSError:
        return "there is no /dev/shm"


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
