"""Stored answers teach what the teacher itself would: the same logits, and to the bit the same student."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig
from edgepress.compress.distill import distill
from edgepress.compress.quantize_aware import quantize_aware
from edgepress.compress.reading import Reading
from edgepress.compress.stored import StoredTeacher, answers_for
from edgepress.deploy.build.adopt import adopt_onnx
from edgepress.deploy.build.export import export_onnx
from edgepress.deploy.build.foreign import AdoptConfig
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_map import match_labels
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.reached import answer_split
from edgepress.multilabel.stored_answers import StoredAnswers, write_answers
from tests.compress.lessons import COMMON, random_batch, updated

pytestmark = pytest.mark.usefixtures("one_thread")
# Whatever the epoch, a picture is what it is in the file: then stored answers are those of every epoch.
PLAIN = {"augment": "none", "flip": 0.0, "cutout": 0.0, "resize": "squash"}
CONFIG = DistillConfig(
    backbone="test_efficientnet", size=32, head="linear", review_kd=0, mld=2, kd=1, mse=0.1, ps=0.1, **COMMON, **PLAIN
)


@pytest.fixture(scope="module")
def adopted(teacher, tiny_data, tmp_path_factory) -> Bundle:
    """The teacher, exported to ONNX and adopted as somebody else's."""
    folder = tmp_path_factory.mktemp("adopted")
    test = load_dataset(tiny_data, "test")
    exported = export_onnx(load_model(teacher.path), test, folder / "onnx-fp32", identity="x")
    shutil.copyfile(exported.model_path, folder / "big.onnx")
    return adopt_onnx(folder / "big.onnx", test, folder / "big", labels=teacher.labels, config=AdoptConfig())


def stored(answer, preprocess, splits, out: Path, labels: LabelSpace) -> StoredAnswers:
    logits = np.concatenate([answer_split(answer, preprocess, split) for split in splits])
    return write_answers(out, labels, [name for split in splits for name in split.hashes()], logits)


@pytest.fixture(scope="module")
def both(teacher, adopted, splits, tmp_path_factory) -> tuple[StoredAnswers, StoredAnswers]:
    """The answers of the bundle, and those of the graph."""
    from edgepress.deploy.engines import open_engine

    folder = tmp_path_factory.mktemp("answers")
    own = stored(load_model(teacher.path).answer, teacher.preprocess, splits, folder / "own.npz", teacher.labels)
    with open_engine(adopted) as engine:
        return own, stored(engine, adopted.preprocess, splits, folder / "graph.npz", adopted.labels)


def test_the_teacher_and_its_adopted_graph_give_the_same_answers(both):
    own, graph = both
    assert own.pictures == graph.pictures
    np.testing.assert_allclose(own.logits, graph.logits, atol=1e-5, rtol=0)


def test_the_same_answers_make_the_same_student_to_the_bit(both, splits, tmp_path):
    """From the file that the graph wrote, once its logits are the bundle's."""
    own, graph = both
    again = write_answers(tmp_path / "same.npz", graph.labels, graph.pictures, own.logits)
    students = [distill(*splits, one, CONFIG, tmp_path / f"s{place}") for place, one in enumerate((own, again))]
    first, second = (load_model(student.path).state_dict() for student in students)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_stored_teacher_teaches_what_the_bundle_does(both, teacher, splits, tmp_path):
    """At the student's size, so that both see the same pictures: the terms differ by rounding alone."""
    config = CONFIG.model_copy(update={"size": 64})
    live, kept = (distill(*splits, one, config, tmp_path / f"s{place}") for place, one in enumerate((teacher, both[0])))
    for name in ("bce", "mld", "kd", "mse", "ps"):
        one, other = (getattr(student.manifest.facts.history[0], name) for student in (live, kept))
        assert one == pytest.approx(other, rel=1e-4), name
    assert kept.manifest.facts.teacher_val_mAP == pytest.approx(live.manifest.facts.teacher_val_mAP)
    assert (kept.manifest.parent, kept.manifest.facts.teachers) == (None, (both[0].as_parent,))


