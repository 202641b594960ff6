"""tune: search a student's settings within a time budget, and write the recipe that val likes best.

The loss weights of the recipe's distill section, its learning rate and temperature are searched, and the input's size
and the backbone among those that are named. test is not read.
"""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator
from rich.console import Console

from edgepress.compress.config import DistillConfig
from edgepress.compress.keep import Keep
from edgepress.multilabel.bundle import write_atomically
from edgepress.multilabel.config import Config
from edgepress.multilabel.errors import InputError, first_mistake
from edgepress.multilabel.plural import plural
from edgepress.report.terminal import print_table
from edgepress.run.budgeted import BudgetedSearch, Pace, require_time, shown
from edgepress.run.distilling import Distilling
from edgepress.run.durations import seconds
from edgepress.run.pipeline import taught, teachers_of
from edgepress.run.ready import require_ready
from edgepress.run.recipe import Recipe
from edgepress.run.result import Typed
from edgepress.run.run_report import ModelFacts
from edgepress.run.search_space import Choice, Space, space_of
from edgepress.run.splits import Splits
from edgepress.run.teachers import Teaching
from edgepress.run.trials import SHARE, Trial, best, ranked, require_place, short_epochs, shown_settings, with_settings

log = logging.getLogger("edgepress")
RECORD, RECIPE, STUDENT = "tune.json", "tuned.yaml", "student"
METHOD = "ours"
SHOWN = 20
"""Most trials of the printed table."""


class TuneConfig(Config):
    """What is searched, and for how long."""

    time_budget: float
    """Seconds of the whole search; or text such as 2h, 90min or 1h30min, in which each unit is named once."""
    trials: int | None = Field(default=None, ge=1)
    """Most trials; by default as many as the time budget has room for."""
    sizes: tuple[Annotated[int, Field(ge=32, le=2048)], ...] = ()
    """Input sizes to choose from; by default the recipe's."""
    backbones: tuple[str, ...] = ()
    """Students to choose from; by default the recipe's."""

    @field_validator("time_budget", mode="before")
    @classmethod
    def _is_a_duration(cls, given: Any) -> Any:
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        found = given if is_number else seconds(str(given))
        if not math.isfinite(found):
            raise ValueError("expected a time that ends, such as 2h")
        if found <= 0:
            raise ValueError("expected more than no time, such as 2h")
        return found


class Searched(Typed):
    """A setting that was searched: the bounds of a number, or the values to choose from."""

    name: str
    low: float | None = None
    high: float | None = None
    values: tuple[int | str, ...] = ()


class TuneRecord(Typed):
    """tune.json: what was searched, every trial, and the best of them."""

    data: str
    splits: tuple[str, ...]
    """Fingerprints of train and val."""
    teacher: ModelFacts
    distill: DistillConfig
    """The settings before the search, which the first trial has."""
    space: tuple[Searched, ...]
    budget_seconds: float
    spent_seconds: float
    trials: tuple[Trial, ...]
    best: int | None
    """Number of the chosen trial; None while no loss was finite."""


def tune(recipe: Recipe, config: TuneConfig, splits: Splits) -> TuneRecord:
    """Search until the budget is spent; return the record, which is also written to tune.json after every training.

    The best settings are in tuned.yaml, a recipe for `run` and `distill`; their student, if it was trained for all
    epochs, is where `run` with this recipe looks for it.

    Raises:
        InputError: see `require_place`, `require_ready`, `space_of`, `require_time` and `distill`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("tune runs in one process; start it without a launcher")
    import optuna  # noqa: F401 # before hours of training

    from edgepress.compress.step_time import step_seconds

    out = Path(recipe.out)
    require_place(out / STUDENT)
    teaching = Teaching.of(recipe.teacher_options, recipe.data, recipe.data_options)
    recipe = recipe.model_copy(update={"distill": teaching.fitted(recipe.distill)})
    base = recipe.distill
    space = _space(base, config)
    corners = [
        with_settings(base, {"size": size, "backbone": backbone})
        for size in config.sizes or (base.size,)
        for backbone in config.backbones or (base.backbone,)
    ]
    require_ready(recipe, splits, corners, (), teaching)
    pace = Pace(
        step_seconds=lambda one: step_seconds(one, splits.train.labels),
        steps=max(1, len(splits.train) // base.batch_size),
    )
    require_time(pace, base, config.time_budget)
    teachers = teachers_of(recipe, splits)
    distilling = Distilling(splits, tuple(teachers), teaching.reading, out, Keep.for_students([base]))
    search = BudgetedSearch(distilling.trials(METHOD, base), space, pace, config.time_budget, config.trials)
    record = TuneRecord(
        data=recipe.data,
        splits=(splits.train.fingerprint(), splits.val.fingerprint()),
        teacher=taught(teachers),
        distill=base,
        space=tuple(_searched(one) for one in space),
        budget_seconds=config.time_budget,
        spent_seconds=0.0,
        trials=(),
        best=None,
    )
    _tell_of_another(record, out)
    for tried in search.run():
        found = best(tried).number if any(one.state != "diverged" for one in tried) else None
        record = record.model_copy(update={"trials": tried, "best": found, "spent_seconds": search.spent})
        write_atomically(out / RECORD, (record.model_dump_json(indent=2) + "\n").encode())
        if found is not None:
            write_atomically(out / RECIPE, _tuned(recipe, tried[found]).encode())
    if record.best is None:
        raise InputError(f"the loss was not finite in {plural(len(record.trials), 'trial')}; give a lower lr")
    search.trials.keep(record.trials[record.best], out / STUDENT)
    return record


def _tell_of_another(record: TuneRecord, out: Path) -> None:
    """Say that the result of another search in this folder is about to be replaced, and what was different."""
    if not (out / RECORD).is_file():
        return
    try:
        earlier = TuneRecord.model_validate_json((out / RECORD).read_bytes())
    except ValidationError as error:
        log.warning("%s: cannot be read (%s); it is replaced", out / RECORD, first_mistake(error))
        return
    # Not the path of the data: `pics` and `./pics` are one data set, and the fingerprints of its splits tell another.
    searched = ("splits", "teacher", "distill", "space")
    if differs := [name for name in searched if getattr(earlier, name) != getattr(record, name)]:
        student = f", and so is {STUDENT}, once a trial is trained for all epochs" if (out / STUDENT).exists() else ""
        log.warning(
            "%s: the result of another search (another %s) is replaced, and so is %s%s; name another folder (--out) to "
            "keep both",
            *(out / RECORD, ", ".join(differs), RECIPE, student),
        )


def _space(base: DistillConfig, config: TuneConfig) -> Space:
    """What is searched: the settings of the recipe's terms, and the sizes and backbones that are named."""
    choices: list[Choice] = []
    given: tuple[tuple[str, int | str, tuple[int | str, ...]], ...] = (
        ("size", base.size, config.sizes),
        ("backbone", base.backbone, config.backbones),
    )
    for name, own, values in given:
        if len(set(values)) > 1:
            choices.append(
                Choice(name=name, own=own if own in values else values[0], values=tuple(dict.fromkeys(values)))
            )
    if len(set(config.backbones)) > 1 and base.weights not in ("auto", "none"):
        raise InputError(f"distill.weights is {base.weights}: a file of weights is for one backbone; leave out either")
    return (*space_of(base), *choices)


