"""Time a call once it is steady, with the percentiles that the number of calls allows."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from edgepress.deploy.bench.percentiles import calls_needed, claimed, percentile
from edgepress.deploy.bench.steady import Warmup, warm_up
from edgepress.deploy.machine.energy import Meter

MIN_CALLS = 130
"""Fewest calls of a measurement, enough for p95 (`calls_needed`), unless they take longer than `LONGEST`."""
LONGEST = 10.0
"""Slow calls are cut off before `MIN_CALLS` after this many seconds, or this many times the requested length if
longer."""
BLOCKS = 40
"""A measurement is kept as the medians of this many parts, so that another can be compared with it later."""
BLOCK_CALLS = 5
TAILS = {"p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A call's latency in milliseconds, and throughput; a percentile is None where too few calls let it be claimed."""

    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float
    mean_ms: float
    images_per_second: float
    calls: int
    claimed_ms: dict[str, float | None]
    """By tail percentile, its upper bound with 99 % confidence (MLPerf's early stopping)."""
    calls_needed: dict[str, int]
    """For each percentile that is None, how many calls it needs."""
    blocks_ms: list[float]
    """Medians of successive parts of the measurement."""
    warmup: Warmup
    millijoules_per_image: float | None


def time_calls(
    call: Callable[[int], object], *, batch: int = 1, streams: int = 1, seconds: float, meter: Meter | None = None
) -> Timing:
    """Time a call once it is steady.

    Args:
        call: takes the number of the call; as many threads as there are streams call it at once.
        batch: pictures per call.
        seconds: how long to measure; see `MIN_CALLS`.

    Raises:
        Exception: whatever a call raises.
    """
    numbers = itertools.count()

    def window(length: float, least: int) -> list[float]:
        return run_window(call, numbers, streams, length, least)

    warmed = warm_up(window, seconds)
    if meter is not None:
        meter.start()
    started = time.perf_counter()
    try:
        samples = np.array(window(seconds, MIN_CALLS))
        passed = time.perf_counter() - started
    finally:
        joules = meter.stop() if meter is not None else None
    images = batch * len(samples)
    found = {name: percentile(samples, share) for name, share in (("p50", 0.50), *TAILS.items())}
    parts = np.array_split(samples, max(1, min(BLOCKS, len(samples) // BLOCK_CALLS)))
    return Timing(
        **{f"{name}_ms": _ms(value) for name, value in found.items()},
        max_ms=1e3 * float(samples.max()),
        mean_ms=1e3 * float(samples.mean()),
        images_per_second=images / passed,
        calls=len(samples),
        claimed_ms={name: _ms(claimed(samples, share)) for name, share in TAILS.items()},
        calls_needed={name: calls_needed(share) for name, share in TAILS.items() if found[name] is None},
        blocks_ms=[1e3 * float(np.median(part)) for part in parts],
        warmup=warmed,
        millijoules_per_image=None if joules is None else 1e3 * joules / images,
    )


def run_window(
    call: Callable[[int], object], numbers: Iterator[int], streams: int, seconds: float, least: int
) -> list[float]:
    """Call for this long, and at least this often in total, from as many threads as there are streams.

    Returns:
        Each call's seconds, in the order in which they ended.
    """
    samples: list[float] = []
    stopped = threading.Event()
    started = time.perf_counter()
    longest = LONGEST * max(seconds, 1.0)

    def work() -> None:
        before = time.perf_counter()
        while before - started < seconds or (len(samples) < least and before - started < longest) or not samples:
            if stopped.is_set():
                return
            call(next(numbers))
            after = time.perf_counter()
            samples.append(after - before)
            before = after

    if streams == 1:
        work()
        return samples
    with ThreadPoolExecutor(streams, thread_name_prefix="stream") as pool:
        futures = [pool.submit(work) for _ in range(streams)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()  # an interruption or an error in one stream ends the others
    for future in futures:
        future.result()
    return samples


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
