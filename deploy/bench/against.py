"""Compare one engine with another: two bundles in turn on this machine, or a measurement with an earlier record."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from edgepress.deploy.bench.benchmark import Benchmark
from edgepress.deploy.bench.latency import generated_pictures, prepared
from edgepress.deploy.engines import Engine, open_engine
from edgepress.deploy.engines.base import Hint
from edgepress.deploy.machine.state import disturbances, read_state
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.ratio import Ratio

WARMUP_SECONDS = 0.5
MIN_PAIRS = 20
BLOCK_CALLS = 4
BLOCK_SECONDS = 0.02
"""Length of a block of one engine's calls; it is short, so that what disturbs the machine disturbs both engines."""
MIN_BLOCKS = 6
"""A recorded measurement with fewer parts has no interval."""
DRAWS = 4000
PICTURES = 64
"""Pictures of a data set that are used in turn at most."""


class CellRatio(Ratio):
    """The ratio at one batch size and number of streams."""

    batch: int
    streams: int


class Against(BaseModel):
    """One measurement against another."""

    other: str
    digest: str | None
    interleaved: bool
    """Whether the two were measured in turn. If not, the interval does not cover what differed between the two
    measurements, in the machine or around it."""
    differences: list[str]
    """Why the two are hard to compare; see `record_differences`."""
    ratios: list[CellRatio]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A record of `edgepress bench`: an engine's timings, and how they compare with another's."""

    benchmark: Benchmark
    against: Against | None = None

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON; it has `against` only where something was compared."""
        compared = {} if self.against is None else {"against": self.against.model_dump()}
        return {**self.benchmark.as_dict(), **compared}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Timed:
        """Read what `as_dict` wrote, among other keys.

        Raises:
            ValidationError: it is something else; pydantic names the first mistake.
        """
        compared = record.get("against")
        return cls(
            benchmark=TypeAdapter(Benchmark).validate_python(record),
            against=None if compared is None else Against.model_validate(compared),
        )


def compare_latency(
    bundle: Bundle,
    other: Bundle,
    images: np.ndarray,
    *,
    device: str = "cpu",
    seconds: float = 2.0,
    batch: int = 1,
    hint: Hint = "latency",
    threads: int | None = None,
    unproven: bool = False,
) -> Ratio:
    """Time a bundle's engine against another's, in one process and in turn: A B B A A B ...

    Each turn is a block of calls. Its quickest call counts, because other load only ever adds to a call; its first call
    does not, because the threads of the other engine may still spin. What slows the machine for longer than two blocks
    slows both engines, so the ratio holds where two timings one after the other would not.

    Args:
        images: uint8 `[N, size, size, 3]`, used in turn.
        seconds: how long to measure, after warming up; at least `MIN_PAIRS` pairs are timed.
        batch: pictures per call.
        unproven: open both engines even where their golden check does not pass here.

    Returns:
        The first's time over the other's: the median over the pairs of blocks, and the 95 % interval of that median,
        which assumes no shape of the noise (order statistics). Its cautions say what disturbed the machine meanwhile.

    Raises:
        EngineUnavailableError: this machine cannot run one of them.
        InputError: the two take pictures of different sizes, or a setting that a runtime does not have.
    """
    if bundle.preprocess.size != other.preprocess.size:
        sizes = f"{bundle.preprocess.size} and {other.preprocess.size} pixels"
        raise InputError(f"{bundle.path} and {other.path} take pictures of {sizes}; expected the same size")
    settings: dict[str, Any] = {"hint": hint, "threads": threads, "unproven": unproven}
    with open_engine(bundle, device, **settings) as first, open_engine(other, device, **settings) as second:
        batches = [np.take(images, range(at, at + batch), axis=0, mode="wrap") for at in range(0, len(images), batch)]
        before = read_state()
        found = take_turns(first, second, batches, seconds)
        return found.model_copy(update={"cautions": tuple(disturbances(before, read_state()))})


def take_turns(first: Engine, second: Engine, batches: list[np.ndarray], seconds: float) -> Ratio:
    """The first engine's time over the second's; see `compare_latency`."""
    at = 0

    def block(engine: Engine) -> float:
        nonlocal at
        samples: list[float] = []
        started = time.perf_counter()
        while len(samples) < BLOCK_CALLS or time.perf_counter() - started < BLOCK_SECONDS:
            images = batches[at % len(batches)]
            before = time.perf_counter()
            engine(images)
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
    low, high = median_interval(len(ratios))
    ordered = np.sort(ratios)
    return Ratio(ratio=float(np.median(ratios)), low=float(ordered[low]), high=float(ordered[high]))


def median_interval(count: int) -> tuple[int, int]:
    """Ranks of the two order statistics that hold the median with 95 % confidence (binomial, by its normal limit)."""
    low = max(int(count / 2 - 0.98 * count**0.5 - 0.5), 0)
    return low, count - 1 - low


