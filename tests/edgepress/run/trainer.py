"""Trials of students that learn alone, which are counted and may be interrupted."""

from __future__ import annotations

from edgepress.compress.distill import distill
from edgepress.multilabel.bundle import inputs_hash
from edgepress.multilabel.errors import DivergedError
from edgepress.run.trials import Journal, Trials


class Trainer:
    """Trains students without a teacher, and counts them; it stops before the training of a number, as a kill does."""

    def __init__(self, splits, stop_before=None, diverge=()):
        self.splits, self.stop_before, self.diverge, self.epochs = splits, stop_before, diverge, []

    def __call__(self, config, folder):
        if len(self.epochs) == self.stop_before:
            raise KeyboardInterrupt
        self.epochs.append(config.epochs)
        if len(self.epochs) - 1 in self.diverge:
            raise DivergedError("loss is not finite")
        return distill(self.splits.train, self.splits.val, None, config, folder)


def trials_in(folder, trainer, base):
    def inputs(config):
        return inputs_hash({"config": config.model_dump(mode="json")})

    journal = Journal(folder / "journal.jsonl")
    return Trials(method="alone", base=base, folder=folder, journal=journal, distil=trainer, inputs=inputs)
