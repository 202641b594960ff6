"""One threshold per label on its calibrated probability, and the decisions that result from both.

`f1` chooses the threshold with the highest F1, `recall=R` the highest one with at least that recall, `precision=P` the
lowest one with at least that precision (so that recall is highest; a label that cannot reach it is never answered yes),
and `fixed=T` is T for every label. The search over the midpoints between distinct scores is exact. With a promise
(`recall=R@C%`) new pictures keep it too: see `calibration.decide.promises`.

A rare label's few positives are not trusted alone: an answer y is replaced by w·y + (1 − w)·p, where p is the
calibrated probability and w = n / (n + SHRINKAGE), as in `calibration.decide.probabilities`. As w falls, this nears
the plug-in rule, which maximises the expectation under the probabilities (Koyejo et al. 2014; Lipton et al. 2014): p is
itself shrunk towards all labels. Averaging thresholds with one over all labels did worse: it suits the frequent labels,
and is too high for the weak ones. A label without a positive keeps 0.5 and is named.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgepress.calibration.decide.criterion import Criterion
from edgepress.calibration.decide.probabilities import (
    METHODS,
    MIN_SLOPE,
    SHRINKAGE,
    credibility,
    expected_calibration_error,
    fit_probabilities,
    log_loss,
    rarer_answer,
)
from edgepress.calibration.decide.promises import promise_of, promised_threshold, require_enough
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import SILENT, Decisions, Fit, Method, Promise
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.grouped import UNGROUPED, GroupedLabels
from edgepress.multilabel.metrics import decide, sigmoid, told_constant
from edgepress.multilabel.plural import plural

log = logging.getLogger("edgepress")
DEFAULT = 0.5
"""The threshold of a label that no picture shows: its F1, recall and precision are unknown."""

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Thresholds:
    """One threshold per label, and what could not be reached."""

    values: np.ndarray
    """Thresholds, float64 `[C]`."""
    unreached: dict[int, float]
    """Labels (columns) without a threshold that meets the target, and the best value reached; these are never yes."""
    promise: Promise | None = None


class Curve(NamedTuple):
    """What one label's decisions achieve at every threshold that changes one, rising; each field is float64 `[K]`."""

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def threshold_curve(targets: np.ndarray, scores: np.ndarray) -> Curve:
    """Precision, recall and F1 of one label, below the lowest score and at the midpoints between distinct scores `[N]`.

    A threshold is a score itself only if unavoidable, because the last bit of an engine would change that answer.

    Args:
        targets: `[N]` in [0, 1]; a value between the two is the share of a positive that a picture counts for.

    Raises:
        ValueError: the targets sum to 0, so recall is undefined.
    """
    if not targets.any():
        raise ValueError("no picture shows this label: recall and F1 are not defined")
    distinct, where = np.unique(scores, return_inverse=True)
    middle = (distinct[:-1] + distinct[1:]) / 2
    # No number lies between two neighbouring floating-point numbers: there the upper one is the threshold.
    middle = np.where(middle > distinct[:-1], middle, distinct[1:])
    # Scores at or above a threshold are counted from the top.
    predicted = np.bincount(where)[::-1].cumsum()[::-1]
    hit = np.bincount(where, targets)[::-1].cumsum()[::-1]
    total = hit[0]  # not the targets' own sum, which may be rounded otherwise: recall is 1 if all are predicted
    lowest = np.minimum(distinct[:1] / 2, distinct[:1])
    return Curve(np.append(lowest, middle), hit / predicted, hit / total, 2 * hit / (predicted + total))


