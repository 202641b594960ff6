"""Thresholds that keep a promise on new pictures: a recall, a precision or a false-positive rate, with a confidence.

The errors of a label at a threshold are binomial, so how many a fit may show follows exactly, whatever the model:

- A recall and a false-positive rate change one way as the threshold rises. `recall=0.9@95%` takes the highest
  threshold whose misses among n positives are so few that a recall below 0.9 would show them with a probability of at
  most 5 % (an exact tolerance limit, Wilks 1941; as risk control: Bates et al. 2021, section 3). `fpr` takes the lowest
  threshold by the same test on negatives.
- A precision may rise and fall, so each threshold is a hypothesis of its own: learn then test (Angelopoulos et al.
  2021) by a fixed sequence, from the highest threshold downwards. It begins with the first threshold that has enough
  predicted positives to be shown at all, and stops before the first one that is not shown. That order is exact where
  the precision does not fall as the threshold rises, as of any model whose surer answers are right more often.

For all labels at once the risk is divided by their number (Bonferroni), because they share pictures.

The promise is about pictures drawn like those of the fit, and about a model that did not see them. val also chose the
epoch and the INT8 graph; `benchmarks/guarantees.py` measures what is left of the promise on test.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from edgepress.multilabel.binomial import binomial_cdf, fewest_trials, most_errors
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import SILENT, Promise, PromiseKind
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.plural import plural

METHODS: dict[PromiseKind, str] = {
    "recall": "exact binomial bound",
    "fpr": "exact binomial bound",
    "precision": "learn then test: fixed sequence of exact binomial tests",
}


class Wanted(NamedTuple):
    """A promise that is asked for."""

    kind: PromiseKind
    level: float
    confidence: float
    scope: Literal["each", "all"] = "each"

    @property
    def rate(self) -> float:
        """The largest error rate: of misses, of wrong yes, or of false positives."""
        return self.level if self.kind == "fpr" else 1 - self.level

    def risk(self, labels: int) -> float:
        """The probability with which one label may break it."""
        return (1 - self.confidence) / (labels if self.scope == "all" else 1)


class Promised(NamedTuple):
    """One label's threshold."""

    threshold: float
    counted: int
    errors: int
    best: float | None = None
    """The best precision, or the lowest false-positive rate, where none could be shown; the label is then never
    answered yes."""


def require_enough(wanted: Wanted, data: MultiLabelDataset, where: str) -> None:
    """Stop where a split has too few pictures of a label for a promise, whatever the model.

    Raises:
        InputError: names these labels, what they have, and what they need; or the labels of groups, whose answers do
            not follow from their own thresholds.
    """
    if data.groups:
        raise InputError(
            f"thresholds: a promise is kept by a label's own threshold, and the label groups decide otherwise for "
            f"{shown(sorted(set(data.groups.names)))}: give thresholds without @, or do without the groups (those of "
            f"--label-groups, else of labels.yaml in the data set's folder, else of the bundle)"
        )
    known = ~data.ignore
    positives = ((data.targets == 1) & known).sum(axis=0)
    counts = known.sum(axis=0) - positives if wanted.kind == "fpr" else positives
    needed = fewest_trials(wanted.rate, wanted.risk(len(data.labels)))
    few = [(name, int(count)) for name, count in zip(data.labels, counts, strict=True) if count < needed]
    if few:
        what = "do not show" if wanted.kind == "fpr" else "show"
        least = min(count for _, count in few)
        grown = f"; about {-(-needed * len(data) // least)} pictures like these have them" if least else ""
        raise InputError(
            f"{where}: a {wanted.kind} of {wanted.level:g} with {100 * wanted.confidence:g} % confidence for "
            f"{'each label' if wanted.scope == 'each' else 'all labels at once'} needs {needed} pictures that {what} "
            f"each label; {len(few)} of {len(data.labels)} labels have fewer: "
            f"{shown(f'{name} ({count})' for name, count in few)}{grown}. Give a split with more, or ask for less: "
            f"{_possible(wanted, least, len(data.labels))}"
        )