def _searched(one: Any) -> Searched:
    if isinstance(one, Choice):
        return Searched(name=one.name, values=one.values)
    return Searched(name=one.name, low=one.low, high=one.high)


def _tuned(recipe: Recipe, chosen: Trial) -> str:
    """A recipe file: what was given, with the chosen settings in its distill section."""
    given = recipe.model_dump(mode="json", exclude_unset=True, exclude={"ssh_option"})
    by_default = {name: getattr(recipe.distill, name) for name in recipe.distill.by_default}
    given["distill"] = {**by_default, **given.get("distill", {}), **chosen.settings}
    head = f"# Written by edgepress tune: trial {chosen.number + 1}, val mAP {100 * chosen.val_mAP:.2f}.\n"
    return head + yaml.safe_dump(given, sort_keys=False, allow_unicode=True)


def print_tuned(record: TuneRecord, most: int | None, out: Path, console: Console) -> None:
    """Print every trial, the best first, and where the recipe is; log what the search was too short for.

    Args:
        most: the most trials that were allowed; None if the time alone limited them.
    """
    order = [*ranked(record.trials), *(one for one in record.trials if one.state == "diverged")]
    rows = []
    for trial in order[:SHOWN]:
        val = "" if trial.state == "diverged" else f"{100 * trial.val_mAP:.2f}"
        took = shown(sum(one.seconds for one in trial.trainings))
        epochs = str(trial.trainings[-1].epochs)
        rows.append((str(trial.number + 1), trial.state, epochs, val, took, shown_settings(trial.settings)))
    assert record.best is not None
    chosen = record.trials[record.best]
    print_table(
        console,
        ("trial", "state", "epochs", "val mAP", "time", "settings"),
        rows,
        title=f"{plural(len(order), 'trial')} in {shown(record.spent_seconds)} of {shown(record.budget_seconds)}",
        caption=(
            f"{f'{len(order) - SHOWN} more are in {out / RECORD}; ' if len(order) > SHOWN else ''}"
            f"trial 1 has the recipe's own settings. {out / RECIPE} has those of trial {chosen.number + 1}; "
            f"edgepress run --recipe {out / RECIPE} goes on with them. val chose; test was not read"
            f"{_pruned(record)}"
        ),
        words=("state",),
        prose=True,
    )
    if (said := _too_short(record, most)) is not None:
        log.warning("%s", said)


def _pruned(record: TuneRecord) -> str:
    """What the state `pruned` means, where the table has it."""
    if all(one.state != "pruned" for one in record.trials):
        return ""
    return (
        f". pruned: trained for {short_epochs(record.distill)} of {plural(record.distill.epochs, 'epoch')} only, "
        f"because others were better then, or the time was over"
    )


def _too_short(record: TuneRecord, most: int | None) -> str | None:
    """What the search lacks to be one, and how much time it takes here; None if it lacks nothing."""
    epochs, short = record.distill.epochs, short_epochs(record.distill)
    trainings = [training for trial in record.trials for training in trial.trainings if training.seconds]
    pace = max(training.seconds / training.epochs for training in trainings)
    needed = pace * (SHARE * short + (epochs if short < epochs else 0))
    # Whole minutes, because the estimate is no better, and more than what was not enough.
    time_needed = shown(60 * math.ceil(max(needed, record.budget_seconds) / 60 + 0.01))
    if len(record.trials) < SHARE:
        tried = "the recipe's own settings alone were" if len(record.trials) == 1 else "only 2 trials were"
        limit = most is not None and most <= len(record.trials)
        give = f"--trials {SHARE} or more" if limit else f"a time budget of {time_needed} or more"
        return (
            f"{tried} trained, so val chose among {len(record.trials)}: a search compares {SHARE} trials or more, and "
            f"trains the best for all epochs; give {give}, or fewer epochs"
        )
    if all(one.state != "finished" for one in record.trials):
        return f"no trial was trained for all epochs: give a time budget of {time_needed} or more, or fewer epochs"
    return None
