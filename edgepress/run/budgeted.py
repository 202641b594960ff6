"""A search within a time budget: short trainings of new settings, of which the best third go on.

Asynchronous successive halving (Li et al., MLSys 2020) with two rungs, one training at a time. A training that would
not end within the budget is not begun.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from edgepress.compress.config import DistillConfig
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.plural import plural
from edgepress.run.proposals import propose
from edgepress.run.search_space import Settings, Space
from edgepress.run.trials import SHARE, Trial, Trials, for_epochs, ranked, short_epochs

log = logging.getLogger("edgepress")


class Size(NamedTuple):
    """What a student's time depends on, among the settings that are searched."""

    backbone: str
    size: int

    @classmethod
    def of(cls, config: DistillConfig) -> Size:
        return cls(config.backbone, config.size)


@dataclass
class Pace:
    """How long trainings take: measured, and for a student that was not trained yet estimated from its step alone.

    An epoch that no student has had yet takes longer where the teacher's answers are kept, because it gives them then.
    """

    step_seconds: Callable[[DistillConfig], float]
    """Seconds of a student's step by itself, without a teacher and without reading pictures."""
    steps: int
    """Per epoch."""
    answered: int = 0
    """The epochs that some student has had."""
    _first: dict[Size, float] = field(default_factory=dict)
    """Seconds per epoch of the trainings that had epochs for the first time, the longest that was measured."""
    _again: dict[Size, float] = field(default_factory=dict)
    """The same of all other trainings."""
    _steps: dict[Size, float] = field(default_factory=dict)

    def learn(self, config: DistillConfig, seconds: float) -> None:
        """Take a finished training into account."""
        size, epochs = Size.of(config), config.epochs_trained
        measured = self._again if self._new(config) == 0 else self._first
        measured[size] = max(measured.get(size, 0.0), seconds / epochs)
        self.answered = max(self.answered, epochs)

    def seconds(self, config: DistillConfig) -> float:
        """How long a training takes; before anything was trained, the least that it can take."""
        size, epochs, new = Size.of(config), config.epochs_trained, self._new(config)
        known = max(self._first.get(size, 0.0), self._again.get(size, 0.0))
        if known:
            return new * known + (epochs - new) * self._again.get(size, known)
        own = self._step(config)
        if not self._first:
            return epochs * self.steps * own
        # Beside the step a teacher answers and pictures are read, which takes no longer with a larger student.
        nearest, longest = max(self._first.items(), key=lambda item: item[1])
        other = self._step(config.model_copy(update=nearest._asdict()))
        return epochs * longest * max(1.0, own / other)

    def _new(self, config: DistillConfig) -> int:
        """How many epochs of a training no student has had: with variations, the later ones are the first again."""
        return max(0, min(config.epochs_trained, config.variations or config.epochs_trained) - self.answered)

    def _step(self, config: DistillConfig) -> float:
        size = Size.of(config)
        if size not in self._steps:
            self._steps[size] = self.step_seconds(config)
        return self._steps[size]


@dataclass
class BudgetedSearch:
    """Searches a space for as long as the budget lasts."""

    trials: Trials
    space: Space
    pace: Pace
    budget: float
    """Seconds, with those of the trainings that an earlier call finished."""
    most: int | None = None
    """Most trials; None for as many as fit."""
    tried: list[Trial] = field(default_factory=list)
    earlier: float = 0.0
    """Seconds of the trainings that an earlier call finished, each counted once."""
    _unspent: set[str] = field(init=False)
    """Inputs of such trainings that are not in `earlier` yet."""

    def __post_init__(self) -> None:
        self.started = time.perf_counter()
        self._unspent = set(self.trials.journal.known)

    @property
    def spent(self) -> float:
        """Seconds of the budget that are gone."""
        return self.earlier + time.perf_counter() - self.started

    def run(self) -> Iterator[tuple[Trial, ...]]:
        """Train one trial after the other, until none fits any more; yields all of them after each training."""
        while (trial := self._next()) is not None:
            epochs = self.trials.short if not trial.trainings and self._two_rungs else self.trials.base.epochs
            known = self.trials.known(trial.settings, epochs)
            made = self.trials.trained(trial, epochs)
            if known is not None and known.inputs in self._unspent:  # others are in this call's time already
                self._unspent.remove(known.inputs)
                self.earlier += known.seconds
            self.tried[made.number : made.number + 1] = [made]
            if made.state != "diverged":
                self.pace.learn(self.trials.config(made.settings, epochs), made.trainings[-1].seconds)
            log.info("%s of %s spent", shown(self.spent), shown(self.budget))
            yield tuple(self.tried)

    @property
    def _two_rungs(self) -> bool:
        return self.trials.short < self.trials.base.epochs

    def _next(self) -> Trial | None:
        """The trial to train next: one of the best third that has had its short training only, or a new one."""
        going_on = [one for one in ranked(self.tried)[: len(self.tried) // SHARE] if one.state == "pruned"]
        if going_on and self._fits(going_on[0]):
            return going_on[0]
        if not going_on and (self.most is None or len(self.tried) < self.most):
            settings = propose(self.space, self.tried, self.trials.base.seed)
            new = Trial(method=self.trials.method, number=len(self.tried), settings=settings)
            if not self.tried or self._fits(new):  # there is room for one: see `require_time`
                return new
        # What is left is too short for a new trial that might go on: it is for the best of those that there are.
        return self._last()

    def _last(self) -> Trial | None:
        waiting = [one for one in ranked(self.tried) if one.state == "pruned"]
        enough = self.most is not None and sum(one.state == "finished" for one in self.tried) * SHARE >= self.most
        return next((one for one in waiting if self._fits(one)), None) if not enough else None

    def _fits(self, trial: Trial) -> bool:
        """Whether there is time for the trainings that a trial still lacks; one that is finished takes none."""
        left = [self.trials.base.epochs]
        if not trial.trainings and self._two_rungs:
            left.insert(0, self.trials.short)
        lacking = sum(self._seconds(trial.settings, epochs) for epochs in left)
        return lacking == 0 or self.spent + lacking <= self.budget

    def _seconds(self, settings: Settings, epochs: int) -> float:
        if self.trials.known(settings, epochs) is not None:
            return 0.0
        return self.pace.seconds(self.trials.config(settings, epochs))


def require_time(pace: Pace, base: DistillConfig, budget: float) -> None:
    """Stop before anything is trained if a budget has no room for one trial.

    Raises:
        InputError: it has none; the message says how long one takes at least.
    """
    epochs = {base.epochs, short_epochs(base)}
    least = sum(pace.seconds(for_epochs(base, one)) for one in epochs)
    if least > budget:
        raise InputError(
            f"time budget {shown(budget)}: one trial takes at least {shown(least)} here ({sum(epochs)} epochs of "
            f"{plural(pace.steps, 'step')}); give more time, or fewer epochs"
        )


def shown(seconds: float) -> str:
    """A duration in words.

    Example:
        >>> shown(5400), shown(61), shown(4.2)
        ('1 h 30 min', '1 min 1 s', '4.2 s')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest if not hours else 0, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
