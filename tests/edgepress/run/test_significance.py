"""Which differences between methods are beyond chance."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.run.significance import _with_seeds, against

R = 1000


def methods(*, shared, noise=0.0, seeds=(0, 1, 2), **levels):
    """Methods whose students differ in level; a resample's difficulty is shared, and noise is each student's own."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, shared, R)
    drawn, measured = {}, {}
    for name, level in levels.items():
        own = {seed: level + rng.normal(0, noise) for seed in seeds}
        measured[name] = own
        drawn[name] = {seed: value + difficulty + rng.normal(0, 0.1, R) for seed, value in own.items()}
    return drawn, measured


def test_what_pictures_share_cancels():
    found = against("best", *methods(shared=5.0, best=45.0, near=44.95, far=44.0), 1000)
    assert found.critical_points < 0.5
    assert [(one.method, one.verdict) for one in found.differences] == [("near", "open"), ("far", "worse")]
    assert found.differences[1].points == pytest.approx(-1.0)
    assert found.differences[1].interval[0] < -1 < found.differences[1].interval[1]
    assert found.told[0].startswith(f"Differences from best of at least {found.critical_points:.2f} points are beyond")
    assert found.told[1].startswith("Worse than it: far (-1.00, ")
    assert found.told[2].startswith("Not told apart from it: near (-0.05, ")
    better = against("far", *methods(shared=5.0, best=45.0, near=44.95, far=44.0), 1000)
    assert {one.verdict for one in better.differences} == {"better"}


def test_seeds_that_disagree_make_a_difference_unsure():
    drawn, measured = methods(shared=1.0, noise=1.0, a=45.0, b=44.3)
    assert against("a", drawn, measured, 1000).differences[0].verdict == "open"
    one = {name: {0: seeds[0]} for name, seeds in drawn.items()}
    alone = against("a", one, measured, 1000)
    assert alone.critical_points < 0.5
    assert alone.differences[0].seeds == 1
    assert "There is one seed, and another may change more" in alone.told[-1]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_spread_over_seeds_is_that_of_their_mean(seeds):
    values = np.random.default_rng(seeds).normal(0, 2, seeds)
    spread = _with_seeds(np.repeat(values[:, None], 200_000, axis=1))
    assert spread.mean() == pytest.approx(values.mean(), abs=0.02)
    assert spread.std() == pytest.approx(values.std(ddof=1) / np.sqrt(seeds), rel=0.02)


def test_methods_with_other_seeds_are_compared_over_the_common_ones():
    drawn, measured = methods(shared=1.0, best=45.0, other=44.0)
    del drawn["other"][1], drawn["other"][2]
    (row,) = against("best", drawn, measured, 1000).differences
    assert (row.seeds, row.points) == (1, pytest.approx(-1.0))
    del drawn["other"][0]
    assert against("best", drawn, measured, 1000) is None


def test_few_pictures_and_a_missing_reference_tell_nothing():
    drawn, measured = methods(shared=1.0, best=45.0, other=44.0)
    assert against("best", drawn, measured, 9) is None
    assert against("unknown", drawn, measured, 1000) is None


def test_by_chance_it_rarely_finds_one_of_many_methods():
    """Ten methods of the same worth, 100 times: about one comparison in twenty finds any that differs."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(100):
        true = rng.normal(0, 1, (10, 1))  # what these pictures make of each method
        drawn = true + rng.normal(0, 1, (10, R))
        names = [f"m{at}" for at in range(10)]
        resampled = {name: {0: row} for name, row in zip(names, drawn, strict=True)}
        measured = {name: {0: float(row[0])} for name, row in zip(names, true, strict=True)}
        rows = against("m0", resampled, measured, 1000).differences
        found += any(one.verdict != "open" for one in rows)
    assert 1 <= found <= 14
