"""A teacher is examined before it teaches: what it reaches, what it should not teach, how it is calibrated."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgepress.compress.examination import Examined, examine
from edgepress.compress.reading import Reading
from edgepress.compress.tasks import DistillTask
from edgepress.multilabel.decisions import Affine, FittedAnswers
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.metrics import average_precision
from tests.compress.lessons import LABELS, STUDENT, TRAIN, models, random_batch, updated, with_arrays

RNG = np.random.default_rng(0)
TARGETS = (RNG.random((60, 4)) < 0.4).astype(np.uint8)
VAL = with_arrays(TRAIN, split="val", paths=[*TRAIN.paths] * 15, targets=TARGETS, ignore=np.zeros((60, 4), bool))
ALL = np.ones(4, bool)
GOOD = np.where(TARGETS, 2.0, -2.0) + RNG.normal(0, 0.5, TARGETS.shape)


def good_but(column: int, values: np.ndarray) -> np.ndarray:
    logits = GOOD.copy()
    logits[:, column] = values
    return logits


@pytest.mark.parametrize(("how", "values"), [("the opposite", -GOOD[:, 1]), ("one answer for all", np.zeros(60))])
def test_a_label_that_the_teacher_knows_no_better_than_chance_is_not_taught(how, values, caplog):
    with caplog.at_level(logging.INFO, "edgepress"):
        found = examine(good_but(1, values), VAL, ALL, ALL, Reading(weak="mask"), "teacher big")
    assert found.taught.tolist() == found.inside.tolist() == [True, False, True, True]
    assert found.weak.tolist() == [False, True, False, False]
    own = average_precision(TARGETS, good_but(1, values))
    assert found.val_mAP == pytest.approx(own.mean())
    (line,) = caplog.messages
    chance = 100 * TARGETS[:, 1].mean()
    assert line.startswith(f"teacher big: val mAP {100 * own.mean():.2f}; at or below prevalence, not taught: b (")
    assert line.endswith(f"by chance {chance:.1f})")
    kept = examine(good_but(1, values), VAL, ALL, ALL, Reading(weak="keep"), "teacher big")
    assert kept.taught.all()
    with pytest.raises(InputError, match=r"its AP on val is at or below prevalence for b \(.*: set teacher_weak"):
        examine(good_but(1, values), VAL, ALL, ALL, Reading(weak="stop"), "teacher big")


def test_labels_that_it_lacks_are_neither_counted_nor_taught():
    known, single = np.array([True, True, False, True]), np.array([True, False, False, True])
    found = examine(good_but(2, np.full(60, np.nan)), VAL, known, single, Reading(weak="stop"), "teacher")
    assert found.taught.tolist() == known.tolist()
    assert found.inside.tolist() == single.tolist()
    assert found.val_mAP == pytest.approx(average_precision(TARGETS, GOOD)[known].mean())


def test_a_label_that_val_cannot_judge_is_taught():
    targets = TARGETS.copy()
    targets[:, 3] = 0
    found = examine(GOOD, with_arrays(VAL, targets=targets), ALL, ALL, Reading(weak="mask"), "teacher")
    assert found.taught.all()


def test_the_precision_of_sure_answers_is_each_label_s_own_beside_one_answer_of_all():
    logits, targets = np.full((60, 4), -9.0), np.zeros((60, 4), np.uint8)
    targets[:30] = 1
    logits[:20, 0] = logits[20:40, 1] = 9  # 20 of 20, and 10 of 20 right; of the others it is never sure
    logits[:, 2] = 1.0
    ignore = np.zeros((60, 4), bool)
    ignore[38:40, 1] = True  # two of the wrong ones are not known
    found = examine(logits, with_arrays(VAL, targets=targets, ignore=ignore), ALL, ALL, Reading(weak="keep"), "it", 0.9)
    overall = 30 / 38
    expected = [(20 + overall) / 21, (10 + overall) / 19, overall, overall]
    np.testing.assert_allclose(found.precision, expected)
    unsure = examine(0.01 * GOOD, VAL, ALL, ALL, Reading(weak="keep"), "it")
    assert (unsure.precision == 0).all()


def test_answers_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="teacher: its logits are not finite for pictures of none, split 'val'"):
        examine(good_but(0, np.full(60, np.inf)), VAL, ALL, ALL, Reading(), "teacher")


def test_the_calibrator_that_is_fitted_is_the_one_that_teaches():
    asked = []

    def calibrate(logits, targets, ignore, method):
        asked.append((logits.shape, targets.shape, ignore[:, 2].all(), method))
        return FittedAnswers(Affine(method="platt", slopes=(2.0,) * 4, offsets=(1.0,) * 4), 0.1, 0.2)

    known = np.array([True, True, False, True])
    reading = Reading(calibration="platt", calibrate=calibrate)
    assert examine(GOOD, VAL, known, known, reading, "teacher").calibrator.offsets == (1.0,) * 4
    assert asked == [((60, 4), (60, 4), True, "platt")]


@pytest.mark.parametrize("term", ["mld", "kd", "mse", "ps", "cd", "id", "hint"])
def test_what_is_not_taught_has_no_part_in_any_term(term):
    """Whatever the teacher says of it, and whatever the student does."""
    _, student = models()
    batch = random_batch()
    config = updated(STUDENT, **{"mld": 0, "cd": 0, "id": 0, "task": 0, term: 1.0})
    logits, embeddings = (tensor.detach() for tensor in student.eval()(batch.images))
    told = torch.randn(6, 4), torch.randn(6, 4, student.embedding_dim)
    taught = np.array([True, True, False, True])

    class Teacher:
        embedding_dim = student.embedding_dim

        def __init__(self, change: float) -> None:
            self.answer = tuple(tensor.clone() for tensor in told)
            for tensor in self.answer:
                tensor[:, 2] += change

        def __call__(self, batch):
            return self.answer

    def value(change: float, examined: Examined | None) -> float:
        task = DistillTask(config, Teacher(change), student, TRAIN, examined)
        return float(task(batch, logits, embeddings)[term])

    masked = Examined(taught=taught, inside=taught)
    assert value(0.0, masked) == value(50.0, masked)
    assert value(0.0, None) != value(50.0, None)
    assert LABELS.names[2] == "c"


def test_calibrated_logits_are_what_the_student_hears():
    _, student = models()
    batch, taught = random_batch(), np.ones(4, bool)
    logits, embeddings = (tensor.detach() for tensor in student.eval()(batch.images))
    slopes, offsets = (0.5, 1.0, 2.0, 1.5), (0.1, -0.2, 0.3, 0.0)
    answer = torch.randn(6, 4)

    def value(heard: torch.Tensor, examined: Examined | None) -> float:
        class Teacher:
            embedding_dim = student.embedding_dim

            def __call__(self, batch):
                return heard, torch.zeros(6, 4, student.embedding_dim)

        task = DistillTask(updated(STUDENT, mld=1, cd=0, id=0, task=0), Teacher(), student, TRAIN, examined)
        return float(task(batch, logits, embeddings)["mld"])

    calibrator = Affine(method="platt", slopes=slopes, offsets=offsets)
    calibrated = value(answer, Examined(taught=taught, inside=taught, calibrator=calibrator))
    assert calibrated == pytest.approx(value(answer * torch.tensor(slopes) + torch.tensor(offsets), None))
    assert calibrated != value(answer, None)


def test_a_group_is_examined_by_its_distribution_among_the_labels_that_the_teacher_has():
    """Any number may be added to a group's logits, picture by picture; its labels get no calibrators of their own."""
    rng = np.random.default_rng(3)
    targets = np.zeros((60, 4), np.uint8)
    targets[np.arange(60), rng.integers(0, 3, 60)] = 1
    targets[:, 3] = rng.random(60) < 0.5
    val = replace(
        with_arrays(VAL, targets=targets, ignore=np.zeros((60, 4), bool)), groups=LabelGroups(one_of=(("a", "b", "c"),))
    )
    logits = 4.0 * targets - 2 + rng.normal(0, 0.1, (60, 4))
    logits[:, :3] += rng.normal(0, 50, (60, 1))
    assert examine(logits, val, ALL, ALL, Reading(), "teacher").val_mAP == pytest.approx(1)
    known = np.array([True, False, True, True])
    found = examine(np.where(known, logits, 0), val, known, known, Reading(), "teacher")
    assert found.val_mAP > 0.8
    asked = []

    def calibrate(scores, targets, ignore, method):
        asked.append(ignore)
        return FittedAnswers(Affine(method="none", slopes=(1.0,) * 4, offsets=(0.0,) * 4), 0, 0)

    examine(logits, val, ALL, ALL, Reading(calibration="auto", calibrate=calibrate), "teacher")
    assert asked[0].all(axis=0).tolist() == [True, True, True, False]
