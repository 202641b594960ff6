"""Trials: short trainings of one method with several settings, of which the best on val go on.

Successive halving (Jamieson and Talwalkar, AISTATS 2016) with two rungs: every trial is trained for a third of the
epochs, and the best third of them for all. Each training has a complete schedule of its learning rate, so that a rate
is not judged by its peak. A killed search continues: a journal has a line for each finished training, and an
unfinished one is resumed at its last epoch.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edgepress.compress.config import DistillConfig
from edgepress.multilabel.bundle import MANIFEST, Bundle, require_replaceable
from edgepress.multilabel.durable import make_folder, sync
from edgepress.multilabel.errors import DivergedError, InputError, first_mistake
from edgepress.multilabel.plural import plural
from edgepress.run.result import Typed
from edgepress.run.search_space import Settings, Value, space_of, spread

log = logging.getLogger("edgepress")
SHARE = 3
"""Every trial is first trained for 1/3 of the epochs, and 1/3 of the trials go on."""
JOURNAL = "journal.jsonl"


TrialState = Literal["pruned", "finished", "diverged"]
"""finished: trained for all epochs; pruned: had the short training only, because others were better after it or the
time was over; diverged: a loss was not finite."""


class TrialTraining(Typed):
    """A finished training of a trial: a line of the journal."""

    inputs: str
    """sha256 of its settings, pictures and teachers."""
    epochs: int
    val_mAP: float | None
    """In [0, 1]; None where the loss was not finite."""
    best_epoch: int | None
    seconds: float
    """From its beginning to its end, with validation."""


class Trial(Typed):
    """Settings of a method that were tried."""

    method: str
    number: int
    """Counted from 0, which has the method's own settings."""
    settings: Settings
    trainings: tuple[TrialTraining, ...] = ()
    """The short one, and of the best the long one."""
    state: TrialState = "pruned"

    @property
    def val_mAP(self) -> float:
        """Of the last training, in [0, 1]; 0 where the loss was not finite."""
        return (self.trainings[-1].val_mAP or 0.0) if self.trainings else 0.0


