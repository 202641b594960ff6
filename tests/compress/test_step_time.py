"""The time of a step is measured, and grows with the student's input."""

from __future__ import annotations

from edgepress.compress.config import DistillConfig
from edgepress.compress.step_time import step_seconds
from edgepress.multilabel.labels import LabelSpace


def test_a_larger_input_takes_longer():
    labels = LabelSpace(["a", "b", "c"])
    given = {"backbone": "test_efficientnet", "width": 32, "batch_size": 4, "weights": "none"}
    small, large = (step_seconds(DistillConfig(**given, size=size), labels) for size in (32, 256))
    assert 0 < small < large
