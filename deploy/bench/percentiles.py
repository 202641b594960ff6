"""How much a tail percentile is worth: MLPerf's early-stopping rule.

Of n calls, t took longer than x. The claim that a share p of all calls takes at most x holds with confidence c if a
machine that only just meets it would show so few slow calls with a chance of at most 1 - c:

    sum over k = 0 .. t of (n choose k) (1 - p)^k p^(n - k) <= 1 - c

Source: MLPerf Inference Rules, appendix "Early Stopping Criterion", with its tolerance d = 0 and confidence c = 0.99
(github.com/mlcommons/inference_policies, inference_rules.adoc; loadgen/early_stopping.cc in mlcommons/inference). As in
that source for one stream, t is at least 1, so p50 needs 11 calls, p90 64, p95 130 and p99 662.
"""

from __future__ import annotations

import functools
import math

import numpy as np

CONFIDENCE = 0.99


def chance_of_so_few(over: int, calls: int, share: float) -> float:
    """Chance that at most `over` of `calls` are slow, where each is fast with the chance `share`."""
    slow, fast = math.log1p(-share), math.log(share)
    everything = math.lgamma(calls + 1)
    return math.fsum(
        math.exp(everything - math.lgamma(k + 1) - math.lgamma(calls - k + 1) + k * slow + (calls - k) * fast)
        for k in range(over + 1)
    )


@functools.cache
def calls_needed(share: float, over: int = 1) -> int:
    """Fewest calls after which `over` slow ones let the percentile `share` (0.99 for p99) be claimed."""
    low = high = over + 1
    while chance_of_so_few(over, high, share) > 1 - CONFIDENCE:
        low, high = high + 1, 2 * high
    while low < high:
        middle = (low + high) // 2
        if chance_of_so_few(over, middle, share) > 1 - CONFIDENCE:
            low = middle + 1
        else:
            high = middle
    return low


def percentile(samples: np.ndarray, share: float) -> float | None:
    """The samples' percentile; None where there are too few samples to claim it."""
    return float(np.quantile(samples, share)) if len(samples) >= calls_needed(share) else None


def claimed(samples: np.ndarray, share: float) -> float | None:
    """The latency that a share of all calls does not exceed, at 99 % confidence; MLPerf reports it for one stream.

    Let t be the largest number of slow samples with which the percentile can still be claimed. The t - 1 slowest
    samples are discarded and the slowest of the rest is returned. None where even t = 1 is too many.
    """
    calls = len(samples)
    if calls < calls_needed(share):
        return None
    few, many = 1, int(calls * (1 - share)) + 2  # with `few` slow calls it can be claimed, with `many` it cannot
    while many - few > 1:
        middle = (few + many) // 2
        if chance_of_so_few(middle, calls, share) <= 1 - CONFIDENCE:
            few = middle
        else:
            many = middle
    return float(np.sort(samples)[calls - few])
