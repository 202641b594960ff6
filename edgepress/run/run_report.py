"""The report of a run, report.json: what was run, on what data, and the results of every model. Pydantic writes and
reads it; everything that people see (the tables, report.html, the cards) is made from it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from edgepress.compress.methods import TERMS
from edgepress.deploy.machine.device import Machine
from edgepress.multilabel.bundle import write_atomically
from edgepress.multilabel.datasets.passed_over import PassedOver
from edgepress.multilabel.datasets.values import CellCount
from edgepress.multilabel.errors import InputError, first_mistake
from edgepress.run.recipe import Recipe
from edgepress.run.result import EngineResult, ShownFlips, Typed

log = logging.getLogger("edgepress")
REPORT = "report.json"
_MAX_BYTES = 256 * 1024 * 1024
FAR_BELOW = 2.0
"""Points of test mAP from which a student below its teacher is cautioned about."""


class Curves(Typed):
    """A training, with a value per epoch; empty if it was not trained in a run."""

    model: str
    terms: dict[str, tuple[float, ...]]
    """The weighted loss by term; an epoch's loss is their sum."""
    val_mAP: tuple[float, ...]
    best_epoch: int | None


class ModelFacts(Typed):
    """A teacher or the student."""

    backbone: str
    size: int | None = None
    """Side of its input pictures, in pixels; None for stored answers."""
    head: str | None = None
    val_mAP: float | None = None
    best_epoch: int | None = None
    weights: str | None = None
    """The weights that its training started from."""
    digest: str | None = None
    ensemble: tuple[ModelFacts, ...] = ()
    """For several teachers, the facts of each."""


class SplitFacts(Typed):
    """How one split was read."""

    split: str
    values: tuple[CellCount, ...] = ()
    """For a table: each distinct value of its label cells, its number of cells, and what it was taken for."""
    notes: tuple[str, ...] = ()
    """Sentences about what was left out or was read differently from how it is written."""


class DataFacts(Typed):
    """The data that was learnt from and measured on."""

    root: str
    labels: int
    labels_counted: int
    """Number of labels with a positive in test."""
    prevalence: float
    train_pictures: int
    val_pictures: int
    test_pictures: int
    splits: tuple[SplitFacts, ...] = ()
    """train, val and test."""
    passed_over: tuple[PassedOver, ...] = ()
    """The pictures in the folder that are in none of the three, by reason."""


class MadeWith(Typed):
    """What is needed for the same command to give the same models."""

    fingerprints: dict[str, str]
    """Fingerprints by split."""
    runtimes: tuple[str, ...]
    tools: dict[str, str]


class EngineTime(Typed):
    """How long an engine of an untrained student takes, or why it does not run."""

    p50_ms: float | None = Field(default=None, allow_inf_nan=False)
    reason: str | None = None

    @model_validator(mode="after")
    def _says_one(self) -> EngineTime:
        if (self.p50_ms is None) == (self.reason is None):
            raise ValueError("expected p50_ms, or the reason why there is none")
        return self


class StudentTimes(Typed):
    """The times of an untrained student."""

    student: str
    key: str
    engines: dict[str, EngineTime] = Field(min_length=1)


class LatencyBudget(Typed):
    """The most that an engine may take, and what was chosen for it."""

    budget_ms: float
    host: str | None = None
    """The host where it was measured; None is this machine."""
    students: tuple[StudentTimes, ...] = ()
    ship: str | None = None
    """The chosen engine, by its name in the table; None if none passes within the limit."""


