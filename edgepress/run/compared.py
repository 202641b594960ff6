"""The record of a comparison of methods, compare.json."""

from __future__ import annotations

from pydantic import Field

from edgepress.compress.config import DistillConfig
from edgepress.run.result import Typed
from edgepress.run.run_report import ModelFacts
from edgepress.run.search_space import Settings
from edgepress.run.trials import Trial


class ComparedStudent(Typed):
    """A student of `compare`."""

    method: str
    seed: int
    val_mAP: float
    best_epoch: int
    test_mAP: float
    by_frequency: tuple[float, ...] = ()
    """test mAP of the most frequent third of the labels, of the middle and of the rarest; none where labels are few."""
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
    trials: tuple[Trial, ...] = ()
    """Of the tuned methods."""
    teacher_leads_points: float | None = None
    """Lead of the teacher over the student trained alone, on val; None if that student was not trained."""