def _possible(wanted: Wanted, count: int, labels: int) -> str:
    """What so many pictures of a label can show at most, without an error among them."""
    if not count:
        return "without any of a label nothing can be promised for it"
    risk = wanted.risk(labels)
    best = 1 - risk ** (1 / count)  # the least error rate: (1 - best)^count = risk
    steps = range(1, 100)
    rates = (one / 100 for one in steps) if wanted.kind == "fpr" else (1 - one / 100 for one in reversed(steps))
    rate = next((one for one in rates if one >= best and fewest_trials(one, risk) <= count), None)
    if rate is None:
        return f"{plural(count, 'picture shows', 'pictures show')} no level at that confidence"
    level = rate if wanted.kind == "fpr" else 1 - rate
    scope = "" if wanted.scope == "each" else ":all"
    asked = f"{wanted.kind}={level:.2g}@{100 * wanted.confidence:g}%{scope}"
    return f"{asked} is what {plural(count, 'picture')} of a label can show"


def promised_threshold(targets: np.ndarray, scores: np.ndarray, wanted: Wanted, risk: float) -> Promised:
    """The threshold of one label that keeps a promise and answers yes as often (for a recall: as seldom) as it can.

    With too few pictures it is as cautious as they allow: for a recall no positive is missed, for a false-positive rate
    no negative is taken, and for a precision nothing is answered yes. See `require_enough`.

    Args:
        targets: `[N]` in {0, 1}, with a positive.
        scores: probabilities `[N]`.
        risk: the probability with which the promise may be broken.
    """
    distinct, where = np.unique(scores, return_inverse=True)
    middle = (distinct[:-1] + distinct[1:]) / 2
    # A threshold is a score itself only if no number lies below it and above the next lower one.
    cuts = np.append(np.minimum(distinct[:1] / 2, distinct[:1]), np.where(middle > distinct[:-1], middle, distinct[1:]))
    predicted = np.bincount(where)[::-1].cumsum()[::-1]
    hits = np.rint(np.bincount(where, targets)[::-1].cumsum()[::-1]).astype(np.int64)
    if wanted.kind == "precision":
        return _precise(cuts, predicted, hits, wanted.rate, risk)
    if wanted.kind == "recall":
        misses = hits[0] - hits
        allowed = max(most_errors(int(hits[0]), wanted.rate, risk), 0)
        last = int(np.flatnonzero(misses <= allowed)[-1])
        return Promised(float(cuts[last]), int(hits[0]), int(misses[last]))
    wrong = predicted - hits
    negatives = int(wrong[0])
    kept = np.flatnonzero(wrong <= max(most_errors(negatives, wanted.rate, risk), 0))
    if not len(kept):  # the surest pictures of all lack the label, and no threshold lies above them
        return Promised(SILENT, negatives, 0, float(wrong[-1] / negatives))
    return Promised(float(cuts[kept[0]]), negatives, int(wrong[kept[0]]))


def _precise(cuts: np.ndarray, predicted: np.ndarray, hits: np.ndarray, rate: float, risk: float) -> Promised:
    """Fixed-sequence testing from the highest threshold that has enough predicted positives."""
    enough = np.flatnonzero(predicted >= fewest_trials(rate, risk))
    if not len(enough):
        return Promised(SILENT, 0, 0, 0.0)
    tested = np.arange(enough[-1], -1, -1)
    wrong = predicted - hits
    shown_to_be = binomial_cdf(wrong[tested], predicted[tested], rate) <= risk
    if not shown_to_be[0]:
        return Promised(SILENT, 0, 0, float((hits[enough] / predicted[enough]).max()))
    stop = len(tested) if shown_to_be.all() else int(np.argmin(shown_to_be))
    last = tested[stop - 1]
    return Promised(float(cuts[last]), int(predicted[last]), int(wrong[last]))


def promise_of(wanted: Wanted, labels: list[Promised]) -> Promise:
    """What the thresholds of all labels promise, for a bundle's manifest."""
    return Promise(
        kind=wanted.kind,
        level=wanted.level,
        confidence=wanted.confidence,
        scope=wanted.scope,
        method=METHODS[wanted.kind],
        counted=tuple(one.counted for one in labels),
        errors=tuple(one.errors for one in labels),
    )
