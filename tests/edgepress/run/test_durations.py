"""Durations as people write them: each with its unit."""

from __future__ import annotations

import pytest

from edgepress.run.durations import milliseconds, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2h", 7200), ("90min", 5400), ("1h 30 m", 5400), ("1.5m", 90), ("1h2min3s", 3723)],
)
def test_seconds_of_hours_minutes_and_seconds(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "expected hours, minutes or seconds, such as 2h") for text in ("", "5", "2 hours", "h", "-1h", "5ms")),
        ("1h2h", "a unit is named twice"),
        ("1m2min", "a unit is named twice"),
        ("0h0s", "expected more than no time"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_is(text, said):
    with pytest.raises(ValueError, match=said):
        seconds(text)


def test_milliseconds_have_their_unit():
    assert [milliseconds(text) for text in ("8ms", " 8.5 ms ", "1e3ms")] == [8.0, 8.5, 1000.0]
    for text in ("", "ms", "8s", "8 8", "0ms", "-1ms", "nanms", "infms", "nan", "0"):
        with pytest.raises(ValueError, match=r"^expected milliseconds, such as 8ms$"):
            milliseconds(text)
    with pytest.raises(ValueError, match=r"^has no unit; expected milliseconds, such as 0\.5ms$"):
        milliseconds("0.5")
