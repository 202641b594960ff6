"""The binomial distribution against sums of its own terms, and exact bounds against their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgepress.multilabel.binomial import binomial_cdf, fewest_trials, most_errors, share_interval


def by_terms(count: int, trials: int, share: float) -> float:
    return sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(count + 1))


def test_it_is_the_sum_of_its_terms():
    rng = np.random.default_rng(0)
    trials = rng.integers(1, 300, 200)
    count, share = (rng.random(200) * (trials + 1)).astype(int), rng.random(200)
    expected = [by_terms(*row) for row in zip(count.tolist(), trials.tolist(), share.tolist(), strict=True)]
    assert binomial_cdf(count, trials, share) == pytest.approx(expected, abs=1e-12)


def test_ends():
    assert binomial_cdf([-1, 5, 7, 3, 3], [5, 5, 5, 5, 5], [0.5, 0.5, 0.5, 0, 1]).tolist() == [0, 1, 1, 1, 0]
    assert binomial_cdf(0, 0, 0.5) == 1
    assert binomial_cdf(25_000, 50_000, 0.5) == pytest.approx(0.5018, abs=1e-4)  # many trials: the median


def test_an_interval_holds_the_shares_that_do_not_make_the_count_a_surprise():
    low, high = share_interval([0, 3, 10, 0], [10, 10, 10, 0])
    assert low[[0, 3]].tolist() == [0, 0]
    assert high[[2, 3]].tolist() == [1, 1]
    assert by_terms(3, 10, high[1]) == pytest.approx(0.025)
    assert 1 - by_terms(2, 10, low[1]) == pytest.approx(0.025)
    assert high[0] == pytest.approx(1 - 0.025 ** (1 / 10))
    assert share_interval(3, 10, 0.99)[0] < low[1]


def test_the_fewest_trials_and_the_most_errors_are_at_the_edge_of_what_chance_does():
    for rate, risk in ((0.1, 0.05), (0.01, 0.05), (0.2, 0.1), (0.5, 0.5), (0.05, 0.05 / 30)):
        needed = fewest_trials(rate, risk)
        assert (1 - rate) ** needed <= risk < (1 - rate) ** (needed - 1)
        assert (most_errors(needed, rate, risk), most_errors(needed - 1, rate, risk)) == (0, -1)
        most = most_errors(400, rate, risk)
        assert by_terms(most, 400, rate) <= risk < by_terms(most + 1, 400, rate)
