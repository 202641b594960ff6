"""Pictures that a converted model is tried on: random, and as smooth as photographs."""

from __future__ import annotations

import numpy as np

PATCHES = 6
"""Patches of one colour along each side."""


def trial_pictures(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Pictures of patches of random colours, uint8 `[count, height, width, channels]`.

    A colour for every pixel would be unlike any photograph: on such noise the activations of some networks grow a
    thousandfold, and then two runtimes differ by rounding alone (an untrained EfficientNet-B2 in ncnn by 1.9, where it
    is 0.0001 on patches and 0.00002 on photographs).

    Example:
        >>> trial_pictures(np.random.default_rng(0), 2, (8, 12, 3)).shape
        (2, 8, 12, 3)
    """
    height, width, channels = shape
    colours = rng.integers(0, 256, (count, PATCHES, PATCHES, channels), np.uint8)
    rows, columns = (np.arange(side) * PATCHES // side for side in (height, width))
    return colours[:, rows][:, :, columns]
