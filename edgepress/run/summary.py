"""What the students of a comparison say together: means, F1, and which methods differ beyond chance."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepress.multilabel.frequency import thirds
from edgepress.run.compared import ComparedLabel, ComparedStudent, Decided, MethodComparison, MethodSummary
from edgepress.run.measured import LEAST_LABELS, resampled
from edgepress.run.significance import Significance, against
from edgepress.run.splits import Splits


def lead(students: Sequence[ComparedStudent]) -> float | None:
    """By how many points of val mAP the teacher leads a student trained alone, which is what it can teach."""
    alone = [
        100 * (row.teacher_val_mAP - row.val_mAP)
        for row in students
        if row.method == "alone" and row.teacher_val_mAP is not None
    ]
    return statistics.mean(alone) if alone else None


def summarise(students: Sequence[ComparedStudent]) -> tuple[MethodSummary, ...]:
    """Mean and sample deviation of each method's test mAP in points, in the order of first appearance."""
    methods = []
    for name in dict.fromkeys(row.method for row in students):
        rows = [row for row in students if row.method == name]
        values = [100 * row.test_mAP for row in rows]
        methods.append(
            MethodSummary(
                method=name,
                seeds=len(rows),
                test_mAP_points=statistics.mean(values),
                deviation=statistics.stdev(values) if len(values) > 1 else None,
                val_mAP_points=statistics.mean(100 * row.val_mAP for row in rows),
                by_frequency_points=_by_frequency(rows),
                decided_points=_decided(rows),
                settings=rows[0].settings,
            )
        )
    return tuple(methods)


def _by_frequency(rows: Sequence[ComparedStudent]) -> tuple[float, ...]:
    """Means in points; none where a student of an earlier version has no such figures."""
    if not all(row.by_frequency for row in rows):
        return ()
    return tuple(100 * statistics.mean(parts) for parts in zip(*(row.by_frequency for row in rows), strict=True))


def _decided(rows: Sequence[ComparedStudent]) -> Decided | None:
    """Means in points; None where a student of an earlier version has no such figures."""
    known = [row.decided.model_dump() for row in rows if row.decided is not None]
    if len(known) < len(rows):
        return None
    return Decided(**{name: 100 * statistics.mean(one[name] for one in known) for name in known[0]})


def significance_of(record: MethodComparison, splits: Splits, kept: Path) -> tuple[Significance, ...]:
    """What tells the methods apart from the one that val likes best, and from the student alone."""
    drawn: dict[str, dict[int, np.ndarray]] = {}
    measured: dict[str, dict[int, float]] = {}
    for row in record.students:
        if (values := resampled(row.digest, splits, kept)) is not None:
            drawn.setdefault(row.method, {})[row.seed] = values
            measured.setdefault(row.method, {})[row.seed] = 100 * row.test_mAP
    most = max(row.seeds for row in record.methods)
    chosen = max((row for row in record.methods if row.seeds == most), key=lambda row: row.val_mAP_points).method
    # Of two methods the one says what the other does, with the signs turned.
    references = ("alone",) if "alone" in drawn and len(drawn) == 2 else dict.fromkeys((chosen, "alone"))
    found = (against(name, drawn, measured, len(splits.test)) for name in references if name in drawn)
    return tuple(one for one in found if one is not None)


def labels_of(splits: Splits) -> tuple[ComparedLabel, ...]:
    parts = {
        int(column): third.part
        for third in thirds(splits.test.targets, splits.test.ignore, LEAST_LABELS)
        for column in third.columns
    }
    train, test = (((one.targets == 1) & ~one.ignore).sum(axis=0).tolist() for one in (splits.train, splits.test))
    return tuple(
        ComparedLabel(label=name, train_positives=train[at], test_positives=test[at], part=parts.get(at))
        for at, name in enumerate(splits.test.labels.names)
    )
