"""What was found about one model of a run: an engine, the student or a teacher. Each is a row of report.json."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from edgepress.calibration.decide.label_scores import DecisionScores
from edgepress.deploy.bench.benchmark import Benchmark
from edgepress.deploy.bench.timing import Timing
from edgepress.deploy.verify.verification import Verification
from edgepress.multilabel.judgement import Judgement, Reason, judge
from edgepress.multilabel.manifest import Precision, Quantization
from edgepress.multilabel.ratio import Ratio

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


Role = Literal["teacher", "student", "alone", "engine"]
"""`alone` is the student of an ablation, trained without its teacher."""


class EngineResult(Typed):
    """Everything that a run found about one model: a row of its table.

    The figures that people ask for first are repeated at the top of its JSON.
    """

    engine: str
    role: Role = "engine"
    """Teachers, the student and the student that learnt alone run as they are, in torch or as an ONNX graph. They are
    not judged."""
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
    macro_F1_at_half: float | None = None
    """On test, by the sigmoid at 0.5, for models that are not judged; for engines it is among their decisions."""
    labels: tuple[LabelScore, ...] = ()
    verification: Verification | None = None
    student_drop: StudentDrop | None = None
    decisions: DecisionScores | None = None
    """On test."""
    reliability: Reliability | None = None
    flips: Flips | None = None
    int8: Quantization | None = None
    """How it was quantised, with its worst nodes."""
    bench: Benchmark | None = None
    held_to: HeldTo | None = None
    on_host: OnHost | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> str:
        """The verdict; `reference` is the student, with which engines are compared."""
        if self.role != "engine":
            return "reference" if self.role == "student" else self.role
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

    @property
    def to_ship(self) -> Judgement | None:
        """Whether it may be shipped: the judgement here, or of an engine that a host has seen, what was found there
        and what was found here about the model. That this machine cannot run it does not count then. None until the
        run is finished.
        """
        if self.judgement is None or self.on_host is None:
            return self.judgement
        about_model = (reason for reason in self.reasons if reason.kind != "machine")
        return judge([*about_model, *self.on_host.judgement.reasons])

    @property
    def p50_to_ship(self) -> float | None:
        """Median latency in milliseconds where it is to be shipped: on the host, if one has seen it."""
        return (self.on_host or self).p50_ms
