"""Training from shards: the same batches as from the folder, a few shards at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from edgepress.compress.augmentation import Augmentation
from edgepress.compress.loader import batches, make_loader
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.preprocess import Preprocess
from tests.multilabel.tars import shard, write_tar

PREPROCESS = [Preprocess(size=32), Preprocess(size=48)]
AUGMENTATION = Augmentation(augment="randaugment", flip=0.5, cutout=0.5, seed=3)


def epoch_of(data, epoch: int, **options):
    loader = make_loader(data, PREPROCESS, batch_size=5, workers=0, augmentation=AUGMENTATION, **options)
    return list(batches(loader, epoch, loader))


def order_of(found) -> list[int]:
    return torch.cat([batch.index for batch in found]).tolist()


def assert_equal_batches(some, others) -> None:
    for one, other in zip(some, others, strict=True):
        for field in ("images", "teacher_images", "targets", "ignore", "index"):
            assert torch.equal(getattr(one, field), getattr(other, field)), field


def test_batches_from_shards_are_those_from_the_folder(tiny_data, tmp_path):
    few = shard(tiny_data, tmp_path / "few", "train", shard_bytes=40_000)
    many = shard(tiny_data, tmp_path / "many", "train", shard_bytes=1)
    assert 1 < len(list(few.glob("*.tar"))) <= 8 < len(list(many.glob("*.tar")))
    data = load_dataset(tiny_data, "train")
    for epoch in (0, 1):
        # As many shards as are shuffled together at most: the whole training is the same, order and all.
        assert_equal_batches(epoch_of(load_dataset(few, "train"), epoch), epoch_of(data, epoch))
        # More: the same in the same order, and the same picture by picture in any other.
        in_order = (epoch_of(load_dataset(root, "train"), epoch, in_order=True) for root in (tiny_data, many))
        assert_equal_batches(*in_order)
        pixels = [
            {index: image for batch in found for index, image in zip(batch.index.tolist(), batch.images, strict=True)}
            for found in (epoch_of(data, epoch), epoch_of(load_dataset(many, "train"), epoch))
        ]
        common = pixels[0].keys() & pixels[1].keys()
        assert len(common) > 10
        assert all(torch.equal(pixels[0][index], pixels[1][index]) for index in common)


def sampled(data, epoch: int, seed: int = 3) -> list[int]:
    augmentation = Augmentation(augment="none", flip=0, cutout=0, seed=seed)
    sampler = make_loader(data, PREPROCESS, batch_size=1, workers=0, augmentation=augmentation).sampler
    sampler.set_epoch(epoch)
    return [index for _, index in sampler]


def test_an_epoch_reads_a_few_shards_at_a_time(foreign):
    for number in range(20):
        members = []
        for key in "abcde":
            members += [(f"{key}.jpg", b"never read"), (f"{key}.json", {"labels": []})]
        write_tar(foreign / f"train-{number}.tar", members)
    data = load_dataset(foreign, "train")
    orders = [sampled(data, epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(100))
        windows = [[data.paths[i].shard.path for i in order[start : start + 40]] for start in range(0, 100, 40)]
        assert [len(set(window)) for window in windows] == [8, 8, 4]
        for window in windows:  # shuffled within: not one shard after the other
            assert sum(one != other for one, other in pairwise(window)) > len(window) / 2
    assert orders[0] != orders[1] != orders[2]
    assert [{data.paths[i].shard for i in order[:40]} for order in orders[:1]] != [
        {data.paths[i].shard for i in order[:40]} for order in orders[1:2]
    ]
    assert sampled(load_dataset(foreign, "train"), 1) == orders[1]
    assert sampled(data, 1, seed=4) != orders[1]


def test_a_folders_order_is_as_it_always_was(tiny_data):
    expected = np.arange(24)
    np.random.default_rng((3, 5)).shuffle(expected)
    assert sampled(load_dataset(tiny_data, "train"), 5) == expected.tolist()
