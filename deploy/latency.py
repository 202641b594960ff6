"""bench: how long a picture takes, in the model alone and from JPEG bytes to logits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from deploy.device import describe_machine
from deploy.engines import Engine, open_engine
from multilabel.bundle import Bundle
from multilabel.errors import InputError
from multilabel.pictures import decode_picture

WARMUP_SECONDS = 0.5
MIN_CALLS = 100
"""Fewer calls than this say nothing of p99."""
MIN_PAIRS = 20
BLOCK_CALLS = 4
BLOCK_SECONDS = 0.02
"""A block of calls of one engine, before the other's turn; short, so that what disturbs the machine disturbs both."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Latency of a call in milliseconds, and throughput."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    images_per_second: float
    calls: int


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One engine's timings on one machine."""

    engine: str
    batch: int
    load_ms: float
    """From the bundle on disk to an engine that is ready."""
    first_ms: float
    """The first call, in which runtimes allocate and compile."""
    model: Timing
    """Prepared pixels to logits."""
    end_to_end: Timing
    """Encoded picture bytes to logits: decode, preprocess, model."""
    pictures: str
    """What was timed: the data set's pictures or generated ones."""
    ran: dict[str, str]
    machine: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class LatencyRatio:
    """How long an engine takes of what another takes, measured in turn: below 1 it is the faster."""

    ratio: float
    """Median over the pairs of blocks."""
    low: float
    high: float
    """95 % interval of that median; assumes no shape of the noise (order statistics)."""
    pairs: int


def compare_latency(
    bundle: Bundle, other: Bundle, images: np.ndarray, *, device: str = "cpu", seconds: float = 2.0
) -> LatencyRatio:
    """Time a bundle's engine against another's at batch 1, in one process and in turn: A B B A A B ...

    Each turn is a block of calls, of which the quickest counts, and not the first, in which the threads of the other
    engine may still spin: what else runs here only ever adds to a call. What slows the machine for longer than two
    blocks slows both, so the ratio stands where two timings one after the other would not.

    Args:
        images: uint8 `[N, size, size, 3]`, used in turn.
        seconds: how long to measure, after warming up; at least `MIN_PAIRS` pairs are timed.

    Raises:
        EngineUnavailableError: this machine cannot run one of them.
    """
    with open_engine(bundle, device) as first, open_engine(other, device) as second:
        at = 0

        def block(engine: Engine) -> float:
            nonlocal at
            samples: list[float] = []
            started = time.perf_counter()
            while len(samples) < BLOCK_CALLS or time.perf_counter() - started < BLOCK_SECONDS:
                image = images[at % len(images)][None]
                before = time.perf_counter()
                engine(image)
                samples.append(time.perf_counter() - before)
                at += 1
            return min(samples[1:])

        warm = time.perf_counter()
        while time.perf_counter() - warm < WARMUP_SECONDS:
            block(first)
            block(second)
        ratios: list[float] = []
        started = time.perf_counter()
        while len(ratios) < MIN_PAIRS or time.perf_counter() - started < seconds:
            pair = [first, second] if len(ratios) % 2 == 0 else [second, first]
            taken = {id(engine): block(engine) for engine in pair}
            ratios.append(taken[id(first)] / taken[id(second)])
    low, high = _median_interval(len(ratios))
    ordered = np.sort(ratios)
    return LatencyRatio(
        ratio=float(np.median(ratios)), low=float(ordered[low]), high=float(ordered[high]), pairs=len(ratios)
    )


def _median_interval(count: int) -> tuple[int, int]:
    """Places of the two order statistics between which the median lies with 95 %: binomial, by its normal limit."""
    low = max(int(count / 2 - 0.98 * count**0.5 - 0.5), 0)
    return low, count - 1 - low


def bench(
    bundle: Bundle,
    encoded: list[bytes] | None = None,
    *,
    device: str = "cpu",
    batch: int = 1,
    seconds: float = 3.0,
) -> Benchmark:
    """Time a bundle's engine on this machine.

    Args:
        encoded: picture files' bytes, used in turn; generated JPEGs of 640x480 where none are given.
        batch: pictures a call.
        seconds: how long each of the two measurements lasts, after warming up; at least `MIN_CALLS` calls are timed.

    Raises:
        EngineUnavailableError: this machine cannot run the engine.
        InputError: a batch or duration that is no positive number, or bytes that are no picture.
    """
    if batch < 1 or seconds <= 0:
        raise InputError(f"bench: received batch {batch}, seconds {seconds}; expected at least 1, and more than 0")
    pictures = f"{len(encoded)} pictures of the data set" if encoded else "generated JPEGs, 640x480"
    encoded = encoded or _generated()
    started = time.perf_counter()
    with open_engine(bundle, device) as engine:
        loaded = time.perf_counter()
        pixels = np.stack([engine.preprocess(decode_picture(data, "picture")) for data in encoded])
        batches = [np.take(pixels, range(at, at + batch), axis=0, mode="wrap") for at in range(0, len(pixels), batch)]
        first = time.perf_counter()
        engine(batches[0])
        answered = time.perf_counter()

        def decoded(at: int) -> np.ndarray:
            chosen = (encoded[(at * batch + place) % len(encoded)] for place in range(batch))
            return np.stack([engine.preprocess(decode_picture(data, "picture")) for data in chosen])

        return Benchmark(
            engine=bundle.name,
            batch=batch,
            load_ms=1e3 * (loaded - started),
            first_ms=1e3 * (answered - first),
            model=_time(lambda at: engine(batches[at % len(batches)]), batch, seconds),
            end_to_end=_time(lambda at: engine(decoded(at)), batch, seconds),
            pictures=pictures,
            ran=engine.ran,
            machine=describe_machine(),
        )


def _time(call: Callable[[int], object], batch: int, seconds: float) -> Timing:
    at, started = 0, time.perf_counter()
    while time.perf_counter() - started < WARMUP_SECONDS:
        call(at)
        at += 1
    samples: list[float] = []
    started = now = time.perf_counter()
    while now - started < seconds or len(samples) < MIN_CALLS:
        call(at)
        at += 1
        after = time.perf_counter()
        samples.append(after - now)
        now = after
    p50, p90, p99 = (1e3 * float(value) for value in np.percentile(samples, (50, 90, 99)))
    return Timing(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=1e3 * float(np.mean(samples)),
        images_per_second=batch * len(samples) / (now - started),
        calls=len(samples),
    )


def _generated() -> list[bytes]:
    """JPEGs of about a photograph's size in bytes: smooth noise."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(8):
        coarse = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
        pictures.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return pictures