class RunReport(Typed):
    """report.json."""

    edgepress: str
    verdict: Literal["pass", "fail", "incomplete"] = "incomplete"
    recipe: Recipe
    data: DataFacts
    teacher: ModelFacts
    student: ModelFacts
    training: tuple[Curves, ...]
    made_with: MadeWith
    machine: Machine
    engines: tuple[EngineResult, ...]
    latency_budget: LatencyBudget | None = None
    flips: ShownFlips | None = None

    @property
    def taught_by(self) -> tuple[ModelFacts, ...]:
        """The teachers of the student; empty if no loss term uses a teacher (preset alone)."""
        if not any(getattr(self.recipe.distill, name) for name in TERMS):
            return ()
        return self.teacher.ensemble or (self.teacher,)

    @property
    def caution(self) -> str | None:
        """What a pass hides: engines are held to the student, and the student may be far below its best teacher."""
        student = next((one.mAP for one in self.engines if one.role == "student"), None)
        teachers = [one.mAP for one in self.engines if one.role == "teacher" and one.mAP is not None]
        if student is None or not teachers or 100 * (max(teachers) - student) < FAR_BELOW:
            return None
        return (
            f"the student has {100 * (max(teachers) - student):.2f} points of mAP less than its teacher on test "
            f"({100 * student:.2f} against {100 * max(teachers):.2f}); engines are held to the student"
        )

    @property
    def to_ship(self) -> EngineResult | None:
        """The engine that the latency budget chose, otherwise the fastest that passes, on the host if the recipe names
        one; None if there is none."""
        if self.latency_budget is not None:
            return next((one for one in self.engines if one.engine == self.latency_budget.ship), None)
        seen = [one for one in self.engines if self.recipe.host is None or one.on_host is not None]
        passing = [one for one in seen if one.to_ship is not None and one.to_ship.verdict == "pass"]
        timed = [(one.p50_to_ship, one) for one in passing if one.p50_to_ship is not None]
        return min(timed, key=lambda one: one[0], default=(None, None))[1]

    @property
    def telling(self) -> EngineResult | None:
        """The engine whose decisions the report shows: the one to ship, where it decides anything unlike the student.

        Otherwise, or if an engine failed, it is the engine that changed most, because somebody must look at it.
        """
        verified = {one.engine: one.flips.flipped for one in self.engines if one.flips is not None}
        changed = [one for one in self.engines if verified.get(one.engine)]
        failed = [one for one in changed if one.verdict == "fail"]
        best = self.to_ship
        if not failed and best is not None and best in changed:
            return best
        among = failed or changed or [one for one in self.engines if one.engine in verified]
        return max(among, key=lambda one: verified[one.engine], default=None)


def write_report(folder: Path, report: RunReport) -> None:
    """Write report.json, completely or not at all."""
    write_atomically(folder / REPORT, (report.model_dump_json(indent=2) + "\n").encode())


def read_report(folder: Path) -> RunReport:
    """The report.json of a run.

    Raises:
        InputError: there is none, or another version of edgepress wrote it; says what to do.
    """
    file = folder / REPORT
    if not file.is_file():
        if folder.is_file() and folder.name == REPORT:
            raise InputError(f"{folder}: is a file; give the folder of the run: {folder.parent}")
        inside = sorted(str(path.parent) for path in folder.glob(f"*/{REPORT}"))
        expected = f"one of the runs in it: {', '.join(inside[:12])}" if inside else "the folder of a run"
        raise InputError(f"{folder}: no {REPORT} in it; expected {expected} (edgepress run --out DIR)")
    if file.stat().st_size > _MAX_BYTES:
        raise InputError(f"{file}: larger than any report; expected one that edgepress run wrote")
    try:
        return RunReport.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(
            f"{file}: not a report that this version reads ({first_mistake(error)}); the same edgepress run makes it "
            "again: it keeps the models and measures them"
        ) from None


def earlier_results(folder: Path) -> dict[str, EngineResult]:
    """The results of an earlier report that a run may keep, by their keys: those that were measured completely.
    Judgements and the results of another machine are not kept.
    """
    if not (folder / REPORT).is_file():
        return {}
    try:
        found = read_report(folder).engines
    except InputError as error:
        log.warning("%s", error)
        return {}
    fresh = {"judgement": None, "on_host": None}
    return {one.key: one.model_copy(update=fresh) for one in found if one.key is not None and one.bench is not None}
