"""bench: how long a picture takes on this machine, in the model alone and from JPEG bytes to logits.

docs/benchmarking.md says what each number means.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from edgepress.deploy.bench.benchmark import Benchmark, BenchSettings, Cell
from edgepress.deploy.bench.memory import PeakMemory
from edgepress.deploy.bench.percentiles import calls_needed
from edgepress.deploy.bench.timing import Timing, time_calls
from edgepress.deploy.engines import Engine, open_engine
from edgepress.deploy.engines.base import CopyTimes, Hint, no_number, require_threads
from edgepress.deploy.engines.golden import first_answer, require_golden
from edgepress.deploy.engines.passport import require_sound
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.machine.energy import Meter, find_meter
from edgepress.deploy.machine.state import read_state, state_cautions
from edgepress.deploy.tag.ahead import decode_ahead
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import decode_picture
from edgepress.multilabel.plural import plural
from edgepress.multilabel.resampling import resample

CHECKED = 8
"""Pictures whose answers must be numbers before anything is timed."""


@runtime_checkable
class TellsCopies(Protocol):
    """An engine that times its copies to and from a device separately from its computation."""

    def timed(self, images: np.ndarray) -> CopyTimes:
        """One call's times, by the device's own clock."""


def bench(
    bundle: Bundle | str | Path,
    encoded: list[bytes] | None = None,
    *,
    device: str = "cpu",
    batches: Sequence[int] = (1,),
    streams: Sequence[int] = (1,),
    hint: Hint = "latency",
    threads: int | None = None,
    seconds: float = 3.0,
    unproven: bool = False,
) -> Benchmark:
    """Time a bundle's engine on this machine, at every batch size with every number of streams.

    Args:
        bundle: the bundle, or its folder.
        encoded: picture files' bytes, used in turn; generated JPEGs of 640x480 where none are given.
        batches: pictures a call.
        streams: threads that call the engine at once.
        seconds: how long each measurement lasts after warming up, and at most that long to warm up.
        unproven: time it though it answers otherwise here than where it was made, or nobody has seen it.

    Raises:
        EngineUnavailableError: this machine cannot run the engine.
        InputError: a batch, number of streams or duration that is no positive number, bytes that are no picture, or a
            setting that the runtime does not have.
        NoNumberError: the engine answers what is not finite; how long that takes is of no use.

    Example:
        >>> from edgepress import Bundle, bench
        >>> timed = bench(Bundle.open("runs/mine/onnx-fp32"), seconds=0.1)
        >>> timed.cells[0].model.p50_ms > 0
        True
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    _require_sound(encoded, batches, streams, seconds)
    _require_room(bundle, max(batches))
    pictures = f"{plural(len(encoded), 'picture')} of the data set" if encoded else "generated JPEGs, 640x480"
    encoded = encoded or generated_pictures()
    pixels = np.stack([prepared(bundle, data) for data in encoded])
    before, memory, started = read_state(), PeakMemory(), time.perf_counter()
    if not unproven:
        require_sound(bundle, device)
    # Its golden check would be the first call, and its time would count as time to load.
    with open_engine(bundle, device, hint=hint, threads=threads, unproven=True) as engine:
        loaded = time.perf_counter()
        first_answer(engine, _wrapped(pixels, 0, batches[0]))
        answered = time.perf_counter()
        _require_numbers(engine, pixels[:CHECKED])
        if not unproven:
            require_golden(engine)
        on_gpu = device.startswith("cuda") or bundle.manifest.kind == "tensorrt"
        meter, reason = find_meter(int(device.partition(":")[2] or 0) if on_gpu else None)
        cells = [
            _cell(engine, encoded, pixels, batch, count, seconds, meter)
            for batch, count in itertools.product(batches, streams)
        ]
        after, held = read_state(), memory.read()  # before the proof, which may open the model a second time
        return Benchmark(
            edgepress=version("edgepress"),
            when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            engine=bundle.name,
            digest=bundle.digest,
            settings=BenchSettings(device=device, hint=hint, threads=threads, seconds=seconds),
            load_ms=1e3 * (loaded - started),
            first_ms=1e3 * (answered - loaded),
            memory=held,
            pictures=pictures,
            cells=cells,
            copies_reason="" if isinstance(engine, TellsCopies) else _no_copies(device, on_gpu),
            energy_source=meter.source if meter else None,
            energy_reason=reason,
            ran=engine.ran,
            machine=describe_machine(),
            before=before,
            after=after,
            cautions=[*state_cautions(before, after), *(line for cell in cells for line in _unsteady(cell))],
        )


