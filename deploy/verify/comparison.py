"""Comparison: an engine's answers beside its reference's on the same pictures, the basis of everything verify says.

Average precisions and decisions are computed once, when they are first needed, and everything over some pictures or
some labels at a time, because thousands of labels of many pictures do not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgepress.deploy.verify.agreement import TOP, Agreement
from edgepress.deploy.verify.decision_gate import Bounds, DecisionGate, measure_gate
from edgepress.deploy.verify.differences import Flips, LogitDifference
from edgepress.deploy.verify.promises import PromiseKept, promise_kept
from edgepress.multilabel.cells import CellWriter, all_finite, column_parts, columns_of, row_parts
from edgepress.multilabel.confidence import LEAST_PICTURES, RESAMPLES, Scored, drop_interval, resample_counts
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.frequency import Part, thirds
from edgepress.multilabel.metrics import F1Scores, F1Tallies, average_precision, counts_known, top_k

Answered = Literal["thresholds", "0.5", "top_3"]
"""How labels are answered yes: by the bundle's thresholds, by 0.5, or the best labels of a picture; always from the
probabilities that `predict` prints."""


class LabelRow(BaseModel):
    """One label's AP before and after; None where it has no positive, or a logit that is not finite."""

    model_config = ConfigDict(frozen=True)

    label: str
    positives: int
    """Number of pictures that show it."""
    AP_reference: float | None
    AP: float | None
    moved_points: float | None
    """AP - AP_reference, in points (0 to 100)."""


