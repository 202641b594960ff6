"""bench: how long a picture takes, in the model alone and from JPEG bytes to logits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from deploy.device import describe_machine
from deploy.engines import open_engine
from multilabel.bundle import Bundle
from multilabel.errors import InputError
from multilabel.pictures import decode_picture

WARMUP_SECONDS = 0.5
MIN_CALLS = 100
"""Fewer calls than this say nothing of p99."""


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
