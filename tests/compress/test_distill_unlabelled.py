"""Pictures that nobody labelled: mixed into every batch, taught by the teacher alone."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from edgepress.compress.augmentation import Augmentation
from edgepress.compress.config import DistillConfig
from edgepress.compress.distill import distill
from edgepress.compress.loader import batches, make_loader
from edgepress.compress.losses import BinaryCrossEntropy, LabelWiseEmbeddingDistillation, MultiLabelLogitsDistillation
from edgepress.compress.methods import TERMS
from edgepress.compress.tasks import DistillTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.multilabel.bundle import file_sha256
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.errors import InputError
from tests.compress.lessons import STUDENT, TRAIN, models, random_batch, updated

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = Augmentation(augment="none", flip=0.5, cutout=0.3, seed=3)


@pytest.fixture
def folder(tiny_data, tmp_path):
    """Seven of test's pictures in nested folders, beside a file that is none."""
    root = tmp_path / "found"
    for number, path in enumerate(sorted((tiny_data / "test").glob("*.jpg"))[:7]):
        target = root / ("a/b" if number % 2 else ".") / f"found{number}.JPG"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (root / "notes.txt").write_text("no picture")
    (root / "a" / "round").symlink_to(root, target_is_directory=True)
    return root


def test_every_picture_below_is_found_once(folder, splits):
    found = load_unlabelled(folder, splits[0].labels)
    names = [path.relative_to(folder).as_posix() for path in found.paths]
    assert names == sorted(names)
    assert sorted(path.name for path in found.paths) == [f"found{number}.JPG" for number in range(7)]
    assert found.ignore.all()
    assert not found.targets.any()
    assert found.targets.shape == (7, 5)


