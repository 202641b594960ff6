"""The report of a run, report.json: what was run, on what data, and the results of every model. Pydantic writes and
reads it; everything that people see (the tables, report.html, the cards) is made from it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from edgepress.compress.config import TERMS
from edgepress.deploy.bench.latency import Benchmark
from edgepress.deploy.bench.timing import Timing
from edgepress.deploy.verify.verification import Verification
from edgepress.multilabel.bundle import write_atomically
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.judgement import Judgement, Reason
from edgepress.multilabel.manifest import Calibration, Precision
from edgepress.multilabel.ratio import Ratio
from edgepress.run.recipe import Recipe

log = logging.getLogger("edgepress")
REPORT = "report.json"
_MAX_BYTES = 256 * 1024 * 1024
FAR_BELOW = 2.0
"""Points of test mAP from which a student below its teacher is cautioned about."""
Interval = tuple[float, float]
"""A 95 % interval."""
Bin = tuple[float, float, int]
"""For cells with about the same probability: its mean, the share of positives, and the number of cells."""


class Typed(BaseModel):
    """Base of the parts of report.json; a float that is not finite stays as it is."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, ser_json_inf_nan="constants")


class LabelScore(Typed):
    """One label of one model on test."""

    label: str
    positives: int
    """Number of pictures that show it."""
    AP: float | None
    """AP in [0, 1]; None where no picture shows the label."""
    interval: Interval | None = None


class DecisionScores(Typed):
    """What calibrated probabilities and fitted thresholds are worth on test; see `measure_decisions`."""

    macro_F1_at_half: float
    macro_F1: float
    ece_before: float
    ece_after: float
    ece_pooled_before: float
    ece_pooled_after: float
    ece_by_chance: float


class Reliability(Typed):
    """How often labels are present at each probability, before and after calibration."""

    sigmoid: tuple[Bin, ...]
    calibrated: tuple[Bin, ...]


class Flip(Typed):
    """A label that an engine decides differently from the model that it came from."""

    label: str
    before: float
    """The reference's probability."""
    after: float
    answer: bool
    """The engine's."""
    right: bool


class FlippedPicture(Typed):
    """A picture with at least one flip."""

    index: int
    picture: str
    truth: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    before: tuple[tuple[str, float], ...]
    """The labels that the reference answers yes, with their probabilities, the most probable first."""
    after: tuple[tuple[str, float], ...]
    flips: tuple[Flip, ...]
    """The surest first."""
    jpeg: str = ""
    """A small JPEG as base64; empty where it is not shown."""


class Flips(Typed):
    """The decisions of an engine that differ from those of the model that it came from."""

    decisions: int
    """Number of known (picture, label) cells."""
    flipped: int
    right: int
    """Number of flipped cells in which the engine is right."""
    pictures: int
    """Number of pictures with a flip."""
    shown: tuple[FlippedPicture, ...]
    """The surest first."""


class ShownFlips(Flips):
    """The flips that a report shows, with their pictures."""

    engine: str
    finetuned: bool


class HeldTo(Typed):
    """An engine's time as a multiple of the float engine's that it must not be slower than, measured in turn."""

    engine: str
    digest: str
    ratio: Ratio


class StudentDrop(Typed):
    """mAP that an engine of the fine-tuned student loses against the student itself, in points."""

    points: float
    interval: Interval | None


class OnHost(Typed):
    """Another machine's results for an engine."""

    judgement: Judgement
    rebuilt: bool = False
    """Whether it had to be built again there."""
    p50_ms: float | None = None


class EngineResult(Typed):
    """Everything that a run found about one model: a row of its table.

    The figures that people ask for first are repeated at the top of its JSON.
    """

    engine: str
    role: Literal["teacher", "student", "engine"] = "engine"
    """The teachers and the student run in torch, and are not judged."""
    precision: Precision
    required: bool = False
    judgement: Judgement | None = None
    """None until the run is finished, and for models that are not judged."""
    bundle: str | None = None
    """Its folder in the run; None where it was not built."""
    finetuned: bool = False
    """Whether it is an engine of the fine-tuned student."""
    digest: str | None = None
    size_bytes: int | None = None
    key: str | None = None
    """Hash of everything that the measurement depends on; the result is kept while this is the same."""
    refusal: Reason | None = None
    """Why it was not built, or does not run."""
    mAP: float | None = None
    """mAP on test, in [0, 1]."""
    labels: tuple[LabelScore, ...] = ()
    verification: Verification | None = None
    student_drop: StudentDrop | None = None
    decisions: DecisionScores | None = None
    reliability: Reliability | None = None
    flips: Flips | None = None
    int8: Calibration | None = None
    """How it was quantised, with its worst nodes."""
    bench: Benchmark | None = None
    held_to: HeldTo | None = None
    on_host: OnHost | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> str:
        """The verdict; `reference` is the student, with which engines are compared."""
        if self.role != "engine":
            return "reference" if self.role == "student" else "teacher"
        return self.judgement.verdict if self.judgement is not None else "incomplete"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drop_points(self) -> float | None:
        """mAP in points that it loses against the float model that it was made from."""
        return self.verification.drop_points if self.verification is not None else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def flip_rate(self) -> float | None:
        """Share of decisions that changed."""
        return self.verification.flip_rate if self.verification is not None else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p50_ms(self) -> float | None:
        """Median latency of the model alone at the first batch size; None if it was not timed or had too few calls."""
        return self.timing.p50_ms if self.timing is not None else None

    @property
    def timing(self) -> Timing | None:
        """Timing of the model alone at the first batch size."""
        return self.bench.cells[0].model if self.bench is not None else None

    @property
    def drop(self) -> StudentDrop | None:
        """The drop that is judged: for an engine of the fine-tuned student, its drop against the student itself."""
        found = self.verification
        if self.student_drop is not None or found is None or found.drop_points is None:
            return self.student_drop
        return StudentDrop(points=found.drop_points, interval=found.drop_interval)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The reasons against a pass."""
        return self.judgement.reasons if self.judgement is not None else ()


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
    size: int
    """Side of its input pictures, in pixels."""
    head: str | None = None
    val_mAP: float | None = None
    best_epoch: int | None = None
    weights: str | None = None
    """The weights that its training started from."""
    digest: str | None = None
    ensemble: tuple[ModelFacts, ...] = ()
    """For several teachers, the facts of each."""


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


class MadeWith(Typed):
    """What is needed for the same command to give the same models."""

    fingerprints: dict[str, str]
    """Fingerprints by split."""
    runtimes: tuple[str, ...]
    tools: dict[str, str]


class Machine(Typed):
    """The machine of the measurement; see `describe_machine`."""

    processor: str
    cores: int
    architecture: str
    system: str
    python: str
    governor: str
    model: str | None
    gpu: str | None


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
        """The engine that the latency budget chose, otherwise the fastest that passes; None if there is none."""
        if self.latency_budget is not None:
            return next((one for one in self.engines if one.engine == self.latency_budget.ship), None)
        passing = [one for one in self.engines if one.verdict == "pass" and one.p50_ms is not None]
        return min(passing, key=lambda one: one.p50_ms or 0.0, default=None)

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
        raise InputError(f"{folder}: no {REPORT} in it; expected the folder of a run (edgepress run --out DIR)")
    if file.stat().st_size > _MAX_BYTES:
        raise InputError(f"{file}: larger than any report; expected one that edgepress run wrote")
    try:
        return RunReport.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{file}: not a report that this version reads ({where}{': ' if where else ''}{first['msg'][:160]}); the "
            "same edgepress run makes it again: it keeps the models and measures them"
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