_Scalar = str | int | float | None
_Facts = dict[str, _Scalar | list[_Scalar] | dict[str, _Scalar | list[_Scalar]]]
"""Facts about a machine, flat; each is printed where it differs."""


class _Timing(BaseModel):
    blocks_ms: list[Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]] = Field(min_length=1)


class _Cell(BaseModel):
    batch: int = Field(ge=1, strict=True)
    streams: int = Field(ge=1, strict=True)
    model: _Timing


class Record(BaseModel):
    """The compared part of a record of `edgepress bench`; it is checked because the file may come from anyone."""

    engine: str | None = None
    when: str | None = None
    digest: str | None = None
    pictures: str | None = None
    cells: list[_Cell] = Field(min_length=1)
    machine: _Facts
    settings: _Facts = {}
    ran: _Facts = {}
    after: _Facts = {}


def open_other(path: Path) -> Bundle | Record:
    """Open what a measurement is compared with: a bundle, or an earlier record of `edgepress bench --save`.

    Raises:
        InputError: it is neither.
    """
    return Bundle.open(path) if path.is_dir() or (path / MANIFEST).is_file() else read_record(path)


def against_bundle(
    bundle: Bundle, other: Bundle, encoded: list[bytes] | None, batches: Sequence[int], **settings: Any
) -> Against:
    """Time the two bundles in turn at each batch size; `compare_latency` explains the settings."""
    pixels = np.stack([prepared(bundle, data) for data in encoded or generated_pictures()])
    found = {batch: compare_latency(bundle, other, pixels, batch=batch, **settings) for batch in batches}
    ratios = [CellRatio(batch=batch, streams=1, **dict(ratio)) for batch, ratio in found.items()]
    return Against(other=other.name, digest=other.digest, interleaved=True, differences=[], ratios=ratios)


def against_record(ours: Benchmark, theirs: Record) -> Against:
    """Compare a measurement with an earlier one.

    Raises:
        InputError: they have no batch size and number of streams in common.
    """
    now = Record.model_validate(ours.as_dict())
    return Against(
        other=f"{theirs.engine}, recorded {theirs.when}",
        digest=theirs.digest,
        interleaved=False,
        differences=record_differences(now, theirs),
        ratios=compare_records(now, theirs),
    )


def read_record(path: Path) -> Record:
    """Read what `edgepress bench --save FILE` wrote.

    Raises:
        InputError: the file is missing or holds something else.
    """
    wanted = "expected a record made by bench --save"
    try:
        return Record.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {wanted}, or a bundle") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"][:4])) or "the file"
        raise InputError(f"{path}: no record of bench ({where}: {first['msg']}); {wanted}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: no JSON; {wanted}, or a bundle") from None


def compare_records(ours: Record, theirs: Record) -> list[CellRatio]:
    """Compare the model alone, at every batch size and number of streams that both records have: the ratio of the
    medians of their parts, and its 95 % interval, which covers what varied within the two measurements.

    Raises:
        InputError: they have none in common.
    """
    earlier = {(cell.batch, cell.streams): np.array(cell.model.blocks_ms) for cell in theirs.cells}
    ratios = []
    for cell in ours.cells:
        recorded = earlier.get((cell.batch, cell.streams))
        if recorded is not None:
            measured = np.array(cell.model.blocks_ms)
            low, high = ratio_interval(measured, recorded)
            ratio = float(np.median(measured) / np.median(recorded))
            ratios.append(CellRatio(batch=cell.batch, streams=cell.streams, ratio=ratio, low=low, high=high))
    if not ratios:
        have = ", ".join(f"batch {batch} with {streams} streams" for batch, streams in earlier)
        raise InputError(f"the record has {have}: name one of them with --batch and --streams")
    return ratios


def ratio_interval(measured: np.ndarray, recorded: np.ndarray) -> tuple[float | None, float | None]:
    """95 % interval of the ratio of two independent medians: each series is resampled 4000 times with replacement."""
    if min(len(measured), len(recorded)) < MIN_BLOCKS:
        return None, None
    rng = np.random.default_rng(0)
    medians = [np.median(rng.choice(series, (DRAWS, len(series))), axis=1) for series in (measured, recorded)]
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    return float(low), float(high)


def record_differences(ours: Record, theirs: Record) -> list[str]:
    """Why two records are hard to compare: another machine, other settings, or another state of the machine."""
    compared = {
        "machine": sorted({*ours.machine, *theirs.machine}),
        "settings": ("device", "hint", "threads"),
        "ran": ("runtime", "version", "provider", "precision"),
        "after": ("power_mode", "clocks", "clock_ranges"),
    }
    found = []
    for section, names in compared.items():
        for name in names:
            now, then = (getattr(record, section).get(name) for record in (ours, theirs))
            if now != then:
                found.append(f"{section}, {name}: {now} here, {then} in the record")
    if ours.pictures != theirs.pictures:
        found.append(f"pictures: {ours.pictures} here, {theirs.pictures} in the record")
    return found
