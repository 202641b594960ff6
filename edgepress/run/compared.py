"""The record of a comparison of methods, compare.json."""

from __future__ import annotations

from pydantic import Field

from edgepress.compress.config import DistillConfig
from edgepress.multilabel.frequency import Part
from edgepress.run.result import Typed
from edgepress.run.run_report import ModelFacts
from edgepress.run.search_space import Settings
from edgepress.run.significance import Significance
from edgepress.run.trials import Trial

RECORD = "compare.json"


class Decided(Typed):
    """F1 on test, each in [0, 1], as `f1_scores` defines it."""

    OF1: float
    """Over all decisions, by the student's own thresholds, which were fitted on val."""
    CF1: float
    """2·CP·CR / (CP + CR), by the same thresholds."""
    OF1_at_half: float
    """By the sigmoid at 0.5."""
    CF1_at_half: float


class ComparedLabel(Typed):
    """A label of the data set."""

    label: str
    train_positives: int
    """Number of training pictures that show it."""
    test_positives: int
    part: Part | None
    """Whether it is among the most frequent third on test, the middle or the rarest; None if it does not enter mAP, or
    labels are few."""


class ComparedStudent(Typed):
    """A student of `compare`."""

    method: str
    seed: int
    val_mAP: float
    best_epoch: int
    test_mAP: float
    by_frequency: tuple[float, ...] = ()
    """test mAP of the most frequent third of the labels, of the middle and of the rarest; none where labels are few."""
    decided: Decided | None = None
    """None in a record of an earlier version, like `AP` and `F1`."""
    AP: tuple[float | None, ...] = ()
    """test AP of every label, in the record's order; None for one that does not enter mAP."""
    F1: tuple[float | None, ...] = ()
    """test F1 of every label by its own threshold; None for one that no picture shows."""
    seconds: float
    """Of its training."""
    teacher_val_mAP: float | None
    """None for stored answers that are not for val."""
    training: DistillConfig
    settings: Settings = Field(default_factory=dict)
    """The settings that trials chose; empty where there were none."""
    digest: str


class MethodSummary(Typed):
    """A method's results over its seeds."""

    method: str
    seeds: int
    test_mAP_points: float
    """Mean over the seeds, like `val_mAP_points`."""
    deviation: float | None
    """Sample deviation of test mAP in points; None for one seed."""
    val_mAP_points: float
    by_frequency_points: tuple[float, ...] = ()
    """Means over the seeds of the students' `by_frequency`, in points."""
    decided_points: Decided | None = None
    """Means over the seeds of the students' F1, in points."""
    settings: Settings = Field(default_factory=dict)
    """The settings that trials chose; empty where there were none."""


class MethodComparison(Typed):
    """compare.json: the conditions and the results."""

    data: str
    train_pictures: int
    test_pictures: int
    prevalence: float
    teacher: ModelFacts
    student: ModelFacts
    epochs: int
    distill: DistillConfig
    splits: tuple[str, ...]
    """Fingerprints of train, val and test."""
    students: tuple[ComparedStudent, ...] = ()
    methods: tuple[MethodSummary, ...] = ()
    labels: tuple[ComparedLabel, ...] = ()
    significance: tuple[Significance, ...] = ()
    """Against the method that val likes best, and against the student alone; none while students are trained."""
    trials: tuple[Trial, ...] = ()
    """Of the tuned methods."""
    teacher_leads_points: float | None = None
    """Lead of the teacher over the student trained alone, on val; None if that student was not trained."""