def best_threshold(
    targets: np.ndarray, scores: np.ndarray, criterion: Criterion, believed: np.ndarray | None = None
) -> tuple[float, float | None]:
    """Find the threshold of one label by a criterion; it comes with None, or is `SILENT` with the best value reached.

    A precision is asked for because a wrong yes costs more than no answer: the threshold of the best precision, however
    low that is, would answer yes against this wish.

    Args:
        targets: `[N]` in {0, 1}, with a positive.
        believed: `[N]` in [0, 1], what the targets are shrunk to; F1 is computed on it. A recall or a precision that
            was requested must hold for the targets, and where they are few also for what is believed.
    """
    seen = threshold_curve(targets, scores)
    curve = seen if believed is None else threshold_curve(believed, scores)
    if criterion.name == "f1":
        return float(curve.thresholds[np.argmax(curve.f1)]), None
    if criterion.name == "recall":  # recall only falls with the threshold, and is 1 at the lowest one
        both = np.minimum(curve.recall, seen.recall)
        return float(curve.thresholds[np.flatnonzero(both >= criterion.value)[-1]]), None
    precision = np.minimum(curve.precision, seen.precision)
    reached = np.flatnonzero(precision >= criterion.value)
    if len(reached):
        return float(curve.thresholds[reached[0]]), None
    return SILENT, float(precision.max())


def fit_thresholds(
    targets, probabilities, ignore, criterion: Criterion, grouped: GroupedLabels = UNGROUPED
) -> Thresholds:
    """A threshold for each column of `[N, C]`, with the shrinkage described above; 0.5 for a label without a positive,
    and 0 for one of a `one_of` group, of which the most probable label is answered yes in any case.

    Args:
        targets: `[N, C]` in {0, 1}.
        probabilities: `[N, C]`, calibrated.
        ignore: bool `[N, C]`, or None.
        grouped: label groups over the columns.
    """
    targets, probabilities = np.asarray(targets), grouped.raised(np.asarray(probabilities, np.float64))
    known = np.ones(targets.shape, bool) if ignore is None else ~np.asarray(ignore, bool)
    if criterion.name == "fixed":
        return Thresholds(np.full(targets.shape[1], criterion.value), {})
    if criterion.promise is not None:
        return _promised_thresholds(targets, probabilities, known, criterion)
    weights = credibility(rarer_answer(targets, known))
    values, unreached = np.full(targets.shape[1], DEFAULT), {}
    for column, weight in enumerate(weights):
        answers, scores = targets[known[:, column], column], probabilities[known[:, column], column]
        if grouped and grouped.always_one[column]:
            values[column] = 0.0
        elif answers.any():
            believed = weight * answers + (1 - weight) * scores
            values[column], best = best_threshold(answers, scores, criterion, believed)
            if best is not None:
                unreached[column] = best
    return Thresholds(values, unreached)


def _promised_thresholds(
    targets: np.ndarray, probabilities: np.ndarray, known: np.ndarray, criterion: Criterion
) -> Thresholds:
    assert criterion.promise is not None
    risk = criterion.promise.risk(targets.shape[1])
    found = [
        promised_threshold(targets[keep, column], probabilities[keep, column], criterion.promise, risk)
        for column, keep in enumerate(known.T)
    ]
    values = np.array([one.threshold for one in found])
    unreached = {column: one.best for column, one in enumerate(found) if one.best is not None}
    return Thresholds(values, unreached, promise_of(criterion.promise, found))


