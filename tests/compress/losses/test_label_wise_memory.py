"""The dense gradient of label-wise embeddings takes memory for the rows that are compared alone."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from edgepress.compress.losses import LabelWiseEmbeddingDistillation


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells a process's memory on Linux alone")
def test_rows_without_a_label_take_no_memory():
    student = torch.zeros(32, 64, 4096)  # 32 MB, of which the three rows of one label matter
    student[:3, 0] = torch.randn(3, 4096)
    student.requires_grad_()
    targets = torch.zeros(32, 64)
    targets[:3, 0] = 1
    value = LabelWiseEmbeddingDistillation()(student, torch.randn(32, 64, 8), targets)
    before = _resident()
    value.backward()
    assert _resident() - before < 16 << 20
    assert student.grad.count_nonzero() == student.grad[:3, 0].count_nonzero() == 3 * 4096


def _resident() -> int:
    """Bytes of this process's memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
