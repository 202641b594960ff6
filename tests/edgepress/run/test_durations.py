"""Durations as people write them: each with its unit."""

from __future__ import annotations

import shlex

import pytest

from edgepress.multilabel.errors import InputError
from edgepress.run.durations import milliseconds, seconds
from edgepress.run.recipe import QuantizeConfig, Recipe
from edgepress.run.tune import TuneConfig


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2h", 7200), ("90min", 5400), ("1h 30 m", 5400), ("1.5m", 90), ("1h2min3s", 3723), ("0s", 0)],
)
def test_seconds_of_hours_minutes_and_seconds(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "expected hours, minutes or seconds, such as 2h") for text in ("", "5", "2 hours", "h", "-1h", "5ms")),
        ("1h2h", "a unit is named twice"),
        ("1m2min", "a unit is named twice"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_is(text, said):
    with pytest.raises(ValueError, match=said):
        seconds(text)


def test_milliseconds_have_their_unit():
    assert [milliseconds(text) for text in ("8ms", " 8.5 ms ", "1e3ms")] == [8.0, 8.5, 1000.0]
    for text in ("", "ms", "8s", "8 8", "nanms", "infms", "nan"):
        with pytest.raises(ValueError, match=r"^expected milliseconds, such as 8ms$"):
            milliseconds(text)
    for text in ("0", "0ms", "-1ms"):
        with pytest.raises(ValueError, match=r"^expected more than no time, such as 8ms$"):
            milliseconds(text)
    with pytest.raises(ValueError, match=r"^has no unit; expected milliseconds, such as 0\.5ms$"):
        milliseconds("0.5")


@pytest.mark.parametrize(
    ("given", "expected"), [("10m", 600), ("90s", 90), ("5", 5), ("0", 0), ("0s", 0), (0, 0), (2.5, 2.5)]
)
def test_a_time_limit_is_a_duration_or_a_number_of_seconds(given, expected):
    assert QuantizeConfig.parse({"time_limit": given}, "recipe").time_limit == expected


@pytest.mark.parametrize("given", ["10 minutes", "-1", "nan", "inf", "5ms"])
def test_a_time_limit_that_is_none_is_refused_before_a_search(edgepress, given):
    answer = edgepress("quantize", "nowhere", "--data", "nowhere", "--target", "onnxruntime", "--time-limit", given)
    assert answer.code == 2
    assert f"edgepress: --time-limit {shlex.quote(given)}" in answer.err


@pytest.mark.parametrize("given", ["0s", "0h0min", 0, 0.0, -1])
def test_a_search_needs_some_time(given):
    with pytest.raises(InputError, match=r"time_budget.*: expected more than no time, such as 2h"):
        TuneConfig.parse({"time_budget": given}, "settings")


@pytest.mark.parametrize("given", ["0ms", "0 ms", 0, 0.0, -1])
def test_an_engine_needs_some_time(given):
    with pytest.raises(InputError, match=r"latency_budget.*: expected more than no time, such as 8ms"):
        Recipe.parse({"data": "data", "latency_budget": given}, "recipe")


def test_a_recipe_s_time_limit_is_a_flag_of_run(edgepress):
    answer = edgepress("run", "--data", "nowhere", "--quantize-time-limit", "1h30min")
    assert answer.code == 2
    assert "nowhere: no such folder" in answer.err