def fit_decisions(
    logits: np.ndarray, data: MultiLabelDataset, thresholds: str = "f1", probabilities: str = "auto"
) -> Decisions:
    """Fit calibrators and thresholds on a split's logits `[N, C]`, in the order of its pictures and labels.

    `auto` chooses the calibrator with the least log loss, where each picture is judged by a fit that did not see it;
    among equals, it chooses the simplest.

    Raises:
        InputError: there are fewer than two pictures, logits are not finite, no label has both answers, or a
            criterion or method is unknown.
    """
    criterion = Criterion.parse(thresholds)
    if probabilities not in ("auto", *METHODS):
        raise InputError(f"probabilities: received {probabilities!r}; expected one of auto, {', '.join(METHODS)}")
    where = f"{data.root}, split {data.split!r}"
    if len(data) < 2:
        raise InputError(f"{where}: {plural(len(data), 'picture')}; expected at least 2")
    if not (finite := np.isfinite(logits).all(axis=1)).all():
        raise InputError(
            f"{where}: {plural(int((~finite).sum()), 'picture')} of {len(data)} with logits that are NaN or infinite, "
            f"the first of {data.paths[int(np.argmin(finite))]}; take another engine, or make this one again in a "
            "higher precision"
        )
    if criterion.promise is not None:
        require_enough(criterion.promise, data, where)
    if said := told_constant(logits, data.labels.names):
        log.warning("%s: %s", where, said)
    cells = np.asarray(data.scores(logits), np.float64), data.targets, data.ignore
    asked: tuple[Method, ...] = METHODS if probabilities == "auto" else (probabilities,)  # type: ignore[assignment]
    unseen = {method: cross_fitted(*cells, method, criterion, data.grouped)[0] for method in asked}
    losses = {method: log_loss(data.targets, p, data.ignore) for method, p in unseen.items()}
    method = min(asked, key=lambda method: losses[method])
    calibrator = fit_probabilities(*cells, method)
    fitted = fit_thresholds(data.targets, calibrator(cells[0]), data.ignore, criterion, data.grouped)
    before, after = (
        float(np.nanmean(expected_calibration_error(data.targets, p, data.ignore)))
        for p in (sigmoid(cells[0]), unseen[method])
    )
    _tell_unfitted(fitted, data, thresholds, where)
    names = data.labels.names
    return Decisions(
        labels=names,
        thresholds=tuple(fitted.values.tolist()),
        calibrator=calibrator,
        groups=data.groups,
        fit=Fit(
            thresholds=thresholds,
            probabilities=probabilities,
            split=data.split,
            fingerprint=data.fingerprint(),
            pictures=len(data),
            positives=tuple(((data.targets == 1) & ~data.ignore).sum(axis=0).tolist()),
            unreached=_unreached(fitted, data),
            ece_before=before,
            ece_after=after,
            promise=fitted.promise,
        ),
    )


def promise_again(decisions: Decisions, logits: np.ndarray, data: MultiLabelDataset, *, tell: bool = True) -> Decisions:
    """The decisions of another engine of a model, with thresholds that keep the model's promise by the engine's own
    answers; unchanged where the model promises nothing.

    Args:
        decisions: the engine's, as `align_decisions` gives them.
        logits: the engine's `[N, C]`, in the order of the pictures and labels of `data`.
        tell: whether labels that cannot keep it are named in the log.

    Raises:
        InputError: the split has too few pictures for the promise; see `require_enough`.
    """
    fit = decisions.fit
    if fit is None or fit.promise is None:
        return decisions
    where, criterion = f"{data.root}, split {data.split!r}", Criterion.parse(fit.thresholds)
    assert criterion.promise is not None
    require_enough(criterion.promise, data, where)
    fitted = fit_thresholds(data.targets, decisions.probabilities(logits), data.ignore, criterion)
    if tell:
        _tell_unfitted(fitted, data, fit.thresholds, where)
    changes = {
        "split": data.split,
        "fingerprint": data.fingerprint(),
        "pictures": len(data),
        "positives": tuple(((data.targets == 1) & ~data.ignore).sum(axis=0).tolist()),
        "unreached": _unreached(fitted, data),
        "promise": fitted.promise,
    }
    found = {"thresholds": tuple(fitted.values.tolist()), "fit": fit.model_copy(update=changes)}
    return decisions.model_copy(update=found)


def _unreached(fitted: Thresholds, data: MultiLabelDataset) -> dict[str, float]:
    """The labels that cannot reach what was asked for, with the best value that each reaches."""
    return {data.labels.names[column]: best for column, best in fitted.unreached.items()}


def _tell_unfitted(fitted: Thresholds, data: MultiLabelDataset, thresholds: str, where: str) -> None:
    """Say which labels have no threshold of their own, and which cannot reach what was asked for."""
    names = data.labels.names
    positives = ((data.targets == 1) & ~data.ignore).any(axis=0)
    never = [name for name, some in zip(names, positives, strict=True) if not some]
    if never and Criterion.parse(thresholds).name != "fixed":
        log.warning("%s: no picture shows %s: the threshold there is %g", where, shown(never), DEFAULT)
    if unreached := _unreached(fitted, data):
        log.warning(
            "%s: %s cannot be reached on %s, so %s silent (the best that each reaches): %s",
            f"{len(unreached)} of {len(names)} labels",
            *(thresholds, where, "it stays" if len(unreached) == 1 else "they stay"),
            shown(f"{name} ({best:.3f})" for name, best in unreached.items()),
        )


