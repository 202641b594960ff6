"""Pictures that a converted model is tried on: random, and as smooth as photographs."""

from __future__ import annotations

import numpy as np

COLOURS = 7
"""Random colours along each side, between which a picture changes evenly."""


def trial_pictures(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Pictures of gradients between random colours, uint8 `[count, height, width, channels]`.

    A random colour for every pixel, or sharp edges, would be unlike photographs: activations of some networks grow a
    thousandfold then, and two runtimes differ by rounding alone (an untrained EfficientNet-B2 in ncnn by 1.9 on noise,
    0.001 on patches of colour, 0.000001 on gradients and 0.00002 on photographs).

    Example:
        >>> trial_pictures(np.random.default_rng(0), 2, (8, 12, 3)).shape
        (2, 8, 12, 3)
    """
    height, width, channels = shape
    colours = rng.integers(0, 256, (count, COLOURS, COLOURS, channels)).astype(np.float32)
    return _stretched(_stretched(colours, 1, height), 2, width).round().astype(np.uint8)


def _stretched(pictures: np.ndarray, axis: int, side: int) -> np.ndarray:
    """An axis with `side` values, linearly between those that it has."""
    at = np.linspace(0, COLOURS - 1, side, dtype=np.float32)
    first = np.minimum(at.astype(int), COLOURS - 2)
    share = np.expand_dims(at - first, tuple(range(1, pictures.ndim - axis)))
    return pictures.take(first, axis) * (1 - share) + pictures.take(first + 1, axis) * share
