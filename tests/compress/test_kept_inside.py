"""What lies inside a teacher teaches from the disk as the teacher itself does, and is asked for once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgepress.compress.answer_files import AnswerFiles
from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.compress.distill import answers_of, distill, teach
from edgepress.compress.keep import Keep
from edgepress.compress.kept import KeptTeacher
from edgepress.compress.kept_inside import Inside
from edgepress.compress.loader import batches, make_loader
from edgepress.compress.models import make_model
from edgepress.compress.tasks import DistillTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from tests.compress.test_kept import SMALL, kept_of


@pytest.fixture(scope="module")
def train(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "train")


@pytest.fixture(scope="module")
def val(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "val")


INNER = {"review_kd": 0.1, "simkd": 4.0, "fitnet": 1.0, "at": 1.0, "rkd": 1.0, "pkt": 1.0}
"""Every term that looks inside the teacher."""


def test_what_lies_inside_the_teacher_teaches_as_the_teacher_itself(train, tmp_path):
    """But for half precision."""
    config = DistillConfig(**SMALL, **INNER, size=32, variations=2)
    kept = kept_of(train, tmp_path, size=64, embeddings=False, settings={"variations": 2})
    student = make_model(config, train.labels)[0].eval()
    inside = Inside(kept.store.model, Keep.for_students([config]), student)
    kept = KeptTeacher(replace(kept.store, inside=inside), train, kept.augmentation, 64)
    view, live = kept.store.model.preprocess.with_size(32), LiveTeacher(kept.store.model)
    both = make_loader(train, [view, live.model.preprocess], batch_size=8, workers=0, augmentation=kept.augmentation)
    found: list[dict[str, float]] = []
    for teacher in (kept, live):
        if teacher is live:
            inside.close()  # a backbone has one set of taps at a time
        torch.manual_seed(1)
        task = DistillTask(config, teacher, student, train)
        found.append({})
        for batch in batches(both, 0, both):
            terms = task(batch, *student(batch.images))
            found[-1] |= {f"{name} {len(found[-1])}": value.item() for name, value in terms.items()}
        assert task.taps is not None
        task.taps.close()
    assert found[0] == pytest.approx(found[1], rel=0.01)
    assert {name.split()[0] for name in found[0]} == {"bce", *INNER}
    (file,) = tmp_path.rglob("*.inside")
    assert file.stat().st_size == 24 * 2 * inside.width


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_lies_inside_is_asked_for_once(train, val, tmp_path, mirrored):
    teacher = teach(train, val, TeachConfig(**SMALL, size=64), tmp_path / "teacher")
    config = DistillConfig(**SMALL, size=32, variations=1, teacher_mirrored=mirrored)
    student = distill(train, val, teacher, config, tmp_path / "student")
    (file,) = answers_of(tmp_path / "student").rglob("*.inside")
    written = file.stat().st_mtime_ns
    again = distill(train, val, teacher, config, tmp_path / "again", answers_of(tmp_path / "student"))
    assert file.stat().st_mtime_ns == written
    first, second = (load_model(one.path).state_dict() for one in (student, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    live = distill(train, val, teacher, config.model_copy(update={"variations": None}), tmp_path / "live")
    for name in ("review_kd", "simkd"):  # of the first epoch, whose pictures are the same
        kept, asked = (getattr(one.manifest.facts.history[0], name) for one in (student, live))
        assert kept == pytest.approx(asked, rel=0.01), name
    assert not answers_of(tmp_path / "live").exists()


def test_students_that_look_at_answers_alone_share_them_whatever_others_look_at(train, val, tmp_path):
    """Also one whose pictures are always new, beside students of repeated ones."""
    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    plain = DistillConfig(**SMALL, size=32, mld=4.0)
    repeated = DistillConfig(**SMALL, size=32, variations=1)
    keep = Keep.for_students([plain, repeated])
    assert keep.inside
    cache = tmp_path / "cache"
    for place, config in enumerate((plain, plain.model_copy(update={"variations": 1}), repeated)):
        distill(train, val, teacher, config, tmp_path / f"s{place}", cache, keep=keep)
        folders = {path.parent for path in cache.rglob("variation*.logits")}
        assert len(folders) == 1 + (place == 2)
    assert len(list(cache.rglob("*.inside"))) == 1


def test_a_student_that_looks_at_answers_alone_takes_them_from_what_another_kept(train, val, tmp_path, caplog):
    """Where that is complete; it learns what it learns from answers that were asked for it alone."""
    caplog.set_level("INFO", logger="edgepress")
    teacher = teach(train, val, TeachConfig(**SMALL, size=32), tmp_path / "teacher")
    inner = DistillConfig(**SMALL, size=32, variations=2)
    answers = DistillConfig(**SMALL, size=32, variations=2, mld=4.0)
    keep, cache = Keep.for_students([inner, answers]), tmp_path / "cache"
    distill(train, val, teacher, inner, tmp_path / "first", cache, keep=keep)
    caplog.clear()
    shared = distill(train, val, teacher, answers, tmp_path / "second", cache, keep=keep)
    assert "answers of the teacher are computed" not in caplog.text
    alone = distill(train, val, teacher, answers, tmp_path / "alone", tmp_path / "other")
    first, second = (load_model(one.path).state_dict() for one in (shared, alone))
    assert all(torch.equal(first[name], second[name]) for name in first)
    next(cache.rglob("*0001.pictures")).unlink()
    caplog.clear()
    distill(train, val, teacher, answers, tmp_path / "third", cache, keep=keep)
    assert caplog.text.count("24 answers of the teacher are computed once") == 2  # of both variations, and no insides
    assert len(list(cache.rglob("*.inside"))) == 2


def test_what_is_kept_is_what_some_student_needs():
    assert Keep.for_students([DistillConfig()]) == Keep()  # every picture is new, and the teacher runs beside it
    default = Keep.for_students([DistillConfig(variations=2)])
    assert default == Keep(memory=True, feature_maps=True)
    assert Keep.for_students([DistillConfig(at=1.0, cd=1.0)]) == Keep()
    others = [DistillConfig(variations=2, **{name: 1.0}) for name in ("pkt", "hint", "label_map")]
    assert default | Keep.for_students(others) == Keep(
        **dict.fromkeys(("embeddings", "label_maps", "memory", "feature_maps", "pooled"), True)
    )


def test_a_killed_write_of_what_lies_inside_is_cut_off(tmp_path):
    files = AnswerFiles(tmp_path / "some", 2, None, inside=3)
    first, second = np.ones((1, 3), np.float16), np.full((2, 3), 2, np.float16)
    files.append(["00" * 32], np.zeros((1, 2)), inside=first)
    files.inside.append(second)  # killed before the pictures' hashes
    files.repair()
    files.append(["11" * 32, "22" * 32], np.zeros((2, 2)), inside=second)
    assert files.inside.mapped()[files.find(["22" * 32, "00" * 32])].tolist() == [[2, 2, 2], [1, 1, 1]]
