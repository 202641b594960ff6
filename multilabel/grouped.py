"""GroupedLabels: label groups over the columns of logits and targets: probabilities, answers, violations, accuracy.

The logits of a group of which exactly one is true become probabilities by the softmax; where none may be true, "none"
takes part with a logit of 0. Label c's log-odds are therefore z_c - log Σ_{j≠c} exp z_j, in which "none" adds 1 to the
sum; a label without a group keeps its logit, which is its log-odds already. From there on every label is calibrated by
itself as before. Unlike the logits of a softmax, log-odds can be compared between pictures, so AP is computed on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgepress.multilabel.cells import row_parts
from edgepress.multilabel.label_groups import NO_GROUPS, Exclusive, LabelGroups
from edgepress.multilabel.settlement import Settlement


@dataclass(frozen=True)
class Violation:
    """A rule that labels break, and the pictures that break it."""

    rule: str
    """The rule and how it is broken, as `several of one of front, side, back`."""
    rows: tuple[int, ...]


@dataclass(frozen=True)
class GroupAccuracy:
    """How often a group is answered as its labels say."""

    group: Exclusive
    pictures: int
    """Number of pictures of which the true answer is known."""
    accuracy: float | None
    """In [0, 1]; None where it is known of no picture."""


@dataclass(frozen=True)
class GroupedLabels:
    """Label groups, for arrays `[N, C]` whose columns are `names`."""

    groups: LabelGroups
    names: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.groups)

    @cached_property
    def columns(self) -> tuple[np.ndarray, ...]:
        """The columns of each exclusive group, int64 `[K]`."""
        return tuple(np.array(labels) for labels in self._settlement.groups)

    @cached_property
    def member(self) -> np.ndarray:
        """bool `[C]`, the labels that are in an exclusive group."""
        found = np.zeros(len(self.names), bool)
        for columns in self.columns:
            found[columns] = True
        return found

    @cached_property
    def always_one(self) -> np.ndarray:
        """bool `[C]`, the labels of groups of which exactly one is answered yes, so that no threshold decides."""
        found = np.zeros(len(self.names), bool)
        for columns, none in zip(self.columns, self._settlement.none, strict=True):
            found[columns] = not none
        return found

    @cached_property
    def _settlement(self) -> Settlement:
        return Settlement.of(self.groups.exclusive, self.groups.closure(), self.names)

    def log_odds(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits `[N, C]` into log-odds `[N, C]`, in their precision; the same array where there are no groups."""
        if not self.columns:
            return logits
        found = np.array(logits)
        for columns, none in zip(self.columns, self._settlement.none, strict=True):
            z = np.asarray(logits[:, columns], np.float64)
            if none:
                z = np.append(z, np.zeros((len(z), 1)), axis=1)
            with np.errstate(invalid="ignore"):  # of a logit that is not finite the whole group is NaN
                found[:, columns] = (z - _log_sum_of_others(z))[:, : len(columns)]
        return found

    def raised(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities `[N, C]` of which none is below that of a label that implies it."""
        if not self._settlement.closure:
            return probabilities
        found = np.array(probabilities)
        for label, follows in self._settlement.closure.items():
            for other in follows:
                found[:, other] = np.maximum(found[:, other], probabilities[:, label])
        return found

    def settled(self, probabilities: np.ndarray, yes: np.ndarray) -> np.ndarray:
        """Answers bool `[N, C]` without a contradiction; see `multilabel.settlement` for their order.

        Args:
            probabilities: `[N, C]`, as `raised` gives them.
            yes: bool `[N, C]`, the answers of each label by itself.
        """
        if not self.groups:
            return yes
        found = np.array(yes)
        for columns, none in zip(self.columns, self._settlement.none, strict=True):
            p, own = probabilities[:, columns], yes[:, columns]
            best = np.where(own, p, -1).argmax(axis=1) if none else p.argmax(axis=1)
            rows = np.flatnonzero(own.any(axis=1)) if none else np.arange(len(p))
            found[:, columns] = False
            found[rows, columns[best[rows]]] = True
        for label, follows in self._settlement.closure.items():
            found[np.ix_(found[:, label], follows)] = True
        # Where that contradicts itself, which is rare, one picture is settled at a time.
        for row in np.flatnonzero(self._several(found)):
            found[row] = False
            found[row, list(self._settlement.settle(probabilities[row].tolist(), yes[row].tolist()))] = True
        return found

    def _several(self, answers: np.ndarray) -> np.ndarray:
        """bool `[N]`, the pictures for which two labels of a group are true."""
        several = np.zeros(len(answers), bool)
        for columns in self.columns:
            several |= answers[:, columns].sum(axis=1) > 1
        return several

    def violations(self, targets: np.ndarray, ignore: np.ndarray) -> list[Violation]:
        """The rules that labels `[N, C]` break, as far as they are known, with the pictures; rules that hold are left
        out."""

        def known_to_be(value: int, columns: np.ndarray | int) -> np.ndarray:
            return (targets[:, columns] == value) & ~ignore[:, columns]

        broken = []
        for group, columns in zip(self.groups.exclusive, self.columns, strict=True):
            broken.append((f"several true: {group}", known_to_be(1, columns).sum(axis=1) > 1))
            if not group.none:
                broken.append((f"none true: {group}", known_to_be(0, columns).all(axis=1)))
        for label, follows in self.groups.implies.items():
            own = known_to_be(1, self.names.index(label))
            for other in follows:
                rule = f"{label} without {other}: {label} implies {other}"
                broken.append((rule, own & known_to_be(0, self.names.index(other))))
        return [Violation(rule, tuple(np.flatnonzero(rows).tolist())) for rule, rows in broken if rows.any()]

    def accuracy(self, answers: np.ndarray, targets: np.ndarray, ignore: np.ndarray) -> list[GroupAccuracy]:
        """The share of pictures for which each group is answered as its labels say.

        A picture counts if exactly one label is known to be true, or, where none may be, all are known not to be.

        Args:
            answers: bool `[N, C]`, as `settled` gives them.
        """
        known, right = np.zeros((2, len(self.columns)), np.int64)
        for part in row_parts(answers, targets, ignore) if self.columns else ():
            for place, (group, columns) in enumerate(zip(self.groups.exclusive, self.columns, strict=True)):
                cells = np.ix_(np.arange(part.start, part.stop), columns)
                positive = (targets[cells] == 1) & ~ignore[cells]
                told = positive.sum(axis=1) == 1
                if group.none:
                    told |= ((targets[cells] == 0) & ~ignore[cells]).all(axis=1)
                known[place] += told.sum()
                right[place] += (answers[cells] == positive).all(axis=1)[told].sum()
        shares = [float(some / of) if of else None for some, of in zip(right, known, strict=True)]
        return [
            GroupAccuracy(group, int(pictures), share)
            for group, pictures, share in zip(self.groups.exclusive, known, shares, strict=True)
        ]


UNGROUPED = GroupedLabels(NO_GROUPS, ())
"""No groups, over any columns."""


def grouped(groups: LabelGroups, names: Sequence[str]) -> GroupedLabels:
    """Label groups over columns of these names."""
    return GroupedLabels(groups, tuple(names))


def _log_sum_of_others(z: np.ndarray) -> np.ndarray:
    """log Σ_{j≠c} exp z_j for each c of `[N, K]`, float64, K of at least two; no cancellation, however sure one is."""
    top = z.argmax(axis=1)[:, None]
    highest = np.take_along_axis(z, top, axis=1)
    e = np.exp(z - highest)
    # The sum without c holds the highest term unless c is the highest itself.
    with np.errstate(divide="ignore"):
        others = highest + np.log(e.sum(axis=1, keepdims=True) - e)
    rest = np.array(z)
    np.put_along_axis(rest, top, -np.inf, axis=1)
    second = rest.max(axis=1, keepdims=True)
    np.put_along_axis(others, top, second + np.log(np.exp(rest - second).sum(axis=1, keepdims=True)), axis=1)
    return others
