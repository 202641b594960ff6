"""The teacher's outputs read from files are those it gives when it is asked."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgepress.compress.adopt import adopt_teachers
from edgepress.compress.config import PRESETS, DistillConfig, ModelConfig, TeachConfig
from edgepress.compress.distill import distill, teach
from edgepress.compress.loader import Batch, batches, make_loader
from edgepress.compress.models import make_model
from edgepress.compress.teacher import CachedTeacher, Ensemble, LiveTeacher, log
from edgepress.compress.training import augmentation_of
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import InputError

STRUCTURE = {"mld": 4.0, "hint": 1.0, "cd": 0.1, "id": 0.1, "review_kd": 0.0, "inherit_head": "auto"}
SMALL = {"backbone": "test_efficientnet", "width": 32, "weights": "none", "batch_size": 8, "workers": 0, "epochs": 2}
CONFIG = DistillConfig(**SMALL, **STRUCTURE, size=32, seed=3)


@pytest.fixture(scope="module")
def train(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "train")


@pytest.fixture(scope="module")
def val(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "val")


@pytest.mark.parametrize(("variations", "computed"), [(None, 3), (2, 2)])
def test_cached_outputs_are_the_live_ones_in_the_order_of_training(train, tmp_path, variations, computed):
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_efficientnet", width=32, size=64, weights="none")
    model, _ = make_model(config, train.labels)
    student_view = model.preprocess.with_size(32)
    augmentation = augmentation_of(CONFIG.model_copy(update={"variations": variations}))
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
    for epoch in (0, 1, 2, 0):
        for batch, other in zip(batches(both, epoch, both), batches(alone, epoch, alone), strict=True):
            assert torch.equal(batch.images, other.images)
            assert torch.equal(batch.index, other.index)
            logits, embeddings = live(batch)
            stored, rows = cached(other)
            torch.testing.assert_close(stored, logits, atol=1e-5, rtol=1e-4)
            positive = batch.targets == 1
            torch.testing.assert_close(rows[positive], embeddings[positive], atol=1e-5, rtol=1e-4)
            assert not rows[~positive].any()
    assert len(list(tmp_path.rglob("*.npy"))) == 3 * computed  # each once, in three files


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


def cache_of(train, folder, width=32, batch_size=8, **more):
    torch.manual_seed(0)
    model, _ = make_model(ModelConfig(backbone="test_efficientnet", width=width, size=32, weights="none"), train.labels)
    return CachedTeacher(
        model, train, augmentation_of(CONFIG), folder, identity="t", augment_size=32, batch_size=batch_size, workers=0,
        device=torch.device("cpu"), **more,
    )  # fmt: skip


def some_batch(train, count, epoch=0):
    index = torch.arange(count)
    known = torch.zeros(count, 5)
    return Batch(torch.zeros(count, 32, 32, 3), None, known, known.bool(), known[:, 0].bool(), index, epoch)


def test_the_files_are_those_of_whole_arrays(train, val, tmp_path):
    """Whatever the batches are they were written in, and with unlabelled pictures behind the others."""
    found = replace(val, targets=np.zeros_like(val.targets), ignore=np.ones_like(val.ignore))
    cached = cache_of(train, tmp_path, batch_size=7, unlabelled=found, sure=0.5)
    cached(some_batch(train, 3))
    files = {path.name: path for path in cached.folder.iterdir()}
    assert sorted(files) == [f"epoch-0000-{name}.npy" for name in ("embeddings", "kept", "logits")]
    arrays = {}
    for name, path in files.items():
        arrays[name.split("-")[2][:-4]] = array = np.load(path)
        np.save(tmp_path / "whole.npy", array)
        assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    logits, embeddings, kept = (arrays[name] for name in ("logits", "embeddings", "kept"))
    assert (logits.dtype, embeddings.dtype, kept.dtype) == (np.float32, np.float32, np.bool_)
    assert logits.shape == kept.shape == (24 + 12, 5)
    assert embeddings.shape == (kept.sum(), 32)
    np.testing.assert_array_equal(kept[:24], train.targets == 1)
    np.testing.assert_array_equal(kept[24:], logits[24:] >= 0)
    assert kept[24:].any()


def test_memory_does_not_grow_with_the_pictures(train, tmp_path):
    """Of ten times the pictures no more outputs are held at once: neither arrays nor the tensors beneath them."""
    held, peaks = {}, {}
    cache_of(train, tmp_path / "warm")(some_batch(train, 1))
    for times in (1, 10):
        many = train.subset(np.tile(np.arange(len(train)), times))
        cached = cache_of(many, tmp_path / str(times), width=256)

        def count(*_, times=times):
            gc.collect()
            tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
            held[times] = max(held.get(times, 0), sum(tensor.nbytes for tensor in tensors))

        cached.model.register_forward_pre_hook(count)
        gc.collect()
        gc.freeze()  # of what is new alone it is asked who holds it
        tracemalloc.start()
        cached(some_batch(many, 1))
        peaks[times] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        gc.unfreeze()
        written = next(cached.folder.glob("*embeddings.npy")).stat().st_size
    assert written > 400_000
    assert held[10] - held[1] < written / 10
    assert peaks[10] - peaks[1] < written / 4


def test_what_fails_on_the_way_leaves_no_file(train, tmp_path):
    cached = cache_of(train, tmp_path)
    answers = cached.model.forward
    cached.model.forward = lambda images: answers(images) if len(list(cached.folder.iterdir())) < 3 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        cached(some_batch(train, 1))
    assert list(cached.folder.iterdir()) == []
    cached.model.forward = answers
    cached(some_batch(train, 1))
    assert len(list(cached.folder.iterdir())) == 3


def test_of_two_that_ask_at_once_one_computes_and_the_other_waits(train, tmp_path, monkeypatch):
    """As two runs would that share a cache: each has a file of its own open on the lock."""
    first, second = cache_of(train, tmp_path), cache_of(train, tmp_path)
    begun, waits, goes_on, computed = threading.Event(), threading.Event(), threading.Event(), []
    answers = first.model.forward

    def slow(images):
        begun.set()
        assert goes_on.wait(60)
        return answers(images)

    first.model.forward = slow
    second.model.forward = lambda images: computed.append(1) or answers(images)
    told = log.info
    monkeypatch.setattr(log, "info", lambda text, *more: waits.set() if "waiting for it" in text else told(text, *more))
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(first, some_batch(train, 24))
        assert begun.wait(60)
        theirs = pool.submit(second, some_batch(train, 24))
        while not (waits.is_set() or theirs.done()):
            time.sleep(0.01)
        goes_on.set()
        for mine, other in zip(ours.result(60), theirs.result(60), strict=True):
            assert torch.equal(mine, other)
    assert computed == []
    assert waits.is_set()


def test_a_student_of_the_cache_is_the_student_of_the_model(train, val, tmp_path):
    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    live = distill(train, val, teacher, CONFIG, tmp_path / "live")
    cached = distill(train, val, teacher, CONFIG, tmp_path / "cached", tmp_path / "cache")
    for one, other in zip(live.manifest.facts["history"], cached.manifest.facts["history"], strict=True):
        for name in ("loss", "bce", "mld", "cd", "id", "hint"):
            assert one[name] == pytest.approx(other[name], rel=1e-3), name


def test_a_preset_sets_weights_and_what_is_given_beside_it_wins():
    published = DistillConfig(preset="l2d")
    assert (published.reduction, published.mld, published.cd, published.id) == ("published", 10, 100, 1000)
    assert (published.width, published.size, published.epochs, published.lr) == (768, 224, 80, 1e-4)
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


def test_the_student_alone_needs_no_teacher_and_learns_at_its_own_size(train, val, taught, tmp_path):
    small = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "small")
    config = DistillConfig(**SMALL, size=32, preset="alone")
    losses, bundles = {}, {}
    for name, teacher in (("no", None), ("small", small), ("large", taught[0])):
        bundles[name] = distill(train, val, teacher, config, tmp_path / f"with-{name}")
        losses[name] = [entry["bce"] for entry in bundles[name].manifest.facts["history"]]
    assert losses["no"] == losses["small"] != losses["large"]  # whose pictures are augmented at its 64 px
    assert (bundles["no"].manifest.parent, bundles["no"].manifest.facts["teachers"]) == (None, [])
    assert [bundles[name].manifest.role for name in bundles] == ["student"] * 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "review_kd is 0.1"),
        ({"review_kd": 0, "rkd": 0.5}, "rkd is 0.5"),
        ({"preset": "alone", "inherit_head": "auto"}, "inherit_head is auto"),
        ({"preset": "alone", "teacher_mirrored": True}, "teacher_mirrored is True"),
    ],
)
def test_what_asks_for_a_teacher_does_not_go_without(train, val, tmp_path, settings, words):
    with pytest.raises(InputError, match=f"no teacher is given, but {words}: give one.*--preset alone"):
        distill(train, val, None, DistillConfig(**SMALL, size=32, **settings), tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_the_verb_needs_no_teacher_for_the_student_alone(edgepress, tiny_data, tmp_path):
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in {**SMALL, "size": 32}.items()]
    answer = edgepress("distill", tiny_data, "--out", tmp_path / "student", *settings)
    assert (answer.code, "no teacher is given, but review_kd is 0.1" in answer.err) == (2, True)
    assert list(tmp_path.iterdir()) == []
    answer = edgepress("distill", tiny_data, "--preset", "alone", "--out", tmp_path / "student", *settings)
    assert answer.code == 0, answer.err
    assert Bundle.open(tmp_path / "student").manifest.role == "student"


def test_stored_outputs_are_of_the_precision_of_training(train, val, tmp_path):
    """In bf16 rounding depends on who shares a batch, so they are alike and not the same."""
    teacher = teach(train, val, TeachConfig(**SMALL, size=64), tmp_path / "teacher")
    stored = {}
    for precision, tolerance in (("no", 1e-5), ("bf16", 0.03)):
        config = DistillConfig(**SMALL, **STRUCTURE, size=32, mixed_precision=precision)
        live = distill(train, val, teacher, config, tmp_path / f"live-{precision}")
        cached = distill(train, val, teacher, config, tmp_path / f"stored-{precision}", tmp_path / precision)
        told = [student.manifest.facts["history"][0]["mld"] for student in (live, cached)]
        assert told[0] == pytest.approx(told[1], rel=tolerance)
        stored[precision] = np.load(next((tmp_path / precision).rglob("epoch-0000-logits.npy")))
    difference = np.abs(stored["no"] - stored["bf16"]).max()
    assert 0 < difference < 0.1


def two_models(labels, sizes=(32, 32), widths=(32, 16)):
    torch.manual_seed(0)
    configs = [
        ModelConfig(backbone="test_efficientnet", width=width, size=size, weights="none")
        for size, width in zip(sizes, widths, strict=True)
    ]
    return [make_model(config, labels)[0].eval() for config in configs]


def some_images():
    return torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_several_teachers_answer_as_one(train):
    models, images = two_models(train.labels), some_images()
    with torch.no_grad():
        answers = [model(images) for model in models]
        logits, embeddings = Ensemble(models, mirrored=False)(images)
    torch.testing.assert_close(logits, (answers[0][0] + answers[1][0]) / 2)
    assert embeddings.shape == (5, 5, 32 + 16)
    squares = sum(torch.cdist(answer[1][:, 2], answer[1][:, 2]).square() for answer in answers)
    torch.testing.assert_close(torch.cdist(embeddings[:, 2], embeddings[:, 2]), squares.sqrt(), atol=1e-3, rtol=1e-3)


def test_a_mirrored_teacher_says_the_same_of_the_mirror_image(train):
    model, images = two_models(train.labels)[0], some_images()
    both = Ensemble([model], mirrored=True)
    with torch.no_grad():
        assert (model(images)[0] - model(images.flip(2))[0]).abs().max() > 1e-3
        for one, other in zip(both(images), both(images.flip(2)), strict=True):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(both.logits(images), (model(images)[0] + model(images.flip(2))[0]) / 2)


def test_teachers_that_see_other_pictures_are_refused(train):
    with pytest.raises(InputError, match=r"32 px \(squash\) and 64 px"):
        Ensemble(two_models(train.labels, sizes=(32, 64)), mirrored=False)


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_lies_inside_an_ensemble_is_its_first_models(train, mirrored):
    models = two_models(train.labels)
    images = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    none = torch.zeros(3)
    batch = Batch(images, images, targets=none, ignore=none, labelled=none, index=none, epoch=0)
    found = []
    for model in (Ensemble(models, mirrored), models[0]):
        teacher = LiveTeacher(model)
        widths = teacher.tap()
        teacher(batch)
        found.append(teacher.features())
        assert widths == [one.shape[1] for one in found[-1].maps]
        teacher._taps.close()
    torch.testing.assert_close(found[0].maps, found[1].maps)
    torch.testing.assert_close(found[0].tokens, found[1].tokens)


@pytest.fixture(scope="module")
def taught(train, val, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    return [teach(train, val, TeachConfig(**SMALL, size=64, seed=seed), folder / f"t{seed}") for seed in (0, 1)]


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_ensemble_distils_live_and_stored(train, val, taught, tmp_path, mirrored):
    config = DistillConfig(**SMALL, **STRUCTURE, size=32, teacher_mirrored=mirrored)
    students = {
        name: distill(train, val, taught[0], config, tmp_path / name, cache, ensemble=others)
        for name, cache, others in (
            ("live", None, taught[1:]),
            ("stored", tmp_path / "cache", taught[1:]),
            ("one", tmp_path / "cache", []),
        )
    }
    live, stored, one = (students[name].manifest.facts["history"][-1] for name in ("live", "stored", "one"))
    for name in ("bce", "mld", "cd", "id", "hint"):
        assert live[name] == pytest.approx(stored[name], rel=1e-3), name
    assert abs(one["mld"] / live["mld"] - 1) > 1e-3
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert students["live"].manifest.parent == taught[0].as_parent
    assert students["live"].manifest.facts["teachers"] == [vars(bundle.as_parent) for bundle in taught]


def test_several_are_adopted_in_their_order(train, taught, tmp_path):
    paths = [str(bundle.path) for bundle in taught]
    adopted = adopt_teachers(paths, tmp_path, train.labels)
    assert [bundle.path.name for bundle in adopted] == ["teacher", "teacher-2"]
    assert [bundle.manifest.files for bundle in adopted] == [bundle.manifest.files for bundle in taught]
    own = [str(bundle.path) for bundle in adopted]
    again = adopt_teachers(own, tmp_path, train.labels)
    assert [bundle.digest for bundle in again] == [bundle.digest for bundle in adopted]
    with pytest.raises(InputError, match=r"teacher-2: stands where the run puts .*teacher; give this folder's own"):
        adopt_teachers(own[::-1], tmp_path, train.labels)
    assert [Bundle.open(path).digest for path in own] == [bundle.digest for bundle in adopted]


def test_the_verb_takes_several_teachers(edgepress, tiny_data, train, val, taught, tmp_path):
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in {**SMALL, "size": 32, "mld": 4}.items()]
    several = [part for bundle in taught for part in ("--teacher", bundle.path)]
    answer = edgepress("distill", tiny_data, *several, "--out", tmp_path / "student", *settings)
    assert answer.code == 0, answer.err
    alone = distill(train, val, taught[0], DistillConfig(**SMALL, size=32, mld=4), tmp_path / "alone")
    made = Bundle.open(tmp_path / "student")
    assert made.manifest.facts["history"][0]["mld"] != alone.manifest.facts["history"][0]["mld"]
