"""Which students keep a latency budget: the table's times, brought to another machine by timing a few there.

The table was measured on one processor. A few references that span its times are made with random weights and timed on
the machine that is meant. Their times over the table's give a factor for every other student, and the spread of these
ratios says how far it may be off. Then the first of those that fit are timed themselves.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgepress.deploy.engines.table import EngineSpec
from edgepress.deploy.machine.state import disturbances, read_state
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.pictures import Picture
from edgepress.multilabel.resampling import resample
from edgepress.remote.host import Host, require_edgepress
from edgepress.run.build import require_buildable
from edgepress.run.latency_budget import PICTURES, time_student
from edgepress.run.recipe import Recipe
from edgepress.run.splits import Splits
from edgepress.run.student_table import StudentFacts, StudentTable

log = logging.getLogger("edgepress")
REFERENCES = (0.15, 0.5, 0.85)
"""Which students are references: those at these ranks of the table's times, as shares of all."""
SECONDS = 1.0
"""How long each one is timed."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How times here are related to the table's."""

    factor: float
    """Median of the measured times over the table's: one student that is far from the others does not move it."""
    low: float
    high: float
    measured: dict[str, float]
    """Milliseconds by name."""

    @classmethod
    def of(cls, measured: dict[str, float], table: dict[str, float]) -> Scale:
        """The scale of some measured times, both by name in milliseconds.

        Example:
            >>> scale = Scale.of({"a": 2.0, "b": 3.0, "c": 9.0}, {"a": 1.0, "b": 1.0, "c": 1.0})
            >>> scale.factor, scale.low, scale.high
            (3.0, 2.0, 9.0)
        """
        ratios = [measured[name] / table[name] for name in measured]
        return cls(factor=statistics.median(ratios), low=min(ratios), high=max(ratios), measured=dict(measured))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A student, and its time on the machine that is meant."""

    student: StudentFacts
    ms: float
    low_ms: float | None = None
    """Lower end of where the references put it; None for a measured time."""
    high_ms: float | None = None
    """Upper end of where the references put it; None for a measured time."""

    @property
    def measured(self) -> bool:
        return self.high_ms is None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Students for a budget."""

    budget_ms: float
    scale: Scale
    fits: tuple[Fit, ...]
    """Those within the budget: the most multiply-adds first."""
    over: tuple[Fit, ...]
    """Those that were measured and are over it."""
    nearest: Fit | None
    """The fastest student, where none is within the budget."""
    cautions: tuple[str, ...] = ()
    """What disturbed this machine meanwhile; nothing is known of a host."""


class Timer:
    """Times students on a machine, each made with random weights.

    Args:
        size, labels: of the students.
        host: the machine; by default this one.

    Raises:
        InputError: the host cannot be used.
        EngineUnavailableError: what builds the engine is not installed here.
    """

    def __init__(self, engine: EngineSpec, size: int, labels: int, host: Host | None, folder: Path) -> None:
        require_buildable(engine.name)
        if host is not None:
            require_edgepress(host)
        self.engine, self.host, self.folder, self.size, self.labels = engine, host, folder, size, labels
        self.splits = _generated(folder / "data", size, labels)
        self.recipe = Recipe.parse(
            {
                "data": str(folder / "data"),
                "engines": [engine.name],
                "distill": {"size": size},
                "bench": {"seconds": SECONDS},
            },
            "students",
        )

    def ms(self, name: str) -> float:
        """A student's p50 in milliseconds.

        Raises:
            EngineUnavailableError: the machine cannot run it; says why.
        """
        made = self.folder / "made"
        shutil.rmtree(made, ignore_errors=True)
        with _told_less():
            found = time_student(name, self.recipe, self.splits, made, self.host, most_float=False)
        (timed,) = found.values()
        if timed.p50_ms is None:
            raise EngineUnavailableError(f"{name} as {self.engine.name}: {timed.reason}")
        log.info("  %s: %.3g ms", name, timed.p50_ms)
        return timed.p50_ms


@contextlib.contextmanager
def _told_less() -> Iterator[None]:
    """Silence what an export and a quantisation say of accuracy, which means nothing of random weights."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def find_students(table: StudentTable, engine: EngineSpec, budget_ms: float, timer: Timer, *, count: int) -> Found:
    """The students of the table that keep a budget.

    Args:
        count: how many of them are timed themselves.

    Raises:
        InputError: the table has no time of this engine.
        EngineUnavailableError: a reference cannot be timed.
    """
    times = {one.name: time for one in table.students if (time := one.time_ms(engine)) is not None}
    before = read_state()
    names = sorted(times, key=lambda name: times[name])
    if not names:
        raise InputError(f"the table has no times of {engine.name}")
    chosen = dict.fromkeys(names[round(share * (len(names) - 1))] for share in REFERENCES)
    log.info("timing %s, to bring the table's times to this machine", ", ".join(chosen))
    timed = {name: timer.ms(name) for name in chosen}
    scale = Scale.of(timed, times)
    within = [one for one in table.students if one.name in times and times[one.name] * scale.factor <= budget_ms]
    within.sort(key=lambda one: -(one.macs or 0))
    for one in (within or [table.named(names[0])])[:count]:  # type: ignore[list-item]
        if one.name not in timed:
            timed[one.name] = timer.ms(one.name)
    scale = Scale.of(timed, times)
    fits = [_fit(one, times[one.name], timed, scale) for one in table.students if one.name in times]
    found = sorted((fit for fit in fits if fit.ms <= budget_ms), key=lambda fit: -(fit.student.macs or 0))
    return Found(
        budget_ms=budget_ms,
        scale=scale,
        fits=tuple(found),
        over=tuple(fit for fit in fits if fit.measured and fit.ms > budget_ms),
        nearest=None if found else min(fits, key=lambda fit: fit.ms),
        cautions=tuple(disturbances(before, read_state())) if timer.host is None else (),
    )


def _fit(student: StudentFacts, table_ms: float, timed: dict[str, float], scale: Scale) -> Fit:
    if student.name in timed:
        return Fit(student=student, ms=timed[student.name])
    return Fit(student=student, ms=table_ms * scale.factor, low_ms=table_ms * scale.low, high_ms=table_ms * scale.high)


def _generated(folder: Path, size: int, labels: int) -> Splits:
    """Three splits of generated pictures with random labels; a time depends on neither."""
    rng = np.random.default_rng(0)
    space = LabelSpace(tuple(f"label {number + 1}" for number in range(labels)))

    def split(name: str) -> MultiLabelDataset:
        paths: list[Picture] = list(_pictures(folder / name, rng, size))
        targets = rng.integers(0, 2, (PICTURES, labels), np.uint8)
        targets[0], targets[1] = 0, 1  # every label has a positive and a negative
        return MultiLabelDataset(
            root=folder, split=name, labels=space, paths=paths, targets=targets, ignore=np.zeros(targets.shape, bool)
        )

    return Splits(train=split("train"), val=split("val"), test=split("test"))


def _pictures(folder: Path, rng: np.random.Generator, size: int) -> Iterator[Path]:
    folder.mkdir(parents=True)
    for number in range(PICTURES):
        picture = resample(rng.integers(0, 256, (8, 8, 3), np.uint8), size, size)  # smooth, as photographs are
        path = folder / f"{number}.png"
        if not cv2.imwrite(str(path), picture):
            raise OSError(f"{path}: cannot be written")
        yield path