def align_decisions(decisions: Decisions, reference: np.ndarray, logits: np.ndarray) -> Decisions:
    """Decisions for another engine of the same model, which agree with the model's as closely as its logits allow.

    Each label's logits are mapped to the model's by a line, fitted by least squares on the same pictures, and then
    the model's calibrator and thresholds apply. A picture weighs p(1 − p) of the model's probability, because where the
    answer is certain a difference changes nothing; the line counts N / (N + SHRINKAGE) against the identity. Targets
    are not used: thresholds chosen afresh for INT8 change more decisions than INT8 itself does, because on a few
    hundred pictures the best F1 moves by chance.

    Args:
        decisions: the model's decisions.
        reference: the model's logits `[N, C]`.
        logits: the engine's logits for the same pictures.
    """
    p = decisions.calibrator(decisions.scores(np.asarray(reference, np.float64)))
    weights = p * (1 - p) + np.finfo(np.float64).tiny  # if all are certain, any line will do
    x, y = (decisions.scores(np.asarray(values, np.float64)) for values in (logits, reference))
    mean_x, mean_y = ((weights * values).sum(axis=0) / weights.sum(axis=0) for values in (x, y))
    spread = (weights * (x - mean_x) ** 2).sum(axis=0)
    together = (weights * (x - mean_x) * (y - mean_y)).sum(axis=0)
    slopes = np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)
    credible = len(x) / (len(x) + SHRINKAGE)
    # A label whose logits are unrelated to the model's is left as it is.
    sound = slopes > MIN_SLOPE
    offsets = np.where(sound, credible * (mean_y - slopes * mean_x), 0.0)
    slopes = np.where(sound, credible * slopes + 1 - credible, 1.0)
    aligned = decisions.calibrator.after(slopes, offsets)
    return decisions.model_copy(update={"calibrator": aligned, "refitted_from": decisions})


def decisions_again(
    decisions: Decisions, reference: np.ndarray, logits: np.ndarray, data: MultiLabelDataset, *, tell: bool = True
) -> Decisions:
    """A model's fitted decisions for another engine of it: aligned to the model's, and with its promise kept.

    Args:
        reference: the model's logits `[N, C]`, in the order of the pictures and labels of `data`, as are the engine's.
        tell: see `promise_again`.

    Raises:
        InputError: see `promise_again`.
    """
    return promise_again(align_decisions(decisions, reference, logits), logits, data, tell=tell)


def cross_fitted(
    logits: np.ndarray,
    targets: np.ndarray,
    ignore: np.ndarray,
    method: Method,
    criterion: Criterion,
    grouped: GroupedLabels = UNGROUPED,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float64 and decisions bool `[N, C]`; each picture's are from a fit on the other folds.

    Args:
        logits: `[N, C]`; with groups the log-odds that they give.
        grouped: groups that no decision contradicts.
    """
    probabilities, decisions = np.zeros(logits.shape), np.zeros(logits.shape, bool)
    for rest, fold in _folds(len(logits)):
        calibrator = fit_probabilities(logits[rest], targets[rest], ignore[rest], method)
        thresholds = fit_thresholds(targets[rest], calibrator(logits[rest]), ignore[rest], criterion, grouped)
        probabilities[fold] = grouped.raised(calibrator(logits[fold]))
        decisions[fold] = grouped.settled(probabilities[fold], decide(probabilities[fold], thresholds.values))
    return probabilities, decisions


def _folds(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(the rest, the fold) of pictures, in an order that is drawn once for all calls."""
    order = np.random.default_rng(0).permutation(count)
    for fold in np.array_split(order, min(FOLDS, count)):
        yield np.setdiff1d(order, fold), fold