def _require_sound(encoded: list[bytes] | None, batches: Sequence[int], streams: Sequence[int], seconds: float) -> None:
    if encoded is not None and not (
        isinstance(encoded, list | tuple) and all(isinstance(one, bytes) for one in encoded)
    ):
        raise InputError(
            "bench: encoded is no list of bytes; expected the bytes of picture files, Path(...).read_bytes()"
        )
    counts = [isinstance(many, Sequence) and len(many) > 0 and all(map(_counts, many)) for many in (batches, streams)]
    if not all(counts) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        received = f"batches {batches}, streams {streams}, seconds {seconds!r}"
        raise InputError(f"bench: received {received}; expected at least one each of at least 1, and more than 0")
    require_threads(int(max(streams)), "streams")


def _require_room(bundle: Bundle, batch: int) -> None:
    """
    Raises:
        InputError: a batch's pixels alone are larger than this machine's memory.
    """
    size = bundle.preprocess.size
    needed = 3 * size * size * int(batch)
    if hasattr(os, "sysconf") and needed > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise InputError(
            f"bench: a batch of {batch} pictures of {size} px is {needed / 1e9:.0f} GB, and this machine has "
            f"{memory / 1e9:.0f} GB of memory; expected a smaller batch"
        )


def _counts(given: object) -> bool:
    return isinstance(given, int | np.integer) and given >= 1


def _require_numbers(engine: Engine, pixels: np.ndarray) -> None:
    for number, image in enumerate(pixels, 1):
        logits = engine(image[None])[0]
        if not np.isfinite(logits).all():
            raise no_number(engine.bundle, logits, f"picture {number} of those that are timed")


def _cell(
    engine: Engine,
    encoded: list[bytes],
    pixels: np.ndarray,
    batch: int,
    streams: int,
    seconds: float,
    meter: Meter | None,
) -> Cell:
    ready = [_wrapped(pixels, at, batch) for at in range(0, len(pixels), batch)]
    decoding: list[float] = []

    def from_bytes(at: int) -> None:
        started = time.perf_counter()
        chosen = (encoded[(at * batch + place) % len(encoded)] for place in range(batch))
        images = np.stack([prepared(engine.bundle, data) for data in chosen])
        decoding.append(time.perf_counter() - started)
        engine(images)

    def time_it(call: Callable[[int], object]) -> Timing:
        return time_calls(call, batch=batch, streams=streams, seconds=seconds, meter=meter)

    model = time_it(lambda at: engine(ready[at % len(ready)]))
    end_to_end = time_it(from_bytes)
    ahead = None
    if batch > 1 and streams == 1:
        pictures = itertools.cycle(encoded)
        with contextlib.closing(decode_ahead(lambda data: prepared(engine.bundle, data), pictures, batch)) as coming:
            ahead = time_it(lambda at: engine(next(coming)))
    return Cell(
        batch=batch,
        streams=streams,
        model=model,
        end_to_end=end_to_end,
        decode_ms=1e3 * statistics.median(decoding[-end_to_end.calls :]),
        ahead=ahead,
        copies=_copies(engine, ready[0]) if isinstance(engine, TellsCopies) else None,
    )


def _copies(engine: TellsCopies, images: np.ndarray) -> CopyTimes:
    calls = [engine.timed(images) for _ in range(calls_needed(0.5))]
    return CopyTimes(
        copy_in_ms=statistics.median(call.copy_in_ms for call in calls),
        compute_ms=statistics.median(call.compute_ms for call in calls),
        copy_out_ms=statistics.median(call.copy_out_ms for call in calls),
    )


def _no_copies(device: str, on_gpu: bool) -> str:
    if device == "cpu" and not on_gpu:
        return "on a CPU nothing is copied to a device"
    return "this runtime copies within its own call and does not time it apart"


def _unsteady(cell: Cell) -> list[str]:
    lines = []
    for name, timing in (("model", cell.model), ("end to end", cell.end_to_end), ("decoded ahead", cell.ahead)):
        if timing is not None and not timing.warmup.steady:
            spread = timing.warmup.spread
            shown = "too few windows to tell" if spread is None else f"windows {spread:.0%} apart"
            lines.append(
                f"not steady: {name}, batch {cell.batch}, streams {cell.streams}, after {timing.warmup.seconds:.1f} s "
                f"({shown})"
            )
    return lines


def prepared(bundle: Bundle, data: bytes) -> np.ndarray:
    """An encoded picture as the bundle's model takes it: uint8 `[size, size, 3]`."""
    return bundle.preprocess(decode_picture(data, "picture"))


def _wrapped(pixels: np.ndarray, at: int, batch: int) -> np.ndarray:
    return np.take(pixels, range(at, at + batch), axis=0, mode="wrap")


def generated_pictures() -> list[bytes]:
    """JPEGs of about a photograph's size in bytes: smooth noise."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(8):
        coarse = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        picture = resample(coarse, 480, 640)
        pictures.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return pictures
