"""Signal to noise in dB: how far a computed value is from the value it should have."""

from __future__ import annotations

import math

import numpy as np

MOST_DB = 150.0
"""No float32 value is more precise than 2^-25 of itself, which is 150 dB: equal values are reported as this."""


def signal_to_noise(reference: np.ndarray, computed: np.ndarray) -> float:
    """10·log10(Σ r² / Σ (r - c)²) in dB, from `-MOST_DB` to `MOST_DB`; see `decibels`."""
    noise = np.subtract(computed, reference, dtype=np.float64)
    return decibels(float(np.square(reference, dtype=np.float64).sum()), float(np.square(noise).sum()))


def decibels(signal_power: float, noise_power: float) -> float:
    """Ratio of two sums of squares in dB, from `-MOST_DB` to `MOST_DB`; `-MOST_DB` where one is not finite."""
    if not (math.isfinite(signal_power) and math.isfinite(noise_power)):
        return -MOST_DB
    if noise_power == 0:
        return MOST_DB
    if signal_power == 0:
        return -MOST_DB
    return min(max(10 * math.log10(signal_power / noise_power), -MOST_DB), MOST_DB)
