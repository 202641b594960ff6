"""Changes to a float model that make INT8 cost less; each returns a float model."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepress.calibration.int8.bias import correct_biases
from edgepress.calibration.int8.equalise import equalise
from edgepress.calibration.int8.qdq import OnnxQuantizer
from edgepress.calibration.int8.ranges import Method
from edgepress.calibration.int8.rounding import round_weights
from edgepress.calibration.int8.subset import spread

TOUCHES = {"rounded": False, "equalised": False, "corrected": True}
"""Names of the touches, and whether the result depends on how ranges are set."""
PICTURES = 128
"""Largest number of calibration pictures on which weights are rounded: second moments need no more, and it is slow."""


def touched(before: OnnxQuantizer, touch: str, method: Method, images: np.ndarray) -> Any | None:
    """The float model (a ModelProto) of a quantiser after one more touch; None if there is nothing to change.

    Args:
        images: uint8 calibration pictures `[N, size, size, 3]`.
    """
    model = before.float_model
    if touch == "equalised":
        result, changed = equalise(model)
        return result if changed else None
    if touch == "rounded":
        levels = 64 if before.reduce_range else 127
        return round_weights(model, spread(images, PICTURES), before.always_float, levels=levels)
    return correct_biases(model, lambda _: before.quantized(method), images)
