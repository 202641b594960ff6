"""A teacher of other labels answers for the data set's: one column, the highest of several, a noisy-or, or none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgepress.compress.mapped import MappedTeacher
from edgepress.compress.models import make_model
from edgepress.compress.teacher import Ensemble, known_of, single_of
from edgepress.multilabel.label_map import LabelMap, LabelMatch, Taken, match_labels
from edgepress.multilabel.labels import LabelSpace
from tests.compress.lessons import STUDENT, updated

OURS = LabelSpace(("a", "b", "c", "d"))


def match(columns, combine=None, theirs=5) -> LabelMatch:
    return LabelMatch(tuple(columns), tuple(combine or ["max"] * len(columns)), theirs, "")


def mapped(found: LabelMatch, labels: LabelSpace = OURS) -> MappedTeacher:
    torch.manual_seed(0)
    theirs = LabelSpace(tuple(f"t{number}" for number in range(found.theirs)))
    return MappedTeacher(make_model(updated(STUDENT, backbone="test_efficientnet"), theirs)[0].eval(), found, labels)


def test_each_label_is_answered_by_its_own_columns():
    teacher = mapped(match([(3,), (0, 4), (1, 2), ()], ["max", "max", "noisy-or", "max"]))
    logits = torch.tensor([[0.5, -1.0, 2.0, 3.0, -4.0], [-30.0, -80.0, -90.0, 40.0, 20.0]])
    found = teacher.mapping(logits).double()
    p = logits.double().sigmoid()
    either = 1 - (1 - p[:, 1]) * (1 - p[:, 2])
    torch.testing.assert_close(found[:, 0], logits[:, 3].double())
    torch.testing.assert_close(found[:, 1], torch.tensor([0.5, 20.0]).double())
    torch.testing.assert_close(found[0, 2], either[0].logit(), atol=1e-6, rtol=0)
    assert found[1, 2] < -60  # 1e-35 is not lost to rounding, and finite
    assert found[:, 3].tolist() == [0, 0]
    assert torch.isfinite(found).all()
    assert (teacher.known.tolist(), teacher.single.tolist()) == ([True] * 3 + [False], [True, False, False, False])


@pytest.mark.parametrize("z", [-60.0, -20.0, -1.0, 0.0, 3.0, 60.0])
def test_a_noisy_or_of_one_is_that_one(z):
    teacher = mapped(match([(0,), (1,), (2,), (3,)], ["noisy-or"] * 4, theirs=4))
    torch.testing.assert_close(teacher.mapping(torch.full((1, 4), z)), torch.full((1, 4), z), atol=1e-4, rtol=1e-5)


def test_logits_and_embeddings_are_those_of_the_teacher_s_labels():
    found = match([(3,), (1, 2), (0,), ()])
    teacher = mapped(found)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, embeddings = teacher(images)
        own, inside = teacher.model(images)
        assert torch.equal(teacher.logits(images), logits)
    assert torch.equal(logits[:, [0, 2]], own[:, [3, 0]])
    assert torch.equal(embeddings[:, [0, 2]], inside[:, [3, 0]])
    assert not embeddings[:, [1, 3]].any()
    assert teacher.embedding_dim == embeddings.shape[2]


def test_the_answers_for_three_thousand_tags_are_thirty():
    theirs, ours = (
        LabelSpace(tuple(f"t{n}" for n in range(3000))),
        LabelSpace(tuple(f"t{n}" for n in range(0, 3000, 100))),
    )

    class Big(nn.Module):
        preprocess, embedding_dim, labels = None, 0, theirs

        def forward(self, images):
            return torch.arange(3000.0).expand(len(images), -1), torch.zeros(len(images), 3000, 0)

    logits, embeddings = MappedTeacher(Big(), match_labels(ours, theirs, None, "big"), ours)(torch.zeros(2, 8, 8, 3))
    assert (logits.shape, embeddings.shape) == ((2, 30), (2, 30, 0))
    assert logits[0].tolist() == [float(n) for n in range(0, 3000, 100)]


def test_teachers_that_have_other_labels_answer_together_for_those_they_have():
    first, second = mapped(match([(0,), (1,), (), ()])), mapped(match([(0,), (), (2,), ()]))
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    both = Ensemble([first, second], mirrored=False)
    with torch.no_grad():
        one, other, together = first.logits(images), second.logits(images), both.logits(images)
    torch.testing.assert_close(together[:, 0], (one[:, 0] + other[:, 0]) / 2)
    torch.testing.assert_close(together[:, 1], one[:, 1])
    torch.testing.assert_close(together[:, 2], other[:, 2])
    assert known_of(both).tolist() == [True, True, True, False]
    assert single_of(both).tolist() == [True, False, False, False]


def test_a_map_is_applied_as_it_is_written():
    given = LabelMap({"a": Taken(("t1", "t2"), "noisy-or"), "b": Taken(("t0",))}, "map.yaml")
    theirs = LabelSpace(("t0", "t1", "t2", "c", "d"))
    teacher = mapped(match_labels(OURS, theirs, given, "the teacher"))
    logits = torch.tensor([[0.3, 1.0, -1.0, 2.0, -2.0]])
    p = 1 / (1 + np.exp(-logits.numpy()[0]))
    either = 1 - (1 - p[1]) * (1 - p[2])
    expected = torch.tensor([[np.log(either / (1 - either)), 0.3, 2.0, -2.0]], dtype=torch.float32)
    torch.testing.assert_close(teacher.mapping(logits), expected, atol=1e-5, rtol=1e-5)