def test_answers_are_those_of_each_picture_and_of_the_data_set_s_labels(both, splits):
    train, val = splits
    whole = train.followed_by(val)
    labels = LabelSpace(("bars", "red"))
    teacher = StoredTeacher(both[0], match_labels(labels, both[0].labels, None, "it"), whole)
    batch = random_batch()
    batch.index = torch.tensor([0, 30, 5, 5, 23, 24])
    logits, embeddings = teacher(batch)
    assert embeddings.shape == (6, 2, 0)
    np.testing.assert_array_equal(logits.numpy(), both[0].logits[[0, 30, 5, 5, 23, 24]][:, [4, 0]])
    np.testing.assert_array_equal(
        answers_for(both[0], match_labels(labels, both[0].labels, None, "it"), val).shape, (12, 2)
    )


def test_a_student_is_fine_tuned_under_stored_answers(both, splits, tmp_path):
    from edgepress.compress.config import QuantizeAwareConfig

    student = distill(*splits, both[0], CONFIG, tmp_path / "student")
    tuned = quantize_aware(
        *splits, both[0], student, QuantizeAwareConfig(epochs=1, pictures=8, workers=0), tmp_path / "qat"
    )
    assert "mld" in tuned.manifest.facts.history[0].terms


def lacking(own: StoredAnswers, rows: list[int], out: Path) -> StoredAnswers:
    kept = [row for row in range(len(own.pictures)) if row not in rows]
    return write_answers(out, own.labels, [own.pictures[row] for row in kept], own.logits[kept])


def test_answers_that_lack_a_picture_stop_before_anything_is_written(both, splits, tmp_path):
    three = lacking(both[0], [3, 7, 20], tmp_path / "three.npz")
    with pytest.raises(InputError, match=r"answers for 21 of 24 pictures of 'train'; missing .*00003"):
        distill(*splits, three, CONFIG, tmp_path / "student")
    assert {path.name for path in tmp_path.iterdir()} == {"three.npz"}


def test_answers_for_train_alone_teach_unexamined(both, splits, tmp_path):
    train_only = lacking(both[0], list(range(24, 36)), tmp_path / "train.npz")
    facts = distill(*splits, train_only, CONFIG, tmp_path / "student").manifest.facts
    assert (facts.teacher_val_mAP, facts.untaught) == (None, ())
    with pytest.raises(InputError, match="no answers for the pictures of 'val'; refined needs them"):
        distill(*splits, train_only, updated(CONFIG, refined=1.0), tmp_path / "refined")
    for reading, words in (
        (Reading(weak="stop"), "teacher_weak stop needs them"),
        (Reading(calibration="platt", calibrate=lambda *_: None), "teacher_calibration platt needs them"),
    ):
        with pytest.raises(InputError, match=f"no answers for the pictures of 'val'; {words}"):
            distill(*splits, train_only, CONFIG, tmp_path / "other", reading=reading)
    some = lacking(both[0], [30], tmp_path / "some.npz")
    with pytest.raises(InputError, match="answers for 11 of 12 pictures of 'val'"):
        distill(*splits, some, CONFIG, tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cd": 1.0}, "a file of answers teaches by its logits, but cd needs what is inside it: set cd to 0"),
        ({"review_kd": 0.1}, "but review_kd needs what is inside it"),
        ({"inherit_head": "auto"}, "but inherit_head needs what is inside it: set inherit_head to no"),
        ({"teacher_mirrored": True}, r"stored answers are all there is, and give none on mirror images"),
    ],
)
def test_what_stored_answers_cannot_teach_is_refused(both, splits, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        distill(*splits, both[0], CONFIG.model_copy(update=changes), tmp_path / "student")


def test_stored_answers_are_a_teacher_alone(both, teacher, splits, tmp_path):
    for first, second in ((both[0], teacher), (teacher, both[0])):
        with pytest.raises(InputError, match="stored answers are all there is, and give none beside other teachers"):
            distill(*splits, first, CONFIG, tmp_path / "student", ensemble=[second])
