"""Benchmark: what `bench` measured of one engine on one machine; docs/benchmarking.md says what each number means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgepress.deploy.bench.memory import Memory
from edgepress.deploy.bench.timing import Timing
from edgepress.deploy.engines.base import CopyTimes, Hint, Ran
from edgepress.deploy.machine.device import Machine
from edgepress.deploy.machine.state import DeviceState


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What was asked for."""

    device: str
    hint: Hint
    threads: int | None
    """None where the runtime chose."""
    seconds: float
    """The length of a measurement."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The measurements at one batch size and number of streams."""

    batch: int
    streams: int
    """Threads that call the same engine at once."""
    model: Timing
    """Prepared pixels to logits."""
    end_to_end: Timing
    """Encoded picture bytes to logits; the steps decode, preprocess and model run one after the other."""
    decode_ms: float
    """Median time that decoding and preprocessing take of `end_to_end`, in milliseconds per call."""
    ahead: Timing | None
    """Like `end_to_end`, but threads decode the next batches meanwhile; only for one stream with batches above 1."""
    copies: CopyTimes | None
    """Medians; None where the engine does not report them."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One engine's timings on one machine."""

    edgepress: str
    when: str
    engine: str
    digest: str
    settings: BenchSettings
    load_ms: float
    """Time from the bundle on disk to an engine that is ready."""
    first_ms: float
    """The first call, in which runtimes allocate and compile."""
    memory: Memory
    pictures: str
    """The pictures that were used: the data set's or generated ones."""
    cells: list[Cell]
    copies_reason: str
    """Why there are no times of copies; empty where there are."""
    energy_source: str | None
    energy_reason: str
    """Why there is no energy figure; empty where there is one."""
    ran: Ran
    machine: Machine
    before: DeviceState
    """The device's state before the measurement."""
    after: DeviceState
    cautions: list[str]
    """Warnings for the reader: clocks that were not locked, throttling, a timing that never became steady."""

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return {**asdict(self), "ran": self.ran.model_dump()}
