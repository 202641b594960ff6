"""compare: train several distillation methods and seeds on the same pictures, under one recipe.

Every method sees the same augmented pictures in the same order for the same number of steps; the teacher's outputs are
computed once for each seed and kept. val chooses each student's epoch; test is read once, when a student is finished.
Pictures and seeds are resampled to tell which methods differ beyond chance. With `tune`, val first chooses each
method's settings among equally many trials. Finished students and trials are kept, so a comparison can be continued and
extended.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from edgepress.compress.config import DistillConfig
from edgepress.compress.keep import Keep
from edgepress.compress.methods import ALONE, PRESETS, TERMS
from edgepress.compress.reading import TeacherSource
from edgepress.multilabel.bundle import write_atomically
from edgepress.multilabel.config import Config
from edgepress.multilabel.errors import InputError, did_you_mean, first_mistake
from edgepress.multilabel.metrics import prevalence
from edgepress.report.methods import write_methods
from edgepress.run.across import Across, across
from edgepress.run.compared import RECORD, ComparedStudent, MethodComparison
from edgepress.run.distilling import Distilling
from edgepress.run.folds import folds_of
from edgepress.run.measured import measure, resampled
from edgepress.run.pipeline import taught, teachers_of
from edgepress.run.ready import require_ready
from edgepress.run.recipe import CompareRecipe
from edgepress.run.run_report import ModelFacts
from edgepress.run.search_space import Settings, space_of
from edgepress.run.splits import Splits
from edgepress.run.summary import labels_of, lead, significance_of, summarise
from edgepress.run.teachers import Teaching
from edgepress.run.trials import Trial, best, require_place, shown_settings, with_settings

log = logging.getLogger("edgepress")
FOLDS = "folds.json"
_METHOD = (
    *("preset", "reduction", "task", "inherit_head", "mixup", "review_kd_warmup", "review_kd_width"),
    *("kd_temperature", "auxiliary", *TERMS),
)
"""The settings in which methods differ."""


class CompareConfig(Config):
    """Which methods and seeds are compared."""

    methods: tuple[str, ...] | None = None
    """Presets of distill, `ours` (the recipe's distill section) and the recipe's own methods; by default all that the
    teacher can teach."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Each seed gives other orders, augmentations and initial weights, the same for every method."""
    tune: int | None = Field(default=None, ge=1)
    """Choose every method's settings on val among this many trials, with the first of the seeds; see `Trials`."""


def known_methods(recipe: CompareRecipe) -> list[str]:
    """Every method that a recipe can compare."""
    return [*PRESETS, "ours", *recipe.methods]


def compare(recipe: CompareRecipe, config: CompareConfig, splits: Splits) -> MethodComparison:
    """Train the missing students and return the record, which is also written to compare.json, compare.html and
    compare.md, and drawn as compare.svg.

    All are written again after every student.

    Raises:
        InputError: an unknown method; see also `require_place`, `require_ready` and `distill`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("compare runs in one process; start it without a launcher")

    require_names(recipe, config)
    teaching = Teaching.of(recipe.teacher_options, recipe.data, recipe.data_options)
    recipe = recipe.model_copy(update={"distill": teaching.fitted(recipe.distill)})
    methods = config.methods or _teachable(recipe, teaching)
    settings = {(name, seed): _settings(recipe, name, seed) for seed in config.seeds for name in methods}
    if config.tune is not None:
        for one in settings.values():
            space_of(one)
        for name, seed in settings:
            require_place(_folder(recipe, name, seed))
    require_ready(recipe, splits, list(settings.values()), (), teaching)
    out = Path(recipe.out)
    draws = out / "compare" / "resampled"
    teachers = teachers_of(recipe, splits)
    keep = Keep.for_students(settings.values())
    if keep.inside:  # what is kept for students that look inside the teacher serves the others as well
        order = sorted(settings, key=lambda one: (config.seeds.index(one[1]), not settings[one].looks_inside))
        settings = {one: settings[one] for one in order}
    distilling = Distilling(splits, tuple(teachers), teaching.reading, out, keep)
    record = _header(recipe, splits, teachers)
    record, rows = _earlier(out, record, recipe)
    tuned: dict[str, tuple[Trial, ...]] = {}
    # All methods of a seed come before the next seed, so that an interrupted comparison still compares methods.
    for (method, seed), own in settings.items():
        folder = _folder(recipe, method, seed)
        chosen: Settings = {}
        if config.tune is not None:
            if method not in tuned:
                tuned[method] = _tune(distilling, method, own, config.tune, folder)
            tried, chosen = tuned[method], best(tuned[method]).settings
            record = record.model_copy(update={"trials": _replaced(record.trials, method, tried)})
        rows = {key: row for key, row in rows.items() if row.method != method or row.settings == chosen}
        student = distilling.distil(with_settings(own, chosen), folder)
        row = rows.get((method, seed))
        if row is None or row.digest != student.digest or resampled(row.digest, splits, draws) is None:
            row = rows[method, seed] = measure(student, method, seed, splits, chosen, draws)
        record = _with_rows(record, tuple(rows.values()))
        _write(out, record)
        log.info("%s, seed %d: val mAP %.2f, test mAP %.2f", method, seed, 100 * row.val_mAP, 100 * row.test_mAP)
        if method == "alone" and record.teacher_leads_points is not None:
            log.info("the teacher is %.2f points above the student alone on val", record.teacher_leads_points)
    record = record.model_copy(update={"significance": significance_of(record, splits, draws)})
    _write(out, record)
    return record


def compare_folds(recipe: CompareRecipe, config: CompareConfig, splits: Splits, count: int) -> Across:
    """Compare in every fold of the data set's pictures, with a teacher of its own, and rank the methods over them.

    Each fold is a comparison in a folder of its own, `fold-1` and so on; what they say together is also in folds.json.

    Raises:
        InputError: a finished teacher is given, which may have seen the test pictures of a fold; see also `folds_of`
            and `compare`.
    """
    if recipe.teacher:
        raise InputError(
            "folds: a finished teacher has seen test pictures of some fold; leave it out, so that each fold has its own"
        )
    out, records = Path(recipe.out), {}
    for number, fold in enumerate(folds_of(splits, count), 1):
        log.info("fold %d of %d", number, count)
        own = recipe.model_copy(update={"out": str(out / f"fold-{number}")})
        records[f"fold {number}"] = compare(own, config, fold)
    found = across(records)
    write_atomically(out / FOLDS, (found.model_dump_json(indent=2) + "\n").encode())
    return found


def _folder(recipe: CompareRecipe, method: str, seed: int) -> Path:
    """Where the student of a method and a seed is."""
    return Path(recipe.out) / "compare" / f"{method}-seed{seed}"


def require_names(recipe: CompareRecipe, config: CompareConfig) -> None:
    """Stop if a method is unknown, or has a name that it cannot have.

    Raises:
        InputError: the first such method.
    """
    known = known_methods(recipe)
    for name in config.methods or ():
        if name not in known:
            raise InputError(f"unknown method {name!r}: expected {', '.join(known)}{did_you_mean(name, known)}")
    twice = [name for name in recipe.methods if name in PRESETS or name == "ours"]
    if twice:
        raise InputError(f"methods: {twice[0]!r} is a preset's name already; choose another")
    if unfit := [name for name in recipe.methods if name in (".", "..") or Path(name).name != name]:
        raise InputError(f"methods: {unfit[0]!r} cannot be the name of a folder; choose another")


def _tune(distilling: Distilling, method: str, base: DistillConfig, count: int, folder: Path) -> tuple[Trial, ...]:
    """The method's trials with the seed of `base`; the chosen one's student is put in `folder`."""
    trials = distilling.trials(method, base)
    tried = trials.tune(count)
    log.info("%s: %d trials chose %s", method, count, shown_settings(best(tried).settings))
    trials.keep(best(tried), folder)
    return tried


def _replaced(trials: Sequence[Trial], method: str, tried: Sequence[Trial]) -> tuple[Trial, ...]:
    return (*(one for one in trials if one.method != method), *tried)


def _with_rows(record: MethodComparison, students: tuple[ComparedStudent, ...]) -> MethodComparison:
    """The record with these students and what follows from them at once."""
    tuned = {row.method for row in students if row.settings}
    found = {
        "students": students,
        "methods": summarise(students),
        "teacher_leads_points": lead(students),
        "trials": tuple(one for one in record.trials if one.method in tuned),
        "significance": (),
    }
    return record.model_copy(update=found)


def _write(out: Path, record: MethodComparison) -> None:
    write_atomically(out / RECORD, (record.model_dump_json(indent=2) + "\n").encode())
    write_methods(out, record)


def _teachable(recipe: CompareRecipe, teaching: Teaching) -> list[str]:
    """The known methods that the finished teachers can teach; says which are left out."""
    known = known_methods(recipe)
    chosen = [name for name in known if teaching.can_teach(_settings(recipe, name, recipe.distill.seed))]
    if left_out := [name for name in known if name not in chosen]:
        log.info("left out, because they need what is inside the teacher: %s", ", ".join(left_out))
    return chosen


def _settings(recipe: CompareRecipe, method: str, seed: int) -> DistillConfig:
    """The recipe's training with a method's loss weights."""
    # All settings, so that a preset's training settings do not make one method see more pictures than another.
    values = recipe.distill.model_dump()
    if method != "ours":
        values = {name: value for name, value in values.items() if name not in _METHOD}
        values |= {"preset": method} if method in PRESETS else {**ALONE, **recipe.methods[method]}
    if method == "alone":
        values["unlabelled"] = None
    return DistillConfig.parse({**values, "seed": seed}, f"method {method}")


def _header(recipe: CompareRecipe, splits: Splits, teachers: Sequence[TeacherSource]) -> MethodComparison:
    return MethodComparison(
        data=recipe.data,
        train_pictures=len(splits.train),
        test_pictures=len(splits.test),
        prevalence=prevalence(splits.test.targets, splits.test.ignore),
        teacher=taught(teachers),
        student=ModelFacts(backbone=recipe.distill.backbone, size=recipe.distill.size),
        epochs=recipe.distill.epochs_trained,
        distill=recipe.distill,
        splits=tuple(split.fingerprint() for split in (splits.train, splits.val, splits.test)),
        labels=labels_of(splits),
    )


def _earlier(
    out: Path, record: MethodComparison, recipe: CompareRecipe
) -> tuple[MethodComparison, dict[tuple[str, int], ComparedStudent]]:
    """The record with the trials of an earlier comparison under the same conditions, which this one extends, and its
    students.

    A method whose settings have changed since, or that is no longer in the recipe, is left out.
    """
    try:
        found = MethodComparison.model_validate_json((out / RECORD).read_bytes())
    except FileNotFoundError:
        return record, {}
    except ValidationError as error:
        log.warning(
            "%s: cannot be read (%s); the students' test mAP is computed again", out / RECORD, first_mistake(error)
        )
        return record, {}
    if _conditions(found) != _conditions(record):
        return record, {}
    known = known_methods(recipe)
    rows = {
        (row.method, row.seed): row
        for row in found.students
        if row.method in known
        and _same(row.training, with_settings(_settings(recipe, row.method, row.seed), row.settings))
    }
    return record.model_copy(update={"trials": found.trials}), rows


def _conditions(record: MethodComparison) -> MethodComparison:
    """The fields that must be equal for a comparison to be continued."""
    fixed = dict.fromkeys(("workers", *_METHOD))
    return record.model_copy(
        update={
            "students": (),
            "methods": (),
            "trials": (),
            "labels": (),
            "significance": (),
            "teacher_leads_points": None,
            "distill": record.distill.model_copy(update=fixed),
        }
    )


def _same(one: DistillConfig, other: DistillConfig) -> bool:
    return one.model_copy(update={"workers": 0}) == other.model_copy(update={"workers": 0})
