"""Every number that the gate on decisions resamples, against the metrics themselves on the resampled pictures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from edgepress.deploy.verify.label_tallies import LabelTallies
from edgepress.multilabel.confidence import resample_counts
from edgepress.multilabel.metrics import f1_scores

PICTURES, LABELS, RESAMPLES = 60, 4, 7


def drawn(seed: int = 0) -> tuple[np.ndarray, ...]:
    """Decisions of two engines, targets and ignored cells; the last label is positive in one picture alone."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((PICTURES, LABELS)) < 0.4).astype(np.uint8)
    targets[:, -1] = np.arange(PICTURES) == 3
    before, after = (rng.random(targets.shape) < 0.3 + 0.4 * targets for _ in range(2))
    return before, after, targets, rng.random(targets.shape) < 0.1


def test_the_sample_and_every_resample_have_the_metrics_of_their_pictures():
    before, after, targets, ignore = drawn()
    counts = resample_counts(PICTURES, RESAMPLES)
    found = LabelTallies.of(before, after, targets, ignore, counts)
    every = [np.arange(PICTURES), *(np.repeat(np.arange(PICTURES), counts[:, column]) for column in range(RESAMPLES))]
    for place, rows in enumerate(every):
        known = ~ignore[rows]
        yes, now = before[rows] & known, after[rows] & known
        old, new = (f1_scores(targets[rows], answers, ignore[rows]) for answers in (yes, now))
        expected = (
            (yes != now).sum() / yes.sum(),
            (now.sum() - yes.sum()) / yes.sum(),
            100 * (old.OF1 - new.OF1),
            100 * (old.CF1 - new.CF1),
        )
        values = [value if place == 0 else some[place - 1] for value, some in found.overall()]
        assert values == pytest.approx(expected)


def test_a_labels_drops_are_those_of_scikit_learn_without_ignored_cells():
    before, after, targets, ignore = drawn()
    found = LabelTallies.of(before, after, targets, ignore, resample_counts(PICTURES, 200))
    for measure, score in (("recall", recall_score), ("precision", precision_score)):
        drops = found.drops(measure, 5)
        assert drops.columns.tolist() == [0, 1, 2]  # the last has one positive
        for column, drop in zip(drops.columns, drops.drop, strict=True):
            known = ~ignore[:, column]
            expected = [score(targets[known, column], answers[known, column]) for answers in (before, after)]
            assert drop == pytest.approx(100 * (expected[0] - expected[1]))


def test_the_standard_errors_are_those_of_the_resamples():
    rng = np.random.default_rng(1)
    targets = (rng.random((2000, 3)) < 0.3).astype(np.uint8)
    before, after = (rng.random(targets.shape) < 0.2 + 0.5 * targets for _ in range(2))
    counts = resample_counts(2000, 1000)
    found = LabelTallies.of(before, after, targets, np.zeros(targets.shape, bool), counts)
    for measure, drawn_drops in (("recall", found._recall), ("precision", found._precision)):
        assert found.drops(measure, 5).error == pytest.approx(drawn_drops.std(axis=1), rel=0.1)
        assert 1.96 < found.drops(measure, 5).critical < 3


def test_nothing_changed_is_no_drop_and_still_not_certain():
    before, _, targets, ignore = drawn()
    found = LabelTallies.of(before, before, targets, ignore, resample_counts(PICTURES, RESAMPLES))
    assert all(value == 0 and not some.any() for value, some in found.overall())
    drops = found.drops("recall", 5)
    assert not drops.drop.any()
    assert (drops.error > 0).all()


def test_a_reference_that_never_answers_yes_has_no_share_of_it():
    before, after, targets, ignore = drawn()
    found = LabelTallies.of(np.zeros_like(before), after, targets, ignore, None)
    (flips, some), *_ = found.overall()
    assert (flips, some) == ((after & ~ignore).sum(), None)
    assert found.drops("recall", 5) is None
    assert f1_score(targets.ravel(), np.zeros(targets.size), zero_division=0) == 0
