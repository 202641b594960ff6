"""The range in which an INT8 graph stores the output of a softmax."""

from __future__ import annotations


def softmax_range(highest: float, positions: int) -> tuple[float, float]:
    """From 0 to `highest`, the largest value measured, or to twice the value of each position if all are equal.

    If the range of flat attention is as narrow as was measured, ONNX Runtime up to 1.31.1 returns zeros (its
    QLinearSoftmax, if 255 · scale · positions is at most 1.7; 1.32.0 is right).

    Args:
        positions: over how many positions the softmax distributes its 1.
    """
    return 0.0, max(highest, min(2 / positions, 1.0))
