"""Training keeps to the cores that its process may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from edgepress.compress import threads, training
from edgepress.compress.config import DistillConfig
from edgepress.compress.threads import keep_to_cores
from edgepress.compress.training import make_accelerator, workers_of


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (2, 2), (8, 4), (None, 4)])
def test_torch_gets_no_more_threads_than_the_quota_has_cores(monkeypatch, limit, kept):
    """A person's OMP_NUM_THREADS that is below the quota stays."""
    monkeypatch.setattr(threads, "thread_limit", lambda: limit)
    keep_to_cores()
    assert torch.get_num_threads() == kept


def test_every_training_begins_with_it(monkeypatch):
    monkeypatch.setattr(threads, "thread_limit", lambda: 2)
    make_accelerator(DistillConfig())
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (64, 4)])
def test_pictures_are_read_by_no_more_processes_than_there_are_cores(monkeypatch, cores, workers):
    monkeypatch.setattr(training, "cores", lambda: cores)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert workers_of(DistillConfig(), gpu) == workers
    assert workers_of(DistillConfig(), cpu) == 0
    assert workers_of(DistillConfig(workers=7), gpu) == 7
