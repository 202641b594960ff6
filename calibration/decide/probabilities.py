"""From logits to calibrated probabilities: of the pictures that are given 0.7, seven in ten show the label.

Every label has its own calibrator, shrunk towards one fit over the cells of all labels, because a label with two
positives is weak evidence. The pooled fit counts for `SHRINKAGE` positives:

- Slope and offset are a maximum a posteriori estimate. The prior is a Gaussian around the pooled fit, with the
  information of `SHRINKAGE` positives of the pooled cells: a unit information prior (Kass & Wasserman 1995) times their
  number. The pooled fit has the same prior around slope 1 and offset 0, so cells that separate perfectly stay finite.
- Steps, which have no such information matrix, are averaged with the pooled fit: the label's own steps have weight
  n / (n + SHRINKAGE) (Bühlmann's credibility, 1967), where n is the number of the label's rarer answer.

A label without a positive, or without a negative, keeps the pooled fit.
"""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np

from edgepress.multilabel.decisions import Affine, Isotonic, Method
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.metrics import sigmoid

METHODS: tuple[Method, ...] = get_args(Method)
"""The methods, with the simplest first."""
SHRINKAGE = 10.0
"""Number of positives that the fit over all labels counts for in each label's fit. Among 3, 10, 30, 100 and 300, it was
best on val, where each picture is judged by a fit that did not see it: it had the least log loss in five of six tries
(three students, 500 and 160 pictures)."""
BINS = 15
"""Number of bins of the calibration error, as in Guo et al. 2017."""
MOST_STEPS = 16
"""Largest number of steps in an isotonic fit; the steps that are cheapest to merge are merged down to this number."""
MIN_SLOPE = 0.05
"""A label whose scores say nothing, or the opposite, is not reversed: it becomes flat, and its order is kept."""

DECREMENT = 1e-9
"""The fit ends when Newton's step would lower a label's summed loss by less than this, which rounding hides."""


def fit_probabilities(logits, targets, ignore, method: Method) -> Affine | Isotonic:
    """Fit a calibrator by maximum likelihood, with the shrinkage described in the module's docstring.

    Args:
        logits: `[N, C]`.
        targets: `[N, C]` in {0, 1}.
        ignore: bool `[N, C]`, or None; true cells count as neither positive nor negative.
        method: one of `METHODS`.

    Raises:
        InputError: no label is shown by one picture and absent from another, so there is nothing to fit.
    """
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    labels = logits.shape[1]
    known = np.ones(logits.shape, bool) if ignore is None else ~np.asarray(ignore, bool)
    if method == "none":
        return Affine(method="none", slopes=(1.0,) * labels, offsets=(0.0,) * labels)
    rarer = rarer_answer(targets, known)
    if not rarer.any():
        raise InputError(
            "no label has both a picture that shows it and one that lacks it: nothing to calibrate on; take a larger "
            "split, or the probabilities none"
        )
    free = np.array([True, method != "temperature"])
    cells = logits[known][:, None], targets[known][:, None], np.ones((int(known.sum()), 1), bool)
    count = rarer_answer(cells[1], cells[2])[0] / SHRINKAGE
    identity = np.array([[1.0, 0.0]])
    pooled = _fit_affine(*cells, identity, _information(cells[0], cells[2], identity) / count, free)
    if method == "isotonic":
        weights = credibility(rarer)
        knots = [
            _knots(logits[known[:, column], column], targets[known[:, column], column]) if weights[column] else ()
            for column in range(labels)
        ]
        slopes, offsets = np.repeat(pooled, labels, axis=0).T.tolist()
        return Isotonic(
            slopes=tuple(slopes), offsets=tuple(offsets), weights=tuple(weights.tolist()), knots=tuple(knots)
        )
    prior = _information(cells[0], cells[2], pooled) / count
    centre = np.repeat(pooled, labels, axis=0)
    own = _fit_affine(logits, targets, known, centre, np.repeat(prior, labels, axis=0), free)
    slopes, offsets = np.where(rarer[:, None] > 0, own, pooled).T.tolist()
    return Affine(method=method, slopes=tuple(slopes), offsets=tuple(offsets))


