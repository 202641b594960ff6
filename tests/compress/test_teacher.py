"""Several teachers, or several views of a picture, answer as one, and a student needs no teacher to learn alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgepress.compress.config import DistillConfig, ModelConfig, TeachConfig
from edgepress.compress.distill import distill, teach
from edgepress.compress.loader import Batch
from edgepress.compress.methods import PRESETS
from edgepress.compress.models import make_model
from edgepress.compress.teacher import Ensemble, LiveTeacher
from edgepress.compress.teacher_sources import bring_teachers
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


def test_a_student_of_the_cache_is_the_student_of_the_model(train, val, tmp_path):
    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    live = distill(train, val, teacher, CONFIG, tmp_path / "live")
    cached = distill(train, val, teacher, CONFIG, tmp_path / "cached", tmp_path / "cache")
    for one, other in zip(live.manifest.facts.history, cached.manifest.facts.history, strict=True):
        for name in ("loss", "bce", "mld", "cd", "id", "hint"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3), name


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
    assert alone.manifest.facts.history[0].model_dump().keys() == {"loss", "bce", "val_mAP", "seconds"}
    assert np.isfinite(alone.manifest.facts.val_mAP)


def test_the_student_alone_needs_no_teacher_and_learns_at_its_own_size(train, val, taught, tmp_path):
    small = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "small")
    config = DistillConfig(**SMALL, size=32, preset="alone")
    losses, bundles = {}, {}
    for name, teacher in (("no", None), ("small", small), ("large", taught[0])):
        bundles[name] = distill(train, val, teacher, config, tmp_path / f"with-{name}")
        losses[name] = [entry.bce for entry in bundles[name].manifest.facts.history]
    assert losses["no"] == losses["small"] != losses["large"]  # whose pictures are augmented at its 64 px
    assert (bundles["no"].manifest.parent, bundles["no"].manifest.facts.teachers) == (None, ())
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
    live, stored, one = (students[name].manifest.facts.history[-1] for name in ("live", "stored", "one"))
    for name in ("bce", "mld", "cd", "id", "hint"):
        assert getattr(live, name) == pytest.approx(getattr(stored, name), rel=1e-3), name
    assert abs(one.mld / live.mld - 1) > 1e-3
    assert len(list((tmp_path / "cache").iterdir())) == 4  # of two teachers, on train and on val
    assert students["live"].manifest.parent == taught[0].as_parent
    assert students["live"].manifest.facts.teachers == tuple(bundle.as_parent for bundle in taught)


def test_several_are_adopted_in_their_order(train, taught, tmp_path):
    paths = [str(bundle.path) for bundle in taught]
    adopted = bring_teachers(paths, "data", tmp_path)
    assert [bundle.path.name for bundle in adopted] == ["teacher", "teacher-2"]
    assert [bundle.manifest.files for bundle in adopted] == [bundle.manifest.files for bundle in taught]
    own = [str(bundle.path) for bundle in adopted]
    again = bring_teachers(own, "data", tmp_path)
    assert [bundle.digest for bundle in again] == [bundle.digest for bundle in adopted]
    with pytest.raises(InputError, match=r"teacher-2: is where the run puts .*teacher; give this folder's own"):
        bring_teachers(own[::-1], "data", tmp_path)
    assert [Bundle.open(path).digest for path in own] == [bundle.digest for bundle in adopted]


def test_the_verb_takes_several_teachers(edgepress, tiny_data, train, val, taught, tmp_path):
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in {**SMALL, "size": 32, "mld": 4}.items()]
    several = [part for bundle in taught for part in ("--teacher", bundle.path)]
    answer = edgepress("distill", tiny_data, *several, "--out", tmp_path / "student", *settings)
    assert answer.code == 0, answer.err
    alone = distill(train, val, taught[0], DistillConfig(**SMALL, size=32, mld=4), tmp_path / "alone")
    made = Bundle.open(tmp_path / "student")
    assert made.manifest.facts.history[0].mld != alone.manifest.facts.history[0].mld
