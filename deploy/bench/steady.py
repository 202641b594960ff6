"""Decide when a timing has warmed up: when it no longer changes, however long that takes."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WINDOWS = 5
"""Number of successive windows whose medians are compared."""
TOLERANCE = 0.05
"""How far the slowest of those medians may be above the fastest, as a share of the fastest."""
WINDOW_CALLS = 5
WINDOW_SECONDS = 0.1

Window = Callable[[float, int], list[float]]
"""Makes calls for at least this many seconds and at least this many times; returns each call's seconds."""


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """How long it took until the timing was steady, or that it never was."""

    steady: bool
    seconds: float
    calls: int
    spread: float | None
    """Spread of the medians of the last windows, as a share of the fastest; None before there were enough windows."""


def is_steady(medians: Sequence[float]) -> bool:
    """Whether the last windows agree and do not keep getting faster or slower.

    Five medians in a row that only fall or only rise are a trend: by chance that happens once in sixty times.
    """
    last = list(medians[-WINDOWS:])
    if len(last) < WINDOWS or spread(last) > TOLERANCE:
        return False
    steps = [after - before for before, after in itertools.pairwise(last)]
    return not (all(step > 0 for step in steps) or all(step < 0 for step in steps))


def spread(medians: Sequence[float]) -> float:
    """How far the slowest is above the fastest, as a share of the fastest."""
    return max(medians) / min(medians) - 1


def warm_up(window: Window, most_seconds: float) -> Warmup:
    """Make calls, a window at a time, until their medians are steady or `most_seconds` have passed.

    A window lasts a twentieth of that time, at most 0.1 s. It has at least 5 calls, so slow calls may exceed the limit.
    """
    started = time.perf_counter()
    medians: list[float] = []
    calls = 0
    while True:
        samples = window(min(WINDOW_SECONDS, most_seconds / 20), WINDOW_CALLS)
        calls += len(samples)
        medians.append(statistics.median(samples))
        passed = time.perf_counter() - started
        steady = is_steady(medians)
        if steady or passed >= most_seconds:
            known = len(medians) >= WINDOWS
            return Warmup(
                steady=steady, seconds=passed, calls=calls, spread=spread(medians[-WINDOWS:]) if known else None
            )
