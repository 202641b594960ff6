"""Training, and whatever answers for many pictures, keeps the memory that a step frees for the next step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from edgepress.compress import held_memory
from edgepress.compress.config import TeachConfig
from edgepress.compress.kept import AnswerStore
from edgepress.compress.models import make_model
from edgepress.compress.training import make_accelerator, predict_logits
from edgepress.multilabel.datasets import load_dataset

CONFIG = TeachConfig(backbone="test_efficientnet", width=32, weights="none", size=32, batch_size=8, workers=0)
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def _printed(script: str) -> list[int]:
    """What a process of its own prints, because a test's process has a heap that many tests have used."""
    shared = """
import resource
from edgepress.compress.held_memory import held_memory
def new_pages():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        bytearray(64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
"""
    found = subprocess.run([sys.executable, "-c", shared + script], capture_output=True, text=True, check=True)
    return [int(word) for word in found.stdout.split()]


def test_a_block_that_was_freed_is_used_again_until_the_end():
    outside, inside, afterwards = _printed("""
print(new_pages())
with held_memory():
    print(new_pages())
print(new_pages())
""")
    assert outside > 10_000
    assert inside * 10 < outside
    assert afterwards * 2 > outside


def test_a_block_within_another_does_not_end_it():
    outside, inside = _printed("""
print(new_pages())
with held_memory():
    with held_memory():
        pass
    print(new_pages())
""")
    assert inside * 10 < outside


def test_memory_goes_back_afterwards():
    held, given_back = _printed("""
with held_memory():
    bytearray(256 << 20)
    print(resident())
print(resident())
""")
    assert held - given_back > 200 << 20


@pytest.fixture
def observed(tiny_data):
    """A split, a model, and how many blocks of held memory there were in each of its passes."""
    val = load_dataset(tiny_data, "val")
    model = make_model(CONFIG, val.labels)[0].eval()
    seen: list[int] = []
    forward = model.backbone.forward_features

    def observing(pixels):
        seen.append(held_memory._blocks)
        return forward(pixels)

    model.backbone.forward_features = observing
    return val, model, seen


def test_memory_is_held_while_a_model_answers(observed):
    val, model, seen = observed
    predict_logits(model, val, CONFIG, make_accelerator(CONFIG))
    assert set(seen) == {1}
    assert held_memory._blocks == 0


def test_memory_is_held_while_answers_are_kept(observed, tmp_path):
    val, model, seen = observed
    which = {"identity": "t", "labels": len(val.labels), "batch_size": 8, "workers": 0, "device": torch.device("cpu")}
    AnswerStore(model=model, folder=tmp_path, **which).plain(val)
    assert set(seen) == {1}
    assert held_memory._blocks == 0