class Journal:
    """The finished trainings of a run's trials, by their inputs, in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one; a last line that a killed process left incomplete is dropped.

        Raises:
            InputError: another line cannot be read.
        """
        self.path = path
        self.known: dict[str, TrialTraining] = {}
        raw = path.read_bytes() if path.is_file() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                training = TrialTraining.model_validate_json(line)
            except ValidationError as error:
                reason = first_mistake(error)
                raise InputError(f"{path}, line {number}: no trial ({reason}); remove the file to try again") from None
            self.known[training.inputs] = training

    def add(self, training: TrialTraining) -> None:
        make_folder(self.path.parent)
        with self.path.open("ab") as file:
            file.write(training.model_dump_json().encode() + b"\n")
        sync(self.path)
        self.known[training.inputs] = training


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The trials of one method: trains and remembers them, in a folder."""

    method: str
    base: DistillConfig
    """The method's own settings; the trials have its seed."""
    folder: Path
    journal: Journal
    distil: Callable[[DistillConfig, Path], Bundle]
    """Train a student with these settings into this folder."""
    inputs: Callable[[DistillConfig], str]
    """What tells the training with these settings apart from every other."""

    @property
    def short(self) -> int:
        """How many epochs decide which trials go on."""
        return short_epochs(self.base)

    def tune(self, count: int) -> tuple[Trial, ...]:
        """Try the method with `count` settings that are spread over its space.

        Returns:
            All trials in order; `best` finds the one to choose.

        Raises:
            InputError: the loss of every trial is not finite; see also `space_of` and `distill`.
        """
        points = spread(space_of(self.base), count)
        tried = [Trial(method=self.method, number=number, settings=one) for number, one in enumerate(points)]
        finalists = math.ceil(count / SHARE) if self.short < self.base.epochs else count
        if finalists < count:
            tried = [self.trained(one, self.short, f" of {count}") for one in tried]
        for one in ranked(tried)[:finalists]:
            tried[one.number] = self.trained(one, self.base.epochs, f" of {count}")
        if not any(one.state == "finished" for one in tried):
            raise InputError(
                f"method {self.method}: the loss was not finite in {plural(count, 'trial')}; give a lower lr, or more "
                f"trials"
            )
        return tuple(tried)

    def config(self, settings: Settings, epochs: int) -> DistillConfig:
        """What a training of a trial is made with."""
        return for_epochs(with_settings(self.base, settings), epochs)

    def known(self, settings: Settings, epochs: int) -> TrialTraining | None:
        """The training of these settings, if it is finished."""
        return self.journal.known.get(self.inputs(self.config(settings, epochs)))

    def trained(self, trial: Trial, epochs: int, of: str = "") -> Trial:
        """The trial after a training of so many epochs, which is made if it is not known."""
        done = self.known(trial.settings, epochs)
        told = f"{self.method}, trial {trial.number + 1}{of} ({shown_settings(trial.settings)})"
        if done is None:
            log.info("%s: %s", told, plural(epochs, "epoch"))
            done = self._train(self.config(trial.settings, epochs), self._folder(trial))
            self.journal.add(done)
            if epochs < self.base.epochs or done.val_mAP is None:
                shutil.rmtree(self._folder(trial), ignore_errors=True)
        found = "not finite" if done.val_mAP is None else f"val mAP {100 * done.val_mAP:.2f}"
        log.info("%s: %s after %s", told, found, plural(epochs, "epoch"))
        whole: TrialState = "finished" if epochs == self.base.epochs else "pruned"
        state: TrialState = "diverged" if done.val_mAP is None else whole
        return trial.model_copy(update={"trainings": (*trial.trainings, done), "state": state})

    def keep(self, chosen: Trial, out: Path) -> None:
        """Move the student of the chosen trial to its place, and remove the others.

        Raises:
            InputError: see `require_place`.
        """
        own = self._folder(chosen)
        if own.is_dir():
            require_place(out)
            if out.exists():  # of other settings, which are not chosen any more
                shutil.rmtree(out)
            make_folder(out.parent)
            own.rename(out)
        self._remove_trials()

    def _remove_trials(self) -> None:
        """Remove what trainings wrote, and leave what anybody else put beside it."""
        folder = self.folder / self.method
        if folder.is_symlink() or not folder.is_dir():
            return
        for one in list(folder.iterdir()):
            made = (one / MANIFEST).is_file() if one.name.isdecimal() else re.fullmatch(r"\.\d+\..*", one.name)
            if made and one.is_dir() and not one.is_symlink():
                shutil.rmtree(one, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()

    def _folder(self, trial: Trial) -> Path:
        return self.folder / self.method / str(trial.number)

    def _train(self, config: DistillConfig, folder: Path) -> TrialTraining:
        started = time.perf_counter()
        try:
            facts = self.distil(config, folder).manifest.facts
        except DivergedError as error:
            log.warning("%s", error)
            val_map, best_epoch, seconds = None, None, 0.0
        else:
            val_map, best_epoch = facts.val_mAP, facts.best_epoch
            seconds = sum(epoch.seconds for epoch in facts.history)  # more than this call's where it was resumed
        return TrialTraining(
            inputs=self.inputs(config),
            epochs=config.epochs,
            val_mAP=val_map,
            best_epoch=best_epoch,
            seconds=max(seconds, time.perf_counter() - started),
        )


def require_place(out: Path) -> None:
    """Allow only a folder that is empty, or holds a student, to be replaced by the student of a chosen trial.

    Raises:
        InputError: the path is a link, or holds something else.
    """
    if out.is_symlink():
        raise InputError(f"{out}: is a link, and the chosen student would replace it; remove it, or name another --out")
    require_replaceable(out, "torch", "fp32", "student")


def short_epochs(base: DistillConfig) -> int:
    """How many epochs decide which trials go on."""
    return math.ceil(base.epochs / SHARE)


def for_epochs(config: DistillConfig, epochs: int) -> DistillConfig:
    """The settings with a schedule of so many epochs, which stops as early in proportion."""
    stop = None if config.stop_epoch is None else math.ceil(config.stop_epoch * epochs / config.epochs)
    return config.model_copy(update={"epochs": epochs, "stop_epoch": stop})


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The trials whose loss stayed finite, best first by their last training; of equal ones the first comes first."""
    return sorted((one for one in trials if one.state != "diverged"), key=lambda one: -one.val_mAP)


def best(trials: Sequence[Trial]) -> Trial:
    """The finished trial with the highest val mAP; where none is finished, the best after the short training."""
    finished = [one for one in trials if one.state == "finished"]
    return ranked(finished or trials)[0]


def with_settings(base: DistillConfig, settings: Mapping[str, Value]) -> DistillConfig:
    """A method's settings with those of a trial in their places."""
    return DistillConfig.parse({**base.model_dump(), **settings}, "trial")


def shown_settings(settings: Mapping[str, Value]) -> str:
    """Settings in words, such as `lr 0.002, mld 4`."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    )
