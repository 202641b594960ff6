"""The interval of a drop in mAP: the resampled mAP is the metric's own, and the interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from benchmarks.coverage import simulate
from edgepress.multilabel.confidence import (
    LEAST_PICTURES,
    Scored,
    doubt,
    drop_interval,
    resample_counts,
    resampled_mean_average_precision,
)
from edgepress.multilabel.metrics import mean_average_precision


def some(pictures: int = 40, labels: int = 6, seed: int = 0) -> Scored:
    """Scores with many ties, ignored cells, a label without a positive and one with a single one."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((pictures, labels)) < 0.3).astype(np.uint8)
    targets[:, 4], targets[:, 5] = 0, 0
    targets[3, 5] = 1
    scores = np.round(targets + rng.normal(size=targets.shape), 1)
    ignore = rng.random(targets.shape) < 0.1
    ignore[3, 5] = False
    return Scored(targets, scores, ignore)


def test_every_resample_has_as_many_pictures_as_there_are():
    counts = resample_counts(30, 50, seed=1)
    assert counts.shape == (30, 50)
    assert (counts.sum(axis=0) == 30).all()
    assert counts.std() == pytest.approx(np.sqrt(1 - 1 / 30), abs=0.05)  # of a binomial of 30 draws at 1/30
    assert np.array_equal(counts, resample_counts(30, 50, seed=1))
    assert not np.array_equal(counts, resample_counts(30, 50, seed=2))


def test_map_of_a_resample_is_that_of_the_pictures_it_repeats():
    given = some()
    counts = resample_counts(len(given.targets), 25)
    found = resampled_mean_average_precision(*given, counts)
    lost = 0
    for column in range(25):
        rows = np.repeat(np.arange(len(given.targets)), counts[:, column])
        assert found[column] == pytest.approx(mean_average_precision(*(part[rows] for part in given)), abs=1e-12)
        lost += not given.targets[rows, 5].any()
    assert lost > 0  # some resamples lose the single positive, and with it the label


def test_one_resample_against_scikit_learn():
    given = some(seed=3)
    counts = resample_counts(len(given.targets), 1, seed=5)
    by_label = [
        average_precision_score(
            given.targets[keep, label], given.scores[keep, label], sample_weight=counts[keep, 0].astype(float)
        )
        for label in range(4)
        for keep in [~given.ignore[:, label]]
    ]
    four = Scored(*(part[:, :4] for part in given))
    assert resampled_mean_average_precision(*four, counts)[0] == pytest.approx(np.mean(by_label), abs=1e-12)


def test_a_resample_without_any_positive_is_not_a_number():
    targets = np.array([[1], [0], [0]], np.uint8)
    counts = np.array([[1, 0], [1, 2], [1, 1]], np.int16)
    found = resampled_mean_average_precision(targets, np.ones((3, 1)), np.zeros((3, 1), bool), counts)
    assert found[0] == pytest.approx(1 / 3)
    assert np.isnan(found[1])


def test_many_pictures_are_worked_on_in_parts_with_the_same_result(monkeypatch):
    given = some()
    counts = resample_counts(len(given.targets), 30)
    whole = resampled_mean_average_precision(*given, counts)
    monkeypatch.setattr("edgepress.multilabel.confidence._CELLS", 7 * len(given.targets))
    assert np.array_equal(resampled_mean_average_precision(*given, counts), whole)


def test_the_interval_is_that_of_a_plain_paired_bootstrap():
    """The same pictures are drawn for both: unpaired resamples would give a far wider interval."""
    before = some(seed=0)
    after = before._replace(scores=before.scores + np.random.default_rng(1).normal(0, 0.3, before.scores.shape))
    low, high = drop_interval(before, after)
    rng = np.random.default_rng(9)
    drops = []
    for _ in range(1000):
        rows = rng.integers(0, len(before.targets), len(before.targets))
        maps = [mean_average_precision(*(part[rows] for part in one)) for one in (before, after)]
        drops.append(100 * (maps[0] - maps[1]))
    least, most = np.quantile(drops, [0.025, 0.975])
    width = most - least
    assert (low, high) == (pytest.approx(least, abs=0.15 * width), pytest.approx(most, abs=0.15 * width))


def test_an_engine_that_is_its_reference_has_no_width():
    assert drop_interval(some(), some()) == (0, 0)


def test_it_is_the_same_every_time_and_wider_with_fewer_pictures():
    before, after, _ = simulate(400, 0.3, 0.3, labels=4, population=2000, seed=0)
    few = [Scored(*(part[:50] for part in one)) for one in (before, after)]
    low, high = drop_interval(before, after)
    assert drop_interval(before, after) == (low, high)
    assert drop_interval(before, after, seed=1) != (low, high)
    few_low, few_high = drop_interval(*few)
    assert few_high - few_low > 1.5 * (high - low)


def test_no_positive_at_all_is_said():
    given = some()
    empty = given._replace(targets=np.zeros_like(given.targets))
    for pair in ((given, empty), (empty, given)):
        with pytest.raises(ValueError, match="no label has a positive"):
            drop_interval(*pair)


def test_the_interval_covers():
    """Over 200 simulated engines with a known drop, 95 % intervals hold the truth 90 to 99 % of the time."""
    held, below, drops = [], [], []
    for seed in range(200):
        before, after, truth = simulate(80, 0.25, 0.4, labels=4, population=1500, seed=seed)
        low, high = drop_interval(before, after, resamples=300)
        held.append(low <= truth <= high)
        below.append(truth <= high)
        drops.append(truth)
    assert np.mean(drops) > 1  # there is something to hold
    assert 0.90 <= np.mean(held) <= 0.99
    assert np.mean(below) >= 0.93  # the upper end is what a pass rests on


def test_few_pictures_have_no_interval():
    """Of one picture it would be [0, 0], which every budget holds."""
    one = some(LEAST_PICTURES)
    worse = one._replace(scores=-one.scores)
    assert drop_interval(one, worse) is not None
    assert drop_interval(*(Scored(*(part[1:] for part in each)) for each in (one, worse))) is None
    assert "9 test pictures prove nothing: give at least 10" in doubt(None, 100, 9)


@pytest.mark.parametrize(("interval", "doubted"), [((-1, 0.5), False), ((0, 0), False), ((-1, 0.51), True)])
def test_what_is_proven_is_the_interval_within_the_budget(interval, doubted):
    assert (doubt(interval, 0.5, 40) is not None) == doubted


def test_each_label_is_sorted_once_and_the_value_is_that_of_sorting_each_resample(monkeypatch):
    given = some(30)
    counts = resample_counts(30, 20)
    monkeypatch.setattr("edgepress.multilabel.confidence._CELLS", 4 * 30)  # five parts
    sorted_, argsort = [], np.argsort
    monkeypatch.setattr(np, "argsort", lambda *args, **more: sorted_.append(1) or argsort(*args, **more))
    found = resampled_mean_average_precision(*given, counts)
    assert len(sorted_) == given.targets.shape[1]
    monkeypatch.undo()
    for column in range(20):
        rows = np.repeat(np.arange(30), counts[:, column])
        precisions = []
        for label in range(given.targets.shape[1]):
            keep = rows[~given.ignore[rows, label]]
            positive, scores = given.targets[keep, label] == 1, given.scores[keep, label]
            if positive.any():
                ranks = np.array([(scores >= score).sum() for score in scores])
                hits = np.array([(positive & (scores >= score)).sum() for score in scores])
                precisions.append((hits / ranks)[positive].mean())
        assert found[column] == pytest.approx(np.mean(precisions), abs=1e-12)
