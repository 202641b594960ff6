"""The teacher's outputs read from files are those it gives when it is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.config import PRESETS, DistillConfig, ModelConfig, TeachConfig
from compress.distill import distill, teach
from compress.loader import batches, make_loader
from compress.models import make_model
from compress.teacher import CachedTeacher, LiveTeacher
from compress.training import augmentation_of
from multilabel.bundle import Bundle
from multilabel.datasets import MultiLabelDataset, load_dataset
from multilabel.errors import InputError

SMALL = {"backbone": "test_efficientnet", "width": 32, "weights": "none", "batch_size": 8, "workers": 0, "epochs": 2}
CONFIG = DistillConfig(**SMALL, size=32, seed=3)


@pytest.fixture(scope="module")
def train(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "train")


@pytest.fixture(scope="module")
def val(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "val")


def test_cached_outputs_are_the_live_ones_in_the_order_of_training(train, tmp_path):
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_efficientnet", width=32, size=64, weights="none")
    model, _ = make_model(config, train.labels)
    student_view = model.preprocess.with_size(32)
    augmentation = augmentation_of(CONFIG)
    cached = CachedTeacher(
        model,
        train,
        augmentation,
        tmp_path,
        identity="t",
        augment_size=64,
        batch_size=5,
        workers=0,
        device=torch.device("cpu"),
    )
    live = LiveTeacher(model)
    both = make_loader(train, [student_view, model.preprocess], batch_size=8, workers=0, augmentation=augmentation)
    alone = make_loader(train, [student_view], batch_size=8, workers=0, augmentation=augmentation, augment_size=64)
    for epoch in (0, 1, 0):
        for batch, other in zip(batches(both, epoch, both), batches(alone, epoch, alone), strict=True):
            assert torch.equal(batch.images, other.images)
            assert torch.equal(batch.index, other.index)
            logits, embeddings = live(batch)
            stored, rows = cached(other)
            torch.testing.assert_close(stored, logits, atol=1e-5, rtol=1e-4)
            positive = batch.targets == 1
            torch.testing.assert_close(rows[positive], embeddings[positive], atol=1e-5, rtol=1e-4)
            assert not rows[~positive].any()
    assert len(list(tmp_path.rglob("*.npy"))) == 4  # two epochs, each computed once


def test_what_was_stored_for_other_pictures_is_not_read(train, tmp_path):
    torch.manual_seed(0)
    model, _ = make_model(ModelConfig(backbone="test_efficientnet", width=32, size=32, weights="none"), train.labels)
    folders = set()
    for changed in ({}, {"seed": 4}, {"flip": 0.0}, {"cutout": 0.1}, {"identity": "u"}, {"augment_size": 48}):
        settings = {name: changed[name] for name in ("seed", "flip", "cutout") if name in changed}
        cached = CachedTeacher(
            model,
            train,
            augmentation_of(CONFIG.model_copy(update=settings)),
            tmp_path,
            identity=changed.get("identity", "t"),
            augment_size=changed.get("augment_size", 32),
            batch_size=8,
            workers=0,
            device=torch.device("cpu"),
        )
        folders.add(cached.folder)
    assert len(folders) == 6


def test_a_student_of_the_cache_is_the_student_of_the_model(train, val, tmp_path):
    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    live = distill(train, val, teacher, CONFIG, tmp_path / "live")
    cached = distill(train, val, teacher, CONFIG, tmp_path / "cached", tmp_path / "cache")
    for one, other in zip(live.manifest.facts["history"], cached.manifest.facts["history"], strict=True):
        for name in ("loss", "bce", "mld", "cd", "id"):
            assert one[name] == pytest.approx(other[name], rel=1e-3), name


def test_a_preset_sets_weights_and_what_is_given_beside_it_wins():
    published = DistillConfig(preset="l2d")
    assert (published.reduction, published.mld, published.cd, published.id) == ("published", 10, 100, 1000)
    assert DistillConfig(preset="l2d", cd=0).cd == 0
    for name in PRESETS:
        assert DistillConfig(preset=name).preset == name
    with pytest.raises(InputError, match="preset"):
        DistillConfig.parse({"preset": "best"}, "flags")


def test_the_student_alone_asks_no_teacher(train, val, tmp_path):
    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    alone = distill(train, val, teacher, DistillConfig(**SMALL, size=32, preset="alone"), tmp_path / "alone")
    assert Bundle.open(alone.path).manifest.facts["history"][0].keys() == {"loss", "bce", "val_mAP", "seconds"}
    assert np.isfinite(alone.manifest.facts["val_mAP"])
