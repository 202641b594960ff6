"""The ablation of a run: what distillation, INT8 and thresholds each change, step by step on test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import ALONE
from edgepress.multilabel.bundle import Bundle
from edgepress.run.recipe import Recipe
from edgepress.run.result import EngineResult
from edgepress.run.run_report import RunReport
from edgepress.run.splits import Splits

STUDENT_ALONE = "student-alone"
"""The folder, in a run's, of the student that learnt from the labels alone."""


@dataclass(frozen=True, kw_only=True)
class AblationStep:
    """A model of the ablation, and how its answers become a yes or no."""

    name: str
    result: EngineResult
    macro_F1: float | None
    """On test: by the sigmoid at 0.5, and in the last step by the thresholds of the bundle."""


def without_teacher(config: DistillConfig) -> DistillConfig:
    """The same training of a student from the labels alone.

    Raises:
        InputError: the labels have no weight, so that nothing is left to learn from.
    """
    changes = {**ALONE, "preset": "alone", "auxiliary": "none", "unlabelled": None, "teacher_mirrored": False}
    return DistillConfig.parse({**config.model_dump(), **changes}, "ablation")


def train_alone(recipe: Recipe, splits: Splits) -> Bundle:
    """Train the recipe's student without its teacher, under the same settings otherwise; a finished one is kept.

    Raises:
        InputError: see `distill`.
    """
    from edgepress.compress.distill import distill

    return distill(splits.train, splits.val, None, without_teacher(recipe.distill), Path(recipe.out) / STUDENT_ALONE)


def ablation(report: RunReport) -> list[AblationStep]:
    """The steps from the teacher to the INT8 engine with its thresholds; empty if the run has no ablation.

    The engine is the one to ship if that is INT8, and otherwise the fastest of INT8 that was measured.
    """
    alone = [one for one in report.engines if one.role == "alone"]
    if not alone:
        return []
    steps = [
        AblationStep(name=name, result=one, macro_F1=one.macro_F1_at_half)
        for name, role in (("teacher", "teacher"), ("labels alone", "alone"), ("+ distillation", "student"))
        for one in report.engines
        if one.role == role
    ]
    measured = [one for one in report.engines if one.precision == "int8" and one.decisions is not None]
    best = report.to_ship
    chosen = best if best in measured else min(measured, key=lambda one: one.p50_ms or math.inf, default=None)
    if chosen is not None and chosen.decisions is not None:
        found = {"+ INT8": chosen.decisions.macro_F1_at_half, "+ thresholds": chosen.decisions.macro_F1}
        steps += [AblationStep(name=name, result=chosen, macro_F1=value) for name, value in found.items()]
    return steps
