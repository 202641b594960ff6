"""Kept answers are those that the teacher gives when it is asked, and it is asked once for each picture."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig, ModelConfig, TeachConfig
from edgepress.compress.distill import answers_of, distill, teach
from edgepress.compress.examination import Examined
from edgepress.compress.kept import AnswerStore, KeptTeacher, log
from edgepress.compress.label_maps import REGIONS
from edgepress.compress.loader import Batch, batches, make_loader
from edgepress.compress.models import make_model
from edgepress.compress.teacher import LiveTeacher, map_labels
from edgepress.compress.training import augmentation_of
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.decisions import Affine
from edgepress.multilabel.errors import InputError

SMALL = {"backbone": "test_efficientnet", "width": 32, "weights": "none", "batch_size": 8, "workers": 0, "epochs": 2}
STRUCTURE = {"mld": 4.0, "hint": 1.0, "cd": 0.1, "id": 0.1, "review_kd": 0.0}
CONFIG = DistillConfig(**SMALL, **STRUCTURE, size=32, seed=3)
HALF = 2**-10
"""Rounding of half precision, as a share of the value."""


@pytest.fixture(scope="module")
def train(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "train")


@pytest.fixture(scope="module")
def val(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "val")


def kept_of(
    train, folder, *, width=32, size=32, batch_size=8, identity="t", settings=None, maps=False, **more
) -> KeptTeacher:
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_efficientnet", width=width, size=size, weights="none")
    model = make_model(config, train.labels)[0].eval()
    store = AnswerStore(
        model=model,
        folder=folder,
        identity=identity,
        labels=len(train.labels),
        batch_size=batch_size,
        workers=0,
        device=torch.device("cpu"),
        map_side=map_labels(model) if maps else 0,
    )
    augmentation = augmentation_of(CONFIG.model_copy(update=settings or {}), "area-cubic")
    return KeptTeacher(store, train, augmentation, size, embeddings=more.pop("embeddings", True), **more)


def some_batch(train, count, epoch=0):
    index = torch.arange(count)
    known = torch.zeros(count, 5)
    return Batch(torch.zeros(count, 32, 32, 3), None, known, known.bool(), known[:, 0].bool(), index, epoch)


def counted(kept: KeptTeacher) -> list[int]:
    """How many pictures the teacher is asked about, call by call."""
    asked: list[int] = []
    kept.store.model.register_forward_pre_hook(lambda _, images: asked.append(len(images[0])))
    return asked


@pytest.mark.parametrize(("variations", "computed"), [(None, 3), (2, 2)])
def test_kept_answers_are_the_live_ones_in_the_order_of_training(train, tmp_path, variations, computed):
    kept = kept_of(train, tmp_path, size=64, batch_size=5, settings={"variations": variations})
    live = LiveTeacher(kept.store.model)
    view, augmentation = kept.store.model.preprocess.with_size(32), kept.augmentation
    both = make_loader(train, [view, live.model.preprocess], batch_size=8, workers=0, augmentation=augmentation)
    alone = make_loader(train, [view], batch_size=8, workers=0, augmentation=augmentation, augment_size=64)
    for epoch in (0, 1, 2, 0):
        for batch, other in zip(batches(both, epoch, both), batches(alone, epoch, alone), strict=True):
            assert torch.equal(batch.images, other.images)
            assert torch.equal(batch.index, other.index)
            logits, embeddings = live(batch)
            stored, rows = kept(other)
            torch.testing.assert_close(stored, logits, atol=1e-4, rtol=HALF)
            positive = batch.targets == 1
            torch.testing.assert_close(rows[positive], embeddings[positive], atol=1e-5, rtol=1e-4)
            assert not rows[~positive].any()
    assert len(list(tmp_path.rglob("*.logits"))) == computed


@pytest.mark.parametrize("variations", [None, 2])
def test_a_slow_teacher_is_asked_once(train, tmp_path, variations):
    kept = kept_of(train, tmp_path, settings={"variations": variations}, embeddings=False)
    asked = counted(kept)
    for epoch in (0, 1, 0, 1, 2):
        kept(some_batch(train, 24, epoch))
    assert sum(asked) == 24 * (3 if variations is None else 2)
    again = kept_of(train, tmp_path, settings={"variations": variations}, embeddings=False)
    asked = counted(again)
    again(some_batch(train, 24, 1))
    assert asked == []


def test_what_was_kept_for_other_pictures_is_not_read(train, tmp_path):
    kept_of(train, tmp_path)(some_batch(train, 1))
    for changes in (
        *({"settings": one} for one in ({"seed": 4}, {"flip": 0.0}, {"cutout": 0.1})),
        *({"identity": "u"}, {"size": 48}, {"embeddings": False}, {"maps": True}),
    ):
        other = kept_of(train, tmp_path, **changes)
        asked = counted(other)
        other(some_batch(train, 1))
        assert sum(asked) == 24, changes


def test_label_maps_are_kept_beside_the_logits_and_asked_for_once(train, tmp_path):
    kept = kept_of(train, tmp_path, size=64, maps=True)
    live = LiveTeacher(kept.store.model, maps=True)
    augmentation = kept.augmentation
    both = make_loader(train, [live.model.preprocess] * 2, batch_size=8, workers=0, augmentation=augmentation)
    for batch in batches(both, 0, both):
        logits, _, maps = live(batch)
        stored, _, found = kept(batch)
        assert found.shape == (8, 5, REGIONS)
        torch.testing.assert_close(found, maps, atol=1e-4, rtol=HALF)
        torch.testing.assert_close(stored, logits, atol=1e-4, rtol=HALF)
        torch.testing.assert_close(found[..., 0], stored, atol=1e-3, rtol=2 * HALF)
    again = kept_of(train, tmp_path, size=64, maps=True)
    asked = counted(again)
    assert torch.equal(again(some_batch(train, 24))[2], kept(some_batch(train, 24))[2])
    assert (asked, again.map_side) == ([], 2)
    assert kept_of(train, tmp_path, size=64).map_side == 0


def copied(train: MultiLabelDataset, folder: Path) -> MultiLabelDataset:
    """The data set elsewhere, whose files a test may change."""
    root = Path(shutil.copytree(train.root, folder))
    return replace(train, root=root, paths=[root / path.relative_to(train.root) for path in train.paths])


def test_answers_belong_to_contents_and_not_to_names_places_or_labels(train, tmp_path):
    kept_of(train, tmp_path / "cache", embeddings=False)(some_batch(train, 24))
    moved = copied(train, tmp_path / "elsewhere")
    for place, path in enumerate(moved.paths):
        moved.paths[place] = path.rename(path.with_name(f"other-{place}.jpg"))
    turned = moved.subset(np.arange(24)[::-1])
    corrected = replace(turned, targets=1 - turned.targets)
    kept = kept_of(corrected, tmp_path / "cache", embeddings=False)
    asked = counted(kept)
    same, first = kept(some_batch(corrected, 24)), kept_of(train, tmp_path / "cache", embeddings=False)
    assert torch.equal(same[0].flip(0), first(some_batch(train, 24))[0])
    assert asked == []


def test_of_a_further_picture_alone_the_teacher_is_asked(train, val, tmp_path):
    kept_of(train, tmp_path, embeddings=False)(some_batch(train, 24))
    more = train.subset(np.arange(20)).followed_by(val.subset(np.arange(3)))
    kept = kept_of(more, tmp_path, embeddings=False)
    asked = counted(kept)
    answers = kept(some_batch(more, 23))[0]
    assert sum(asked) == 3
    alone = kept_of(more, tmp_path / "other", embeddings=False)(some_batch(more, 23))[0]
    torch.testing.assert_close(answers, alone, atol=1e-4, rtol=HALF)


def test_copies_of_a_picture_are_asked_about_once(train, tmp_path):
    twice = train.subset(np.array([0, 1, 0, 2, 1]))
    kept = kept_of(twice, tmp_path)
    asked = counted(kept)
    logits, embeddings = kept(some_batch(twice, 5))
    assert sum(asked) == 3
    assert torch.equal(logits[[0, 1]], logits[[2, 4]])
    assert torch.equal(embeddings[0], embeddings[2])


def test_a_corrected_label_asks_for_the_embedding_that_it_needs(train, tmp_path):
    kept_of(train, tmp_path)(some_batch(train, 24))
    targets = train.targets.copy()
    targets[5] = 1
    corrected = replace(train, targets=targets)
    kept = kept_of(corrected, tmp_path)
    asked = counted(kept)
    rows = kept(some_batch(corrected, 24))[1]
    assert asked == [1]
    assert (rows[5].abs().sum(dim=1) > 0).all()
    for data in (train, corrected):  # and neither asks again
        other = kept_of(data, tmp_path)
        asked = counted(other)
        other(some_batch(data, 24))
        assert asked == []


def test_unlabelled_pictures_have_the_embeddings_of_which_the_teacher_is_sure(train, val, tmp_path):
    found = replace(val, targets=np.zeros_like(val.targets), ignore=np.ones_like(val.ignore))
    taught = np.ones(5, bool)
    shifted = Affine(method="platt", slopes=(1.0,) * 5, offsets=(0.05,) * 5)
    for examined, bar in (
        (None, 0.0),
        (Examined(taught=taught, inside=taught, calibrator=shifted), -0.05),
    ):
        kept = kept_of(train, tmp_path, batch_size=7, unlabelled=found, sure=0.5, examined=examined)
        logits, embeddings = kept(some_batch(train, 36))
        shown = embeddings.abs().sum(dim=2) > 0
        assert torch.equal(shown[:24], torch.from_numpy(train.targets == 1))
        assert torch.equal(shown[24:] | (logits[24:] < bar), torch.ones(12, 5, dtype=torch.bool))
        assert (logits[24:] >= bar).any()


def test_val_is_kept_as_it_is_in_full_precision(train, val, tmp_path):
    kept = kept_of(train, tmp_path)
    asked = counted(kept)
    found, again = kept.store.plain(val), kept.store.plain(val)
    assert sum(asked) == len(val)
    np.testing.assert_array_equal(found, again)
    images = torch.from_numpy(np.stack([kept.store.model.preprocess(val.picture(row)) for row in range(len(val))]))
    with torch.no_grad():
        np.testing.assert_allclose(found, kept.store.model.logits(images).numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def many(train, tmp_path_factory) -> MultiLabelDataset:
    """Ten times the pictures, each of its own content."""
    folder, rng, paths = tmp_path_factory.mktemp("many"), np.random.default_rng(0), []
    for number in range(240):
        paths.append(folder / f"{number}.png")
        cv2.imwrite(str(paths[-1]), rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    tenfold = {name: np.tile(getattr(train, name), (10, 1)) for name in ("targets", "ignore")}
    return replace(train, root=folder, paths=paths, **tenfold)


def test_memory_does_not_grow_with_the_pictures(many, tmp_path, monkeypatch):
    """Of more pictures no more answers are held at once: neither arrays nor the tensors beneath them."""
    monkeypatch.setattr("edgepress.compress.kept._BLOCK", 1)
    held, peaks = {}, {}
    kept_of(many.subset(np.arange(8)), tmp_path / "warm")(some_batch(many, 1))
    for times in (3, 10):
        some = many.subset(np.arange(24 * times))
        kept = kept_of(some, tmp_path / str(times), width=1024)

        def count(*_, times=times):
            gc.collect()
            tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
            held[times] = max(held.get(times, 0), sum(tensor.nbytes for tensor in tensors))

        kept.store.model.register_forward_pre_hook(count)
        gc.collect()
        gc.freeze()  # of what is new alone it is asked who holds it
        tracemalloc.start()
        kept(some_batch(some, 1))
        peaks[times] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        gc.unfreeze()
        written = next((tmp_path / str(times)).rglob("*.embeddings")).stat().st_size
    assert written > 1_000_000
    assert held[10] - held[3] < written / 10
    assert peaks[10] - peaks[3] < written / 4


def test_what_fails_on_the_way_leaves_whole_rows_and_goes_on_from_there(train, tmp_path, monkeypatch):
    monkeypatch.setattr("edgepress.compress.kept._BLOCK", 1)
    kept = kept_of(train, tmp_path, batch_size=8, maps=True)
    answers, calls = kept.store.model.forward, []

    def failing(images):
        calls.append(len(images))
        return answers(images) if len(calls) < 3 else 1 / 0

    kept.store.model.forward = failing
    with pytest.raises(ZeroDivisionError):
        kept(some_batch(train, 1))
    kept.store.model.forward = answers
    asked = counted(kept)
    kept(some_batch(train, 24))
    assert sum(asked) == 8


def test_answers_that_are_no_numbers_name_their_picture(train, tmp_path):
    kept = kept_of(train, tmp_path)
    answers = kept.store.model.forward

    def broken(images):
        logits, embeddings = answers(images)
        logits[3] = torch.nan
        return logits, embeddings

    kept.store.model.forward = broken
    with pytest.raises(InputError, match=r"00003\.jpg: the teacher's logits for it are not finite"):
        kept(some_batch(train, 1))


def test_a_picture_that_cannot_be_read_stops_it(train, tmp_path):
    broken = copied(train, tmp_path / "data")
    broken.hashes()
    broken.paths[2].unlink()
    with pytest.raises(Exception, match=r"00002\.jpg"):
        kept_of(broken, tmp_path / "cache")(some_batch(broken, 1))


def test_of_two_that_ask_at_once_one_computes_and_the_other_waits(train, tmp_path, monkeypatch):
    """As two runs would that share a store: each has a file of its own open on the lock."""
    first, second = kept_of(train, tmp_path), kept_of(train, tmp_path)
    begun, waits, goes_on, computed = threading.Event(), threading.Event(), threading.Event(), []
    answers = first.store.model.forward

    def slow(images):
        begun.set()
        assert goes_on.wait(60)
        return answers(images)

    first.store.model.forward = slow
    second.store.model.forward = lambda images: computed.append(1) or answers(images)
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


def test_a_student_of_kept_answers_is_the_student_of_the_model(train, val, tmp_path):
    teacher = teach(train, val, TeachConfig(**SMALL, size=64), tmp_path / "teacher")
    for precision, tolerance, size in (("no", 1e-3, 64), ("bf16", 0.03, 32)):
        config = DistillConfig(**SMALL, **STRUCTURE, label_map=1.0, size=size, mixed_precision=precision)
        live = distill(train, val, teacher, config, tmp_path / f"live-{precision}")
        kept = distill(train, val, teacher, config, tmp_path / f"kept-{precision}", tmp_path / "cache")
        for name in ("mld", "cd", "id", "hint", "label_map"):
            one, other = (getattr(student.manifest.facts.history[0], name) for student in (live, kept))
            assert one == pytest.approx(other, rel=tolerance), name


def test_repeated_pictures_keep_their_answers_beside_the_student(train, val, tmp_path):
    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    plain = CONFIG.model_copy(update={"epochs": 3})
    distill(train, val, teacher, plain, tmp_path / "once")
    assert not answers_of(tmp_path / "once").exists()
    distill(train, val, teacher, plain.model_copy(update={"variations": 2}), tmp_path / "student")
    files = sorted(path.name for path in answers_of(tmp_path / "student").rglob("*.logits"))
    assert files == ["plain.logits", "variation-0000.logits", "variation-0001.logits"]


def test_the_same_answers_of_a_bundle_and_of_its_graph_make_the_same_student_to_the_bit(
    train, val, tmp_path, tiny_data
):
    from edgepress.deploy.build.export import export_onnx

    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    test = load_dataset(tiny_data, "test")
    graph = export_onnx(load_model(teacher.path), test, tmp_path / "onnx-fp32", identity="x")
    config = DistillConfig(**SMALL, size=32, mld=4.0, kd=1.0, mse=0.1, ps=0.1, review_kd=0.0)
    for place, one in enumerate((teacher, graph)):
        distill(train, val, one, config, tmp_path / f"s{place}", tmp_path / f"cache{place}")
    folders = (tmp_path / "cache0", tmp_path / "cache1")
    mine, theirs = (sorted(one.rglob("*.logits"), key=lambda file: file.name) for one in folders)
    for one, other in zip(mine, theirs, strict=True):
        dtype = np.float32 if one.name.startswith("plain") else np.float16
        own, found = (np.fromfile(file, dtype).astype(np.float64) for file in (one, other))
        # What differs by 1e-5 before it is rounded may differ by one step of half precision after.
        step = np.spacing(np.abs(own).astype(dtype)).astype(np.float64)
        assert (np.abs(own - found) <= 1e-5 + (step if dtype is np.float16 else 0)).all()
        assert dtype is np.float32 or (own != found).mean() < 0.05
        shutil.copyfile(one, other)
    shutil.rmtree(tmp_path / "s1")
    distill(train, val, graph, config, tmp_path / "s1", tmp_path / "cache1")
    first, second = (load_model(tmp_path / f"s{place}").state_dict() for place in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
