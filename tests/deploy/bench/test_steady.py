"""Warming up ends when windows agree and show no trend, or is said never to have ended."""

from __future__ import annotations

import pytest

from edgepress.deploy.bench.steady import WINDOW_CALLS, is_steady, spread, warm_up


@pytest.mark.parametrize(
    ("medians", "steady"),
    [
        ([1.00, 1.01, 1.00, 1.02, 1.01], True),
        ([9.0, 5.0, 1.00, 1.01, 1.00, 1.02, 1.01], True),  # only the last five count
        ([1.00, 1.01, 1.00, 1.02], False),  # too few
        ([1.00, 1.10, 1.00, 1.02, 1.01], False),  # too far apart
        ([1.04, 1.03, 1.02, 1.01, 1.00], False),  # still getting faster
        ([1.00, 1.01, 1.02, 1.03, 1.04], False),  # still getting slower
        ([1.00, 1.00, 1.00, 1.00, 1.00], True),
    ],
)
def test_windows_must_agree_without_a_trend(medians, steady):
    assert is_steady(medians) is steady


def test_spread_is_the_slowest_over_the_fastest():
    assert spread([2.0, 3.0, 2.5]) == pytest.approx(0.5)


def windows(medians):
    """Windows of five calls each, of which these are the medians; then the last for ever."""
    given = iter(medians)
    last = medians[-1]
    return lambda seconds, calls: [next(given, last)] * calls


def test_it_stops_at_the_first_steady_window():
    warmed = warm_up(windows([3.0, 2.0, 1.5, 1.0, 1.01, 1.0, 1.01, 1.0]), most_seconds=1e9)
    assert warmed.steady
    assert warmed.calls == 8 * WINDOW_CALLS  # windows 4 to 8 are the first five that agree
    assert warmed.spread == pytest.approx(0.01)


def test_it_gives_up_and_says_so():
    warmed = warm_up(windows([float(10 - at) for at in range(9)]), most_seconds=1e-9)
    assert not warmed.steady
    assert (warmed.calls, warmed.spread) == (WINDOW_CALLS, None)  # not one window more than the time allowed


def test_what_never_settles_is_called_unsteady():
    jumps = iter([1.0, 2.0] * 10_000)
    warmed = warm_up(lambda seconds, calls: [next(jumps)] * calls, most_seconds=0.01)
    assert not warmed.steady
    assert warmed.spread == pytest.approx(1.0)
