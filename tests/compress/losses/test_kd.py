"""Binary knowledge distillation against a plain loop of its formula."""

from __future__ import annotations

import pytest
from hypothesis import given
from torch import Tensor

from edgepress.compress.losses import (
    BinaryKD,
    MultiLabelLogitsDistillation,
)
from tests.compress.losses.loss_batches import (
    assert_same,
    cells_of,
    few,
    logit_batches,
    value_and_gradient,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def kd_by_loop(student: Tensor, teacher: Tensor, targets: Tensor, ignore: Tensor | None, temperature: float) -> Tensor:
    total = student.sum() * 0
    for i, c in cells_of(targets, ignore):
        p, q = (teacher[i, c] / temperature).sigmoid(), (student[i, c] / temperature).sigmoid()
        total = total + p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return total * temperature**2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@few
@given(batch=logit_batches())
def test_binary_kd_is_the_formula(temperature, batch):
    student, teacher, targets, ignore = batch
    expected = value_and_gradient(lambda z: kd_by_loop(z, teacher, targets, ignore, temperature), student)
    published = value_and_gradient(BinaryKD(temperature, "published"), *batch)
    assert_same(published, tuple(part / len(student) for part in expected))
    count = max(len(cells_of(targets, ignore)), 1)
    assert_same(value_and_gradient(BinaryKD(temperature), *batch), tuple(part / count for part in expected))
    if temperature == 1:
        assert_same(published, value_and_gradient(MultiLabelLogitsDistillation("published"), *batch))
