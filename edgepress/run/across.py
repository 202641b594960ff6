"""Methods over several comparisons, on other data sets, folds or students: whose mean rank is better beyond chance.

Ranks are compared as Demšar proposes (Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006).
Instead of Nemenyi's approximation for many data sets, the critical difference is computed for as many as there are:
ranks are shuffled within each comparison, and it is what the best and the worst mean rank are apart in all but 5 % of
the shuffles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from edgepress.multilabel.confidence import LEVEL
from edgepress.multilabel.errors import InputError, first_mistake
from edgepress.multilabel.plural import plural
from edgepress.run.compared import RECORD, MethodComparison, MethodSummary
from edgepress.run.result import Typed

SHUFFLES = 20_000


class MethodRank(Typed):
    """A method over all comparisons."""

    method: str
    val_rank: float
    """Mean of its ranks by val mAP, where 1 is the best; equal ones share their ranks."""
    test_rank: float
    val_mAP_points: tuple[float, ...]
    """Of each comparison, the mean over its seeds, like `test_mAP_points`."""
    test_mAP_points: tuple[float, ...]


class Across(Typed):
    """What several comparisons say together."""

    comparisons: tuple[str, ...]
    methods: tuple[MethodRank, ...]
    """Those that every comparison has, the best rank on val first."""
    left_out: tuple[str, ...]
    """Methods that a comparison lacks."""
    critical_ranks: float
    """Chance alone puts no two mean ranks as far apart, with 95 % confidence for all pairs at once."""
    told: tuple[str, ...]


def read_comparison(folder: Path) -> MethodComparison:
    """The record of a comparison's folder.

    Raises:
        InputError: there is none, it cannot be read, or it has no student.
    """
    file = folder / RECORD
    try:
        record = MethodComparison.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected the folder of `edgepress compare`") from None
    except ValidationError as error:
        raise InputError(f"{file}: not a comparison ({first_mistake(error)})") from None
    if not record.students:
        raise InputError(f"{file}: has no student yet")
    return record


def across(records: Mapping[str, MethodComparison]) -> Across:
    """Rank the methods that all comparisons have.

    Raises:
        InputError: fewer than two comparisons, or fewer than two methods that all have.
    """
    if len(records) < 2:
        raise InputError(f"received {plural(len(records), 'comparison')}; expected at least two")
    names = [[row.method for row in record.methods] for record in records.values()]
    everywhere = [name for name in names[0] if all(name in own for own in names)]
    if len(everywhere) < 2:
        raise InputError(f"the comparisons have {plural(len(everywhere), 'method')} in common; expected at least two")
    val, test = (
        np.array([[getattr(_row(one, name), field) for name in everywhere] for one in records.values()])
        for field in ("val_mAP_points", "test_mAP_points")
    )
    val_ranks, test_ranks = _ranks(val), _ranks(test)
    critical = _critical(test_ranks)
    order = np.argsort(val_ranks.mean(axis=0), kind="stable")
    methods = tuple(
        MethodRank(
            method=everywhere[at],
            val_rank=float(val_ranks[:, at].mean()),
            test_rank=float(test_ranks[:, at].mean()),
            val_mAP_points=tuple(val[:, at].tolist()),
            test_mAP_points=tuple(test[:, at].tolist()),
        )
        for at in order
    )
    return Across(
        comparisons=tuple(records),
        methods=methods,
        left_out=tuple(dict.fromkeys(name for own in names for name in own if name not in everywhere)),
        critical_ranks=critical,
        told=_told(methods, critical, len(records), most=float(np.ptp(np.sort(test_ranks, axis=1).mean(axis=0)))),
    )


def _row(record: MethodComparison, method: str) -> MethodSummary:
    return next(row for row in record.methods if row.method == method)


def _ranks(points: np.ndarray) -> np.ndarray:
    """Ranks within each row of `[comparisons, methods]`, the highest value first; equal ones share their mean."""
    above = (points[:, None, :] > points[:, :, None]).sum(axis=2)
    equal = (points[:, None, :] == points[:, :, None]).sum(axis=2)
    return above + (equal + 1) / 2


def _critical(ranks: np.ndarray) -> float:
    """How far apart the best and the worst mean rank are, in all but 5 % of the shuffles within the rows."""
    rng = np.random.default_rng(0)
    total = np.zeros((SHUFFLES, ranks.shape[1]))
    for row in ranks:
        total += rng.permuted(np.tile(row, (SHUFFLES, 1)), axis=1)
    means = total / len(ranks)
    return float(np.quantile(means.max(axis=1) - means.min(axis=1), LEVEL, method="higher"))


def _told(methods: tuple[MethodRank, ...], critical: float, comparisons: int, most: float) -> tuple[str, ...]:
    """The result in sentences; `most` is how far apart mean ranks are where all comparisons agree."""
    first, *others = methods
    worse = [one.method for one in others if one.test_rank - first.test_rank > critical]
    better = [one.method for one in others if first.test_rank - one.test_rank > critical]
    open_ = [one.method for one in others if one.method not in (*worse, *better)]
    said = [
        f"Over {plural(comparisons, 'comparison')} val ranks {first.method} first. Mean ranks on test that are more "
        f"than {critical:.2f} apart are so beyond chance (95 %, all pairs at once)"
    ]
    for names, words in ((worse, "Worse than it"), (better, "Better than it"), (open_, "Not told apart from it")):
        if names:
            said.append(f"{words}: {', '.join(names)}")
    if critical >= most:
        said.append("So few comparisons cannot tell any two methods apart by their ranks: each one's own report may")
    return tuple(said)
