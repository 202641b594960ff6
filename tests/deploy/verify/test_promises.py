"""What became of a promise on other pictures: by label, with exact intervals, and which labels broke it."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.deploy.verify.promises import promise_kept
from edgepress.multilabel.binomial import share_interval
from edgepress.multilabel.decisions import Promise

NAMES = ("cat", "dog", "bird", "none")


def promised(kind: str, level: float) -> Promise:
    few = (30,) * len(NAMES)
    return Promise(kind=kind, level=level, confidence=0.95, scope="each", method="made", counted=few, errors=(0,) * 4)


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """100 positives and 100 negatives of each label but the last; 95, 85 and 40 of the positives are found, and 2, 10
    and 50 of the negatives are taken for it. A cell that is ignored is one that the cat would miss."""
    targets = np.repeat([[1], [0]], 100, axis=0) * np.array([1, 1, 1, 0])
    answers = np.zeros(targets.shape, bool)
    for column, (found, wrong) in enumerate(((95, 2), (85, 10), (40, 50))):
        answers[:found, column] = answers[100 : 100 + wrong, column] = True
    ignore = np.zeros(targets.shape, bool)
    ignore[99, 0] = True
    return answers, targets, ignore


@pytest.mark.parametrize(
    ("kind", "level", "values", "reached", "broken"),
    [
        ("recall", 0.9, (95 / 99, 0.85, 0.4, None), 1, ("bird",)),
        ("precision", 0.9, (95 / 97, 85 / 95, 40 / 90, None), 1, ("bird",)),
        ("fpr", 0.05, (0.02, 0.1, 0.5, 0.0), 2, ("bird",)),
    ],
)
def test_each_label_has_what_it_reached_and_only_what_is_no_chance_is_broken(kind, level, values, reached, broken):
    answers, targets, ignore = pictures()
    found = promise_kept(promised(kind, level), answers, targets, ignore, NAMES)
    assert tuple(one.value for one in found.labels) == pytest.approx(values)
    assert (found.reached, found.broken) == (reached, broken)
    assert found.told == (4 if kind == "fpr" else 3)
    second = found.labels[1]
    expected = share_interval(round(second.value * second.count), second.count)
    assert (second.low, second.high) == pytest.approx([float(end) for end in expected])
    assert "1 of" in found.caution()
    assert "bird" in found.caution()


def test_a_promise_that_holds_has_no_caution():
    answers, targets, ignore = pictures()
    found = promise_kept(promised("recall", 0.3), answers, targets, ignore, NAMES)
    assert (found.reached, found.broken, found.caution()) == (3, (), None)
