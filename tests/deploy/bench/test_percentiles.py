"""Percentiles are given only where enough calls were timed: MLPerf's early-stopping rule."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.deploy.bench.percentiles import calls_needed, chance_of_so_few, claimed, percentile


@pytest.mark.parametrize(
    ("share", "over", "calls"),
    [
        # Published: github.com/mlcommons/endpoints/pull/417, from LoadGen.
        (0.99, 0, 459),
        (0.90, 1, 64),
        (0.99, 1, 662),
    ],
)
def test_calls_needed_are_those_that_mlperf_publishes(share, over, calls):
    assert calls_needed(share, over) == calls


def test_the_chance_is_that_of_the_binomial_distribution():
    assert chance_of_so_few(0, 459, 0.99) == pytest.approx(0.99**459)
    assert chance_of_so_few(1, 10, 0.7) == pytest.approx(0.7**10 + 10 * 0.3 * 0.7**9)
    assert chance_of_so_few(10, 10, 0.7) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("over", [0, 1, 7])
def test_one_call_fewer_is_too_few(share, over):
    needed = calls_needed(share, over)
    assert chance_of_so_few(over, needed, share) <= 0.01 < chance_of_so_few(over, needed - 1, share)


def test_a_percentile_is_none_until_there_are_enough_calls():
    assert percentile(np.arange(661.0), 0.99) is None
    assert percentile(np.arange(662.0), 0.99) == pytest.approx(0.99 * 661)
    assert percentile(np.arange(11.0), 0.5) == 5
    assert percentile(np.arange(10.0), 0.5) is None


def test_the_claim_discards_as_many_slow_calls_as_the_rule_allows():
    rng = np.random.default_rng(0)
    assert claimed(rng.permutation(661), 0.99) is None
    assert claimed(rng.permutation(662), 0.99) == 661  # t = 1: none is discarded
    assert claimed(rng.permutation(837), 0.99) == 836
    assert claimed(rng.permutation(838), 0.99) == 836  # t = 2: the slowest is
    assert claimed(rng.permutation(64), 0.90) == 63


def test_the_claim_holds_as_often_as_it_says():
    """At 99 % confidence the true percentile lies below in 99 of 100 measurements; the seed is fixed."""
    rng = np.random.default_rng(1)
    true = -np.log(0.01)  # p99 of the exponential distribution
    held = [claimed(rng.exponential(size=2000), 0.99) >= true for _ in range(500)]
    assert np.mean(held) >= 0.98
    assert not all(percentile(rng.exponential(size=2000), 0.99) >= true for _ in range(50))  # the sample's own does not
