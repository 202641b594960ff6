"""Check, for `run` and `compare`, what can be known to be wrong before hours are spent on training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgepress.calibration.decide import promises
from edgepress.calibration.decide.criterion import Criterion
from edgepress.calibration.int8.subset import require_enough
from edgepress.compress.config import DistillConfig, TeachConfig
from edgepress.deploy.engines.table import ENGINES
from edgepress.multilabel.bundle import MANIFEST, require_replaceable
from edgepress.multilabel.datasets import refuse_leaks
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.run.ablation import STUDENT_ALONE, without_teacher
from edgepress.run.build import folder_of, require_buildable
from edgepress.run.latency_budget import require_host
from edgepress.run.recipe import EngineName, Recipe
from edgepress.run.splits import Splits
from edgepress.run.teachers import Teaching

log = logging.getLogger("edgepress")


def require_ready(
    recipe: Recipe,
    splits: Splits,
    students: Sequence[DistillConfig],
    engines: Sequence[EngineName],
    teaching: Teaching,
) -> None:
    """Stop before anything is trained if a later stage would fail.

    Args:
        students: the planned trainings.
        engines: the engines to build from them; none for a comparison.
        teaching: the recipe's finished teachers.

    Raises:
        InputError: the first of: an ablation that has nothing to learn from, a folder that holds something else, a
            promise of thresholds that val cannot give, a finished teacher that cannot teach, a model that cannot be
            made, unlabelled pictures that are in val or test, a calibration set that cannot show every label, a
            required engine that this machine cannot build, or none that it can, a host that cannot be used, pretrained
            weights that cannot be had or do not fit.
    """
    out = Path(recipe.out)
    if recipe.ablation and engines:
        without_teacher(recipe.distill)
    if (out / MANIFEST).is_file():
        raise InputError(f"{out}: is a bundle; name another folder for the run")
    promise = Criterion.parse(recipe.decisions.thresholds).promise if engines else None
    if promise is not None:
        promises.require_enough(promise, splits.val, f"{splits.val.root}, split {splits.val.split!r}")
    teaching.require(students, splits.train)
    _require_trainable(recipe, splits, students, out)
    if engines:
        _require_engines(recipe, splits, engines, out)
    require_host(recipe)
    _require_pretrained(recipe, students, out)  # the last, because a hub may answer slowly


def _require_engines(recipe: Recipe, splits: Splits, engines: Sequence[EngineName], out: Path) -> None:
    require_replaceable(out / "student", "torch", "fp32", "student")
    if recipe.ablation:
        require_replaceable(out / STUDENT_ALONE, "torch", "fp32", "student")
    require_replaceable(out / "onnx-fp32", "onnx", "fp32")
    for engine in engines:
        spec = ENGINES[engine]
        require_replaceable(out / folder_of(engine, recipe.compile), spec.runtime.kind, spec.precision)
    if recipe.quantize.choice == "covering" and any(ENGINES[engine].precision == "int8" for engine in engines):
        require_enough(splits.train, recipe.quantize.pictures, recipe.quantize.seed)
    _require_buildable(recipe, engines)


def _require_trainable(recipe: Recipe, splits: Splits, students: Sequence[DistillConfig], out: Path) -> None:
    from edgepress.compress.distill import require_makeable

    for config in students:
        for backbone in recipe.students or (config.backbone,):
            require_makeable(config.model_copy(update={"backbone": backbone}), splits.train.labels)
    for path in {config.unlabelled for config in students if config.unlabelled is not None}:
        refuse_leaks(load_unlabelled(path, splits.train.labels), [splits.val, splits.test])
    if not recipe.teacher:
        require_makeable(recipe.teach, splits.train.labels)
        if recipe.teach.query_groups is not None and any(config.compares_embeddings for config in students):
            raise InputError("teach.query_groups: labels share embeddings then, and distill compares one per label")
        require_replaceable(out / "teacher", "torch", "fp32", "teacher")
        for name in ("resize", "crop_fraction"):
            taught, learnt = getattr(recipe.teach, name), getattr(recipe.distill, name)
            if taught != learnt:
                raise InputError(f"{name} is {taught} in teach and {learnt} in distill: set them alike")


def _require_pretrained(recipe: Recipe, students: Sequence[DistillConfig], out: Path) -> None:
    """Before students are timed for a latency budget, too, and before the teacher is trained."""
    from edgepress.compress.distill import require_pretrained

    made = [manifest.parent for pattern in ("*", "compare/*") for manifest in sorted(out.glob(f"{pattern}/{MANIFEST}"))]
    planned: list[TeachConfig | DistillConfig] = [] if recipe.teacher else [recipe.teach]
    for config in students:
        backbones = recipe.students or (config.backbone,)
        planned += [config.model_copy(update={"backbone": backbone}) for backbone in backbones]
    asked = set()
    for one in planned:
        needed = one.backbone, one.weights, one.size, one.stages
        if needed not in asked:
            require_pretrained(one, made)
            asked.add(needed)


def _require_buildable(recipe: Recipe, engines: Iterable[EngineName]) -> None:
    """An engine that cannot be built here costs the run only its row, unless it is required or all are so."""
    refused = {}
    for engine in engines:
        try:
            require_buildable(engine)
        except EngineUnavailableError as error:
            refused[engine] = str(error)
    needed = [engine for engine in recipe.required if engine in refused]
    if needed or len(refused) == len(list(engines)):
        said = "; ".join(f"{engine}: {refused[engine]}" for engine in needed or refused)
        raise InputError(f"{'required, but cannot be built here' if needed else 'no engine can be built here'}: {said}")
    for engine, reason in refused.items():
        log.warning("%s will not be built: %s", engine, reason)