@pytest.mark.parametrize(("name", "message"), [("nowhere", "no such folder"), ("found/a", "no picture in it")])
def test_a_folder_without_pictures_is_told(tmp_path, splits, name, message):
    (tmp_path / "found" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        load_unlabelled(tmp_path / name, splits[0].labels)


def epochs_of(splits, folder, share, batch_size=8, epochs=3, workers=0):
    train = splits[0]
    _, student = models()
    found = load_unlabelled(folder, train.labels)
    loader = make_loader(
        train, [student.preprocess], batch_size=batch_size, workers=workers, augmentation=STILL, unlabelled=found,
        unlabelled_share=share,
    )  # fmt: skip
    return [[batch for batch in batches(loader, epoch, loader)] for epoch in range(epochs)], len(loader)


@pytest.mark.parametrize(("share", "others"), [(0.25, 2), (0.5, 4), (0.01, 1), (0.99, 7)])
def test_every_batch_holds_the_share(splits, folder, share, others):
    made, steps = epochs_of(splits, folder, share)
    for epoch in made:
        assert len(epoch) == steps == 24 // (8 - others)
        own = torch.cat([batch.index[batch.labelled] for batch in epoch])
        assert len(own.unique()) == len(own) == steps * (8 - others)
        for batch in epoch:
            assert int((~batch.labelled).sum()) == others
            assert (batch.index[~batch.labelled] >= 24).all()
            assert batch.ignore[~batch.labelled].all()
            assert not batch.targets[~batch.labelled].any()


def test_unlabelled_pictures_come_in_whole_passes(splits, folder):
    """4 of 8 a batch, 6 steps an epoch, 3 epochs: 72 places are ten passes over seven pictures and two more."""
    made, _ = epochs_of(splits, folder, 0.5)
    seen = torch.cat([batch.index[~batch.labelled] for epoch in made for batch in epoch]).numpy() - 24
    assert len(seen) == 72
    passes = seen[:70].reshape(10, 7)
    assert all(sorted(one) == list(range(7)) for one in passes.tolist())
    assert len({tuple(one) for one in passes.tolist()}) > 1


def test_the_order_follows_from_the_seed(splits, folder):
    made, again = epochs_of(splits, folder, 0.5)[0], epochs_of(splits, folder, 0.5, workers=1)[0]
    flat = ([batch for epoch in run for batch in epoch] for run in (made, again))
    for one, other in zip(*flat, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.images, other.images)


def test_the_teacher_speaks_where_nobody_did():
    """Two of six pictures are unlabelled: by hand, the labels teach four and the teacher six."""
    teacher_model, student = models()
    batch = random_batch()
    batch.labelled = torch.tensor([True, True, False, True, False, True])
    batch.ignore = ~batch.labelled[:, None].expand(6, 4).contiguous()
    batch.targets[~batch.labelled] = 0
    config = updated(STUDENT, mld=2.0, cd=3.0, id=5.0, sure=0.5)
    logits, embeddings = student(batch.images)
    terms = DistillTask(config, LiveTeacher(teacher_model), student, TRAIN)(batch, logits, embeddings)
    with torch.no_grad():
        told, shown = teacher_model.eval()(batch.teacher_images)
    sure = (told >= 0).float()
    assert sure[~batch.labelled].any()
    targets = torch.where(batch.labelled[:, None], batch.targets, sure)
    own = batch.labelled
    structure = LabelWiseEmbeddingDistillation(1.0, 1.0, "mean").terms(embeddings, shown, targets)
    expected = {
        "bce": BinaryCrossEntropy()(logits[own], batch.targets[own]),
        "mld": 2 * MultiLabelLogitsDistillation()(logits, told, targets),
        "cd": 3 * structure["cd"],
        "id": 5 * structure["id"],
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, msg=name)


def test_ignored_cells_of_labelled_pictures_stay_ignored():
    teacher_model, student = models()
    batch = random_batch(0.3)
    batch.labelled = torch.tensor([True] * 5 + [False])
    batch.ignore[5] = True
    task = DistillTask(STUDENT, LiveTeacher(teacher_model), student, TRAIN)
    outputs = [tensor.detach() for tensor in student(batch.images)]
    before = task(batch, *outputs)
    batch.targets[batch.ignore & batch.labelled[:, None]] = 1
    after = task(batch, *outputs)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_stored_outputs_make_the_same_student(teacher, splits, folder, tmp_path):
    config = updated(STUDENT, unlabelled=str(folder), sure=0.5, epochs=2)
    live = distill(*splits, teacher, config, tmp_path / "live")
    stored = distill(*splits, teacher, config, tmp_path / "stored", tmp_path / "cache")
    again = distill(*splits, teacher, config, tmp_path / "again", tmp_path / "cache")
    assert file_sha256(stored.model_path) == file_sha256(again.model_path)
    for one, other in zip(live.manifest.facts.history, stored.manifest.facts.history, strict=True):
        for name in ("bce", "mld", "cd", "id", "cd_groups"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3), name
    without = distill(*splits, teacher, updated(STUDENT, epochs=2), tmp_path / "without")
    assert file_sha256(without.model_path) != file_sha256(live.model_path)


def test_other_pictures_are_another_student(teacher, splits, folder, tmp_path):
    config = updated(STUDENT, unlabelled=str(folder))
    first = distill(*splits, teacher, config, tmp_path / "student")
    moved = folder.rename(tmp_path / "elsewhere")
    assert distill(*splits, teacher, updated(config, unlabelled=str(moved)), first.path).digest == first.digest
    next(moved.glob("*.JPG")).unlink()
    assert distill(*splits, teacher, updated(config, unlabelled=str(moved)), first.path).digest != first.digest


def test_a_picture_of_val_is_refused(teacher, splits, folder, tmp_path):
    shutil.copyfile(splits[1].paths[2], folder / "copied.jpg")
    with pytest.raises(InputError, match=r"copied\.jpg"):
        distill(*splits, teacher, updated(STUDENT, unlabelled=str(folder)), tmp_path / "student")


def test_the_verb_looks_for_them_in_every_split_that_measures(edgepress, teacher, tiny_data, folder, tmp_path):
    """The folder holds seven of test's pictures."""
    flags = ("--backbone", "test_efficientnet", "--weights", "none", "--size", "32", "--width", "32", "--epochs", "1")
    answer = edgepress(
        "distill", tiny_data, "--teacher", teacher.path, "--out", tmp_path / "s", "--unlabelled", folder, *flags
    )
    assert answer.code == 2
    assert "found0.JPG is unlabelled and is in the split 'test' as well" in answer.err
    assert not (tmp_path / "s").exists()


def test_a_broken_picture_is_named_before_training(teacher, splits, folder, tmp_path):
    (folder / "broken.jpg").write_bytes((folder / "found0.JPG").read_bytes()[:200])
    with pytest.raises(InputError, match=r"broken\.jpg"):
        distill(*splits, teacher, updated(STUDENT, unlabelled=str(folder)), tmp_path / "student")


def test_alone_has_nothing_to_learn_from_them():
    with pytest.raises(InputError, match="without a teacher"):
        DistillConfig.parse({"preset": "alone", "unlabelled": "x"}, "flags")


def test_terms_of_the_student_alone_are_none():
    assert all(getattr(DistillConfig(preset="alone"), name) == 0 for name in TERMS)
    assert np.isclose(DistillConfig(preset="l2d").id, 1000)