class GroupRow(BaseModel):
    """How often a group of labels that exclude each other is answered as its labels say, before and after."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[str, ...]
    none: bool
    """Whether a picture may have none of them."""
    pictures: int
    """Number of pictures of which the true answer is known."""
    accuracy_reference: float | None
    """In [0, 1]; None where the answer is known of no picture."""
    accuracy: float | None
    """None also where a logit of the engine is not finite."""


class FrequencyRow(BaseModel):
    """mAP of a third of the labels, by how many pictures show them, before and after."""

    model_config = ConfigDict(frozen=True)

    part: Part
    labels: int
    fewest: int
    """Number of pictures of its rarest label."""
    most: int
    mAP_reference: float | None
    """In [0, 1]; None where the labels have changed since the reference was made, so that none of these has an AP."""
    mAP: float | None
    """None where a logit of the engine is not finite."""
    drop_points: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Logits `[N, C]` of an engine and of its reference, in the order of the pictures and labels of `data`.

    Raises, from its properties:
        InputError: no label has a positive picture.
    """

    logits: np.ndarray
    reference: np.ndarray
    data: MultiLabelDataset
    own: Decisions
    """The engine's decisions, in any order of labels."""
    reference_targets: np.ndarray
    """Labels `[N, C]` that the reference's mAP is computed with."""
    reference_ignore: np.ndarray
    folder: Path | None = None
    """Where large arrays are kept, as `multilabel.cells` says."""

    @classmethod
    def on(
        cls,
        data: MultiLabelDataset,
        logits: np.ndarray,
        reference: np.ndarray,
        own: Decisions,
        folder: Path | None = None,
    ) -> Comparison:
        """Compare both with the data set's labels."""
        return cls(logits, reference, data, own, data.targets, data.ignore, folder)

    @cached_property
    def finite(self) -> bool:
        return all_finite(self.logits)

    @cached_property
    def decisions(self) -> Decisions:
        """The engine's decisions, in the data set's order of labels."""
        return self.own.ordered(self.data.labels.names)

    @cached_property
    def answers(self) -> np.ndarray:
        """The engine's yes or no answers, bool `[N, C]`."""
        return self._by_rows(self.logits, self.decisions.decide, np.dtype(bool))

    @cached_property
    def reference_answers(self) -> np.ndarray:
        """The reference's yes or no answers, bool `[N, C]`, by the decisions that the engine's were refitted from, or
        by the same."""
        theirs = self.decisions.refitted_from or self.decisions
        return self._by_rows(self.reference, theirs.decide, np.dtype(bool))

    @cached_property
    def precisions(self) -> np.ndarray:
        """The engine's AP of every label, `[C]`; NaN where a logit is not finite or no picture shows the label."""
        found = np.full(self.scores.shape[1], np.nan)
        for part in column_parts(self.scores.shape):
            targets, scores, ignore = (
                columns_of(one, part) for one in (self.data.targets, self.scores, self.data.ignore)
            )
            finite = np.isfinite(scores).all(axis=0)
            found[part][finite] = average_precision(targets[:, finite], scores[:, finite], ignore[:, finite])
        return found

    @cached_property
    def scores(self) -> np.ndarray:
        """What ranks the engine's pictures: its log-odds `[N, C]`; NaN in a group with a logit that is not finite."""
        return self._scores(self.logits)

    @cached_property
    def reference_precisions(self) -> np.ndarray:
        return average_precision(self.reference_targets, self.reference_scores, self.reference_ignore)

    @cached_property
    def reference_scores(self) -> np.ndarray:
        return self._scores(self.reference)

    def _scores(self, logits: np.ndarray) -> np.ndarray:
        if not self.decisions.grouped.columns:
            return logits
        return self._by_rows(logits, self.decisions.scores, logits.dtype)

    def _by_rows(self, logits: np.ndarray, compute: Callable[[np.ndarray], np.ndarray], dtype: np.dtype) -> np.ndarray:
        made = CellWriter(logits.shape, dtype, self.folder)
        for part in row_parts(logits):
            made.append(compute(logits[part]))
        return made.done()

    @cached_property
    def agreement(self) -> Agreement:
        """Compare logits, decisions and mAP, without ignored cells."""
        before, after = _mean(self.reference_precisions), _mean(self.precisions) if self.finite else None
        logits = LogitDifference() if self.finite else None
        flips, kept = Flips(), Flips() if self.decisions.refitted_from else None
        few = min(TOP, self.logits.shape[1])
        same = np.zeros(2, np.int64)
        for part in row_parts(*self._rows):
            ignore, answers = self.data.ignore[part], self.reference_answers[part]
            flips.add(answers, self.answers[part], ignore)
            if kept is not None and self.decisions.refitted_from is not None:
                kept.add(answers, self.decisions.refitted_from.decide(self.logits[part]), ignore)
            if logits is not None:
                logits.add(self.logits[part], self.reference[part], ~ignore)
                same += [self._same_best(part, 1), self._same_best(part, few)]
        pictures = len(self.data)
        return Agreement(
            max_abs_diff=None if logits is None else logits.largest,
            mean_abs_diff=None if logits is None else logits.mean,
            sqnr_db=None if logits is None else logits.sqnr_db,
            not_finite=sum(int((~np.isfinite(self.logits[part])).sum()) for part in row_parts(self.logits)),
            flip_rate=flips.share,
            flip_rate_kept=None if kept is None else kept.share,
            top1_agreement=float(same[0] / pictures) if self.finite else None,
            topk_agreement=float(same[1] / pictures) if self.finite else None,
            top_k=few,
            mAP=after,
            mAP_reference=before,
            drop_points=None if after is None else 100 * (before - after),
        )

    @property
    def _rows(self) -> tuple[np.ndarray, ...]:
        """All arrays of which a part is looked at; see `row_parts`."""
        scores = (self.scores, self.reference_scores) if self.finite else ()
        return self.logits, self.reference, self.answers, self.reference_answers, *scores

    @cached_property
    def drop_interval(self) -> tuple[float, float] | None:
        """Interval of the drop in points; None if a logit is not finite or there are too few pictures."""
        if not self.finite:
            return None
        before = Scored(self.reference_targets, self.reference_scores, self.reference_ignore)
        return drop_interval(before, Scored(self.data.targets, self.scores, self.data.ignore), counts=self._counts)

    @cached_property
    def _counts(self) -> np.ndarray | None:
        """How often each picture is in each resample, `[N, R]`; None of fewer pictures than `LEAST_PICTURES`."""
        return resample_counts(len(self.data), RESAMPLES) if len(self.data) >= LEAST_PICTURES else None

    def gate(self, bounds: Bounds, *, intervals: bool = True) -> DecisionGate:
        """How far the decisions are from the reference's, and may be.

        Args:
            intervals: whether pictures are resampled; with fewer than `LEAST_PICTURES` they never are.
        """
        data, counts = self.data, self._counts if intervals else None
        answers = self.reference_answers, self.answers
        return measure_gate(*answers, data.targets, data.ignore, data.labels.names, bounds, counts)

    @cached_property
    def promise_kept(self) -> PromiseKept | None:
        """Whether the promise of the engine's thresholds holds; None without one, or if a logit is not finite."""
        promise = self.own.fit.promise if self.own.fit is not None else None
        if promise is None or not self.finite:
            return None
        return promise_kept(promise, self.answers, self.data.targets, self.data.ignore, self.data.labels.names)

    def labels(self) -> tuple[LabelRow, ...]:
        """AP of every label before and after, the one that moved most first; those without an AP come last."""
        moved = 100 * (self.precisions - self.reference_precisions)
        positives, _ = counts_known(self.data.targets, self.data.ignore)
        order = np.lexsort((np.arange(len(moved)), -np.nan_to_num(np.abs(moved), nan=-1)))
        return tuple(
            LabelRow(
                label=self.data.labels.names[column],
                positives=int(positives[column]),
                AP_reference=_number(self.reference_precisions[column]),
                AP=_number(self.precisions[column]),
                moved_points=_number(moved[column]),
            )
            for column in order
        )

    def by_frequency(self) -> tuple[FrequencyRow, ...]:
        """mAP of the most frequent third of the labels, of the middle, and of the rarest; none where labels are few."""
        found = []
        for part, columns, fewest, most in thirds(self.data.targets, self.data.ignore):
            known = self.reference_precisions[columns]
            before = None if np.isnan(known).all() else float(np.nanmean(known))
            after = _mean(self.precisions[columns]) if self.finite else None
            drop = None if after is None or before is None else 100 * (before - after)
            row = FrequencyRow(
                part=part,
                labels=len(columns),
                fewest=fewest,
                most=most,
                mAP_reference=before,
                mAP=after,
                drop_points=drop,
            )
            found.append(row)
        return tuple(found)

    def groups(self) -> tuple[GroupRow, ...]:
        """The accuracy of every group of labels that exclude each other, before and after."""
        grouped = self.decisions.grouped
        before = grouped.accuracy(self.reference_answers, self.reference_targets, self.reference_ignore)
        after = grouped.accuracy(self.answers, self.data.targets, self.data.ignore)
        return tuple(
            GroupRow(
                labels=now.group.labels,
                none=now.group.none,
                pictures=now.pictures,
                accuracy_reference=was.accuracy,
                accuracy=now.accuracy if self.finite else None,
            )
            for was, now in zip(before, after, strict=True)
        )

    def f1(self) -> dict[Answered, F1Scores] | None:
        """F1 by how labels are answered yes; None where a logit is not finite."""
        if not self.finite:
            return None
        found: dict[Answered, F1Tallies] = {
            name: F1Tallies(self.logits.shape[1]) for name in ("thresholds", "0.5", "top_3")
        }
        for part in row_parts(self.logits, self.answers):
            targets, ignore = self.data.targets[part], self.data.ignore[part]
            probabilities = self.decisions.probabilities(self.logits[part])
            best = top_k(probabilities, min(3, probabilities.shape[1]), ignore)
            found["thresholds"].add(targets, self.answers[part], ignore)
            found["0.5"].add(targets, self.decisions.answers(probabilities, 0.5), ignore)
            found["top_3"].add(targets, best, ignore)
        return {name: one.scores() for name, one in found.items()}

    def _same_best(self, part: slice, k: int) -> int:
        """Of how many pictures the k best labels are the reference's, as a set."""
        both = (self.scores[part], self.reference_scores[part])
        ours, theirs = (top_k(scores, k, self.data.ignore[part]) for scores in both)
        return int((ours == theirs).all(axis=1).sum())


def _mean(per_label: np.ndarray) -> float:
    if np.isnan(per_label).all():
        raise InputError("no label has both a positive and a negative picture in this split: mAP is not defined")
    return float(np.nanmean(per_label))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
