"""The binomial distribution in numpy alone: what an error rate may be after so many errors in so many trials."""

from __future__ import annotations

import math

import numpy as np

_HALVINGS = 60
_FRACTIONS = 2000
"""Most terms of the continued fraction; it needs about √trials."""
_TINY = 1e-300


def binomial_cdf(count, trials, share) -> np.ndarray:
    """P(X ≤ count) of X ~ Binomial(trials, share), float64, elementwise; 1 where count is at least trials.

    By the regularised incomplete beta function, I(1 − share; trials − count, count + 1), as a continued fraction
    (Lentz's method; DLMF 8.17.22).

    Args:
        count: whole numbers, below 0 gives 0.
        trials: whole numbers of at least 0.
        share: in [0, 1].

    Example:
        >>> float(binomial_cdf(0, 29, 0.1).round(4))  # 29 trials, no error
        0.0471
    """
    count, trials, share = np.broadcast_arrays(np.asarray(count), np.asarray(trials), np.asarray(share, np.float64))
    result = np.where(count >= trials, 1.0, 0.0)
    inside = (count >= 0) & (count < trials)
    result[inside & (share <= 0)] = 1.0
    inside &= (share > 0) & (share < 1)
    k, n, p = (values[inside] for values in (count, trials, share))
    result[inside] = _incomplete_beta(n - k, k + 1, 1 - p)
    return result


def share_interval(count, trials, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the exact interval of a share (Clopper and Pearson 1934), float64; 0 to 1 without a trial.

    Args:
        count: how many of `trials` had it; whole numbers, as are the trials.
        confidence: of both ends together.
    """
    count, trials = np.broadcast_arrays(np.asarray(count), np.asarray(trials))
    tail = (1 - confidence) / 2
    high = np.where(count >= trials, 1.0, _share_at(count, trials, tail))
    low = np.where(count <= 0, 0.0, 1 - _share_at(trials - count, trials, tail))
    return low, high


def most_errors(trials: int, rate: float, risk: float) -> int:
    """The most errors in so many trials with which the error rate is shown to be at most `rate`; -1 where none is.

    Were the rate higher, so few errors would be seen with a probability of at most `risk`: the exact one-sided test.

    Example:
        >>> most_errors(28, 0.1, 0.05), most_errors(29, 0.1, 0.05), most_errors(100, 0.1, 0.05)
        (-1, 0, 4)
    """
    chances = binomial_cdf(np.arange(trials + 1), trials, rate)
    return int((chances <= risk).sum()) - 1


def fewest_trials(rate: float, risk: float) -> int:
    """The fewest trials with which an error rate of at most `rate` can be shown at all: those without an error.

    Example:
        >>> fewest_trials(0.1, 0.05)
        29
    """
    trials = max(math.ceil(math.log(risk) / math.log1p(-rate)) - 1, 1)  # rounding may be one off
    while most_errors(trials, rate, risk) < 0:
        trials += 1
    return trials


def _share_at(count: np.ndarray, trials: np.ndarray, tail: float) -> np.ndarray:
    """The share with which at most `count` are seen with probability `tail`: the cdf falls with the share."""
    low, high = np.zeros(count.shape), np.ones(count.shape)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = binomial_cdf(count, trials, middle) > tail
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high


def _incomplete_beta(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """I(x; a, b) of whole a and b of at least 1, and x in (0, 1)."""
    if not len(a):
        return np.zeros(0)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, int((a + b).max()))))])  # of factorials
    front = np.exp(logs[a + b - 1] - logs[a - 1] - logs[b - 1] + a * np.log(x) + b * np.log1p(-x))
    turned = x > (a + 1) / (a + b + 2)  # the fraction converges fast below its mean
    p, q, z = np.where(turned, b, a), np.where(turned, a, b), np.where(turned, 1 - x, x)
    value = front * _fraction(p, q, z) / p
    return np.clip(np.where(turned, 1 - value, value), 0, 1)


def _fraction(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    def kept_from_zero(values: np.ndarray) -> np.ndarray:
        return np.where(np.abs(values) < _TINY, _TINY, values)

    c, d = np.ones(x.shape), 1 / kept_from_zero(1 - (a + b) * x / (a + 1))
    value = d.copy()
    for m in range(1, _FRACTIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = np.ones(x.shape)
        for step in (even, odd):
            d = 1 / kept_from_zero(1 + step * d)
            c = kept_from_zero(1 + step / c)
            change = c * d
            value = value * change
        if np.abs(change - 1).max() < 1e-14:
            break
    return value