def rarer_answer(targets: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Number of pictures with the rarer of a label's two answers, int64 `[C]`."""
    positives = ((targets == 1) & known).sum(axis=0)
    return np.minimum(positives, known.sum(axis=0) - positives)


def credibility(rarer: np.ndarray) -> np.ndarray:
    """Weight of a label's own fit against the pooled one, n / (n + SHRINKAGE), in [0, 1)."""
    return rarer / (rarer + SHRINKAGE)


def expected_calibration_error(targets, probabilities, ignore=None, bins: int = BINS) -> np.ndarray:
    """ECE of each label, float64 `[C]`: Σ_b n_b/n·|mean p − share of positives|; NaN for a label without a known cell.

    Guo et al. 2017, equation 3 (after Naeini et al. 2015), on the probability of the label and with bins of equal mass
    rather than equal width, because multi-label scores crowd near 0. Equal scores share a bin, so their order cannot
    matter. For the error pooled over labels, pass all cells as one column.
    """
    result = []
    for predicted, observed, counts in reliability(targets, probabilities, ignore, bins):
        gap = np.abs(predicted - observed)
        result.append(float((counts * gap).sum() / counts.sum()) if counts.sum() else float("nan"))
    return np.array(result)


def calibration_noise(probabilities, ignore=None, bins: int = BINS) -> np.ndarray:
    """ECE that each label would show by chance if its probabilities were exactly right, float64 `[C]`.

    A bin of n pictures with λ = Σp positives in the mean adds E|X − λ| / N, where X is the number of actual positives:
    for λ ≤ 1 exactly 2λ·Π(1 − p), else the normal approximation √(2/π·Σp(1 − p)). No calibration gets far below it:
    on a few hundred pictures, a label cannot be distinguished from a perfect one.
    """
    probabilities = np.asarray(probabilities, np.float64)
    known = np.ones(probabilities.shape, bool) if ignore is None else ~np.asarray(ignore, bool)
    result = np.full(probabilities.shape[1], np.nan)
    for column in range(probabilities.shape[1]):
        p = probabilities[known[:, column], column]
        if len(p):
            place = _bin(p, bins)
            mean, variance, none = (
                np.bincount(place, weights, minlength=bins)
                for weights in (p, p * (1 - p), np.log1p(-np.minimum(p, 1 - 1e-12)))
            )
            result[column] = np.where(mean <= 1, 2 * mean * np.exp(none), np.sqrt(2 / np.pi * variance)).sum() / len(p)
    return result


def reliability(
    targets, probabilities, ignore=None, bins: int = BINS
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each label, its bins of equal mass: mean probability, share of positives, number of pictures; `[<= bins]`."""
    targets, probabilities = np.asarray(targets, np.float64), np.asarray(probabilities, np.float64)
    known = np.ones(targets.shape, bool) if ignore is None else ~np.asarray(ignore, bool)
    result = []
    for column in range(targets.shape[1]):
        scores, answers = probabilities[known[:, column], column], targets[known[:, column], column]
        place = _bin(scores, bins)
        counts = np.bincount(place, minlength=bins)
        used = counts > 0
        sums = [np.bincount(place, weights, minlength=bins)[used] for weights in (scores, answers)]
        result.append((sums[0] / counts[used], sums[1] / counts[used], counts[used]))
    return result


def _bin(scores: np.ndarray, bins: int) -> np.ndarray:
    """The bin of equal mass into which each score falls; equal scores have one rank, and therefore one bin."""
    return np.searchsorted(np.sort(scores), scores) * bins // max(len(scores), 1)


def log_loss(targets, probabilities, ignore=None) -> float:
    """Mean of −log p(the right answer) over the known cells; p is kept 1e-12 away from 0 and 1."""
    targets = np.asarray(targets)
    right = np.where(targets == 1, probabilities, 1 - np.asarray(probabilities, np.float64))
    known = np.ones(targets.shape, bool) if ignore is None else ~np.asarray(ignore, bool)
    return float(-np.log(np.clip(right[known], 1e-12, 1)).mean())


def _information(logits: np.ndarray, known: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Fisher information of slope and offset, `[C, 2, 2]`: Σ p(1−p)·[z², z; z, 1]."""
    p = sigmoid(logits * theta[:, 0] + theta[:, 1])
    weight = p * (1 - p) * known
    squared, mixed, alone = ((weight * power).sum(axis=0) for power in (logits**2, logits, 1.0))
    return np.stack([squared, mixed, mixed, alone], axis=-1).reshape(-1, 2, 2)


def _fit_affine(
    logits: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray,
    centre: np.ndarray,
    prior: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """Slope and offset `[C, 2]` that minimise log loss + ½(θ − centre)ᵀ prior (θ − centre); slope ≥ MIN_SLOPE.

    The loss is convex: the minimum under a bound on one parameter is inside, or on the bound.
    """
    prior = prior + 1e-6 * np.eye(2)  # cells that are all certain contain no information
    theta = _newton(logits, targets, known, centre, centre, prior, np.broadcast_to(free, centre.shape))
    bound = theta[:, 0] < MIN_SLOPE
    if bound.any():
        theta[bound, 0] = MIN_SLOPE
        inner = np.broadcast_to(free & [False, True], (int(bound.sum()), 2))
        some = logits[:, bound], targets[:, bound], known[:, bound]
        theta[bound] = _newton(*some, theta[bound], centre[bound], prior[bound], inner)
    return theta


def _newton(
    logits: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray,
    start: np.ndarray,
    centre: np.ndarray,
    prior: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """Newton's method for all labels at once; a label's step is halved until it does not increase its loss."""

    def loss(theta: np.ndarray) -> np.ndarray:
        value = logits * theta[:, 0] + theta[:, 1]
        off = theta - centre
        cells = np.logaddexp(0, np.where(targets == 1, -value, value))
        return (cells * known).sum(axis=0) + 0.5 * np.einsum("ci,cij,cj->c", off, prior, off)

    theta, best = start.copy(), loss(start)
    fixed = ~free
    for _ in range(50):
        error = (sigmoid(logits * theta[:, 0] + theta[:, 1]) - targets) * known
        gradient = np.stack([(error * logits).sum(axis=0), error.sum(axis=0)], axis=-1)
        gradient += np.einsum("cij,cj->ci", prior, theta - centre)
        hessian = _information(logits, known, theta) + prior
        gradient[fixed] = 0
        hessian[fixed[:, :, None] | fixed[:, None, :]] = 0
        hessian += np.eye(2) * fixed[:, :, None]
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        near = (gradient * step).sum(axis=1) < DECREMENT  # computed before the step is halved
        for _ in range(30):
            after = loss(theta - step)
            worse = after > best + DECREMENT
            if not worse.any():
                break
            step[worse] /= 2
        theta, best = theta - step, after
        if near.all():
            break
    return theta


def _knots(scores: np.ndarray, answers: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The isotonic regression of answers on scores, given by the two ends of each step.

    Pool adjacent violators (Ayer et al. 1955; for calibration Zadrozny & Elkan 2002).
    """
    low, where, mass = np.unique(scores, return_inverse=True, return_counts=True)
    total = np.bincount(where, answers)
    # Two neighbours can only be separated where the answer rises: the runs between are already steps.
    first = np.flatnonzero(np.append(True, np.diff(total / mass) > 0))
    last = np.append(first[1:], len(low)) - 1
    steps: list[list[float]] = []  # lowest score, highest score, positives, pictures
    runs = zip(low[first], low[last], np.add.reduceat(total, first), np.add.reduceat(mass, first), strict=True)
    for run in runs:
        steps.append([float(value) for value in run])
        while len(steps) > 1 and steps[-2][2] * steps[-1][3] >= steps[-1][2] * steps[-2][3]:
            _merge(steps, len(steps) - 2)
    while len(steps) > MOST_STEPS:
        _merge(steps, int(np.argmin([_cost(*pair) for pair in pairwise(steps)])))
    return tuple((end, step[2] / step[3]) for step in steps for end in dict.fromkeys(step[:2]))


def _merge(steps: list[list[float]], place: int) -> None:
    low, high = steps[place], steps.pop(place + 1)
    steps[place] = [low[0], high[1], low[2] + high[2], low[3] + high[3]]


def _cost(low: list[float], high: list[float]) -> float:
    """The amount by which merging two steps increases the squared error."""
    return low[3] * high[3] / (low[3] + high[3]) * (high[2] / high[3] - low[2] / low[3]) ** 2
