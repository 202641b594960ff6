"""GroupedLabels: log-odds against softmaxes, answers without contradictions, violations and accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.grouped import UNGROUPED, grouped
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.metrics import sigmoid

NAMES = ("front", "side", "back", "rain", "snow", "bird", "animal", "sky")
GROUPS = grouped(
    LabelGroups(
        one_of=(("front", "side", "back"),), at_most_one_of=(("rain", "snow"),), implies={"bird": ("animal", "sky")}
    ),
    NAMES,
)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_log_odds_are_those_of_the_softmax_with_none_where_none_may_be_true():
    z = np.random.default_rng(0).normal(0, 3, (50, 8))
    p = sigmoid(GROUPS.log_odds(z))
    assert p[:, :3] == pytest.approx(softmax(z[:, :3]))
    assert p[:, 3:5] == pytest.approx(softmax(np.append(z[:, 3:5], np.zeros((50, 1)), axis=1))[:, :2])
    assert (GROUPS.log_odds(z)[:, 5:] == z[:, 5:]).all()
    assert UNGROUPED.log_odds(z) is z


def test_log_odds_stay_finite_and_ignore_a_shift_of_the_whole_group():
    z = np.zeros((3, 8))
    z[:, :3] = [[1000, -1000, 0], [5, 5, 5], [0, 1, 2]]
    found = GROUPS.log_odds(z)
    assert found[0, :3] == pytest.approx([1000, -2000, -1000])
    assert found[1, :3] == pytest.approx(np.log(0.5))
    shifted = z.copy()
    shifted[:, :3] += 7
    assert GROUPS.log_odds(shifted) == pytest.approx(found)


def test_a_logit_that_is_not_finite_spoils_its_group_alone():
    z = np.zeros((1, 8))
    z[0, 1] = np.nan
    assert np.isnan(GROUPS.log_odds(z)).tolist() == [[True, True, True, *[False] * 5]]


def contradictions(answers: np.ndarray) -> int:
    one = answers[:, :3].sum(axis=1) != 1
    most = answers[:, 3:5].sum(axis=1) > 1
    implied = answers[:, 5] & ~(answers[:, 6] & answers[:, 7])
    return int((one | most | implied).sum())


def test_no_answer_contradicts_whatever_the_logits_and_thresholds():
    rng = np.random.default_rng(1)
    for _ in range(20):
        p = GROUPS.raised(rng.random((200, 8)))
        assert contradictions(GROUPS.settled(p, p >= rng.random(8))) == 0


def test_the_answers_of_all_pictures_at_once_are_those_of_one_at_a_time():
    names = ("indoor", "outdoor", "bird", "sofa", "hat", "cap", "animal")
    groups = grouped(
        LabelGroups(
            one_of=(("indoor", "outdoor"),),
            at_most_one_of=(("hat", "cap"),),
            implies={"bird": ("outdoor", "animal"), "sofa": ("indoor",), "cap": ("outdoor",)},
        ),
        names,
    )
    rng = np.random.default_rng(2)
    p = groups.raised(rng.random((2000, 7)))
    yes = p >= rng.random(7) * 0.8
    found = groups.settled(p, yes)
    for row in range(len(p)):
        alone = groups._settlement.settle(p[row].tolist(), yes[row].tolist())
        assert set(np.flatnonzero(found[row]).tolist()) == alone
    several = (yes[:, 4] & yes[:, 5]).sum(), (yes[:, 2] & yes[:, 3]).sum()
    assert min(several) > 50, "the pictures must hold contradictions to settle"


def test_one_of_ignores_thresholds_and_at_most_one_of_does_not():
    p = np.array([[0.2, 0.5, 0.3, 0.4, 0.3, 0.0, 0.0, 0.0]])
    found = GROUPS.settled(p, p >= 0.9)
    assert found[0].tolist() == [False, True, False, False, False, False, False, False]
    assert GROUPS.settled(p, p >= 0.25)[0, 3:5].tolist() == [True, False]


def test_a_probability_is_at_least_that_of_what_implies_it():
    p = np.array([[0.2, 0.5, 0.3, 0.4, 0.3, 0.9, 0.1, 0.95]])
    assert GROUPS.raised(p)[0, 5:].tolist() == [0.9, 0.9, 0.95]


def test_violations_are_those_of_known_cells():
    targets = np.zeros((5, 8), np.uint8)
    targets[:, 0] = 1
    targets[1, 1] = 1  # two of one_of
    targets[2, 0] = 0  # none of one_of
    targets[3, 5] = 1  # a bird that is no animal
    targets[4, [3, 4]] = 1
    ignore = np.zeros((5, 8), bool)
    ignore[3, 7] = True  # nobody knows whether there is sky
    assert {one.rule: one.rows for one in GROUPS.violations(targets, ignore)} == {
        "several true: one of front, side, back": (1,),
        "none true: one of front, side, back": (2,),
        "several true: at most one of rain, snow": (4,),
        "bird without animal: bird implies animal": (3,),
    }
    ignore[2, 1] = True  # it may be this one
    assert not any(one.rule.startswith("none true") for one in GROUPS.violations(targets, ignore))


def test_accuracy_counts_the_pictures_of_which_the_answer_is_known():
    targets = np.zeros((4, 8), np.uint8)
    targets[:3, 0] = 1
    ignore = np.zeros((4, 8), bool)
    ignore[3, :3] = True
    ignore[2, 3] = True
    answers = np.zeros((4, 8), bool)
    answers[[0, 1], 0] = True
    answers[2, 1] = True
    answers[0, 3] = True
    first, second = GROUPS.accuracy(answers, targets, ignore)
    assert (first.pictures, first.accuracy) == (3, pytest.approx(2 / 3))
    assert (second.pictures, second.accuracy) == (3, pytest.approx(2 / 3))
