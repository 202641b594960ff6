"""Whether the promise of a bundle's thresholds held on the pictures that it is verified on."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgepress.multilabel.binomial import share_interval
from edgepress.multilabel.cells import row_parts
from edgepress.multilabel.confidence import LEVEL
from edgepress.multilabel.decisions import Promise
from edgepress.multilabel.errors import shown


class PromisedLabel(BaseModel):
    """What one label reached."""

    model_config = ConfigDict(frozen=True)

    label: str
    value: float | None
    """Its recall, precision or false-positive rate; None where no picture tells it."""
    low: float
    """Lower end of its exact 95 % interval."""
    high: float
    count: int
    """Number of pictures that tell it: positives, predicted positives or negatives."""


class PromiseKept(BaseModel):
    """What became of a promise on other pictures."""

    model_config = ConfigDict(frozen=True)

    promise: Promise
    labels: tuple[PromisedLabel, ...]
    reached: int
    """Number of labels that reached the level on these pictures, of those that any picture tells. Of promises that are
    only just kept, half are reached by chance."""
    told: int
    broken: tuple[str, ...]
    """Labels whose interval, corrected for looking at all labels (Bonferroni), is wholly on the wrong side."""

    def caution(self) -> str | None:
        """What is to be said of labels that broke it; None where none did."""
        if not self.broken:
            return None
        return (
            f"the thresholds promise a {self.promise}, and {len(self.broken)} of {self.told} labels do not keep it on "
            f"these pictures (95 %, corrected for all labels): {shown(self.broken)}; are these pictures like those "
            "that the thresholds were fitted on?"
        )


def promise_kept(
    promise: Promise, answers: np.ndarray, targets: np.ndarray, ignore: np.ndarray, names: tuple[str, ...]
) -> PromiseKept:
    """Compare what each label reaches with what was promised.

    Args:
        answers: the engine's yes and no, bool `[N, C]`, like targets and ignored cells.
    """
    count, trials = np.zeros((2, answers.shape[1]), np.int64)
    for part in row_parts(answers, targets, ignore):
        known = ~ignore[part]
        positive, yes = (targets[part] == 1) & known, answers[part] & known
        judged = {"recall": positive, "precision": yes, "fpr": known & ~positive}[promise.kind]
        counted = yes if promise.kind == "fpr" else positive & yes
        count, trials = count + (counted & judged).sum(axis=0), trials + judged.sum(axis=0)
    low, high = share_interval(count, trials, LEVEL)
    told = int((trials > 0).sum())
    corrected = share_interval(count, trials, 1 - (1 - LEVEL) / max(told, 1))
    below = promise.kind == "fpr"
    broken = corrected[0] > promise.level if below else corrected[1] < promise.level
    values = count / np.maximum(trials, 1)
    reached = values <= promise.level if below else values >= promise.level
    return PromiseKept(
        promise=promise,
        labels=tuple(
            PromisedLabel(
                label=name,
                value=float(values[place]) if trials[place] else None,
                low=float(low[place]),
                high=float(high[place]),
                count=int(trials[place]),
            )
            for place, name in enumerate(names)
        ),
        reached=int((reached & (trials > 0)).sum()),
        told=told,
        broken=tuple(name for name, one in zip(names, broken & (trials > 0), strict=True) if one),
    )
