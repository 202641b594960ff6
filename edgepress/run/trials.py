"""Trials: short trainings of one method with several settings, of which the best on val go on.

Successive halving (Jamieson and Talwalkar, AISTATS 2016) with two rungs: every trial is trained for a third of the
epochs, and the best third of them for all. Each training has a complete schedule of its learning rate, so that a rate
is not judged by its peak. A killed search continues: a journal has a line for each finished training, and an
unfinished one is resumed at its last epoch.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edgepress.compress.config import DistillConfig
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.durable import make_folder, sync
from edgepress.multilabel.errors import DivergedError, InputError, first_mistake
from edgepress.multilabel.plural import plural
from edgepress.run.result import Typed
from edgepress.run.search_space import space_of, spread

log = logging.getLogger("edgepress")
SHARE = 3
"""Every trial is first trained for 1/3 of the epochs, and 1/3 of the trials go on."""
JOURNAL = "journal.jsonl"


class TrialTraining(Typed):
    """A finished training of a trial: a line of the journal."""

    inputs: str
    """sha256 of its settings, pictures and teachers."""
    epochs: int
    val_mAP: float | None
    """In [0, 1]; None where the loss was not finite."""
    best_epoch: int | None
    seconds: float


class Trial(Typed):
    """Settings of a method that were tried."""

    method: str
    number: int
    """Counted from 0, which has the method's own settings."""
    settings: dict[str, float]
    trainings: tuple[TrialTraining, ...]
    """The short one, and of the best the long one."""
    state: Literal["pruned", "finished", "diverged"]
    """finished: it was trained for all epochs; pruned: others were better after the short training."""


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
    """Trains and remembers trials in a folder."""

    folder: Path
    journal: Journal
    train: Callable[[DistillConfig, Path], Bundle]
    """Distil a student with these settings into this folder."""
    inputs: Callable[[DistillConfig], str]
    """What tells the training with these settings apart from every other."""

    def tune(self, method: str, base: DistillConfig, count: int) -> tuple[Trial, ...]:
        """Try a method with `count` settings.

        Args:
            base: its own settings; the trials have its seed.

        Returns:
            All trials in order; `best` finds the one to choose.

        Raises:
            InputError: the loss of every trial is not finite; see also `space_of` and `distill`.
        """
        points = spread(space_of(base), count)
        finalists = math.ceil(count / SHARE)
        short = math.ceil(base.epochs / SHARE)
        trained: list[list[TrialTraining]] = [[] for _ in points]
        going_on = list(range(count))
        if finalists < count and short < base.epochs:
            for number in going_on:
                trained[number].append(self._trained(method, number, count, base, points[number], short))
            alive = [number for number in going_on if trained[number][-1].val_mAP is not None]
            going_on = sorted(sorted(alive, key=lambda number: -_val(trained[number]))[:finalists])
        for number in going_on:
            trained[number].append(self._trained(method, number, count, base, points[number], base.epochs))
        made = tuple(
            Trial(
                method=method,
                number=number,
                settings=points[number],
                trainings=tuple(trained[number]),
                state="diverged"
                if trained[number][-1].val_mAP is None
                else ("finished" if number in going_on else "pruned"),
            )
            for number in range(count)
        )
        if not any(one.state == "finished" for one in made):
            raise InputError(
                f"method {method}: the loss was not finite in {plural(count, 'trial')}; give a lower lr or more trials"
            )
        return made

    def keep(self, chosen: Trial, out: Path) -> None:
        """Move the student of the chosen trial to its place, and remove the method's other students."""
        own = self._folder(chosen.method, chosen.number)
        if own.is_dir() and not out.exists():
            make_folder(out.parent)
            own.rename(out)
        shutil.rmtree(self.folder / chosen.method, ignore_errors=True)

    def _folder(self, method: str, number: int) -> Path:
        return self.folder / method / str(number)

    def _trained(
        self, method: str, number: int, count: int, base: DistillConfig, settings: Mapping[str, float], epochs: int
    ) -> TrialTraining:
        config = with_settings(base, settings).model_copy(update={"epochs": epochs})
        inputs = self.inputs(config)
        done = self.journal.known.get(inputs)
        told = f"{method}, trial {number + 1} of {count} ({shown_settings(settings)}), {plural(epochs, 'epoch')}"
        if done is None:
            log.info("%s", told)
            folder = self._folder(method, number)
            try:
                student = self.train(config, folder)
            except DivergedError as error:
                log.warning("%s: %s", told, error)
                done = TrialTraining(inputs=inputs, epochs=epochs, val_mAP=None, best_epoch=None, seconds=0.0)
            else:
                facts = student.manifest.facts
                done = TrialTraining(
                    inputs=inputs,
                    epochs=epochs,
                    val_mAP=facts.val_mAP,
                    best_epoch=facts.best_epoch,
                    seconds=sum(epoch.seconds for epoch in facts.history),
                )
            self.journal.add(done)
            if epochs < base.epochs or done.val_mAP is None:
                shutil.rmtree(self.folder / method / str(number), ignore_errors=True)
        log.info("%s: %s", told, "diverged" if done.val_mAP is None else f"val mAP {100 * done.val_mAP:.2f}")
        return done


def best(trials: Sequence[Trial]) -> Trial:
    """The finished trial with the highest val mAP; of equal ones the first."""
    return max((one for one in trials if one.state == "finished"), key=lambda one: _val(one.trainings))


def with_settings(base: DistillConfig, settings: Mapping[str, float]) -> DistillConfig:
    """A method's settings with those of a trial in their places."""
    return DistillConfig.parse({**base.model_dump(), **settings}, "trial")


def shown_settings(settings: Mapping[str, float]) -> str:
    """Settings in words, such as `lr 0.002, mld 4`."""
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def _val(trainings: Sequence[TrialTraining]) -> float:
    found = trainings[-1].val_mAP
    assert found is not None
    return found
