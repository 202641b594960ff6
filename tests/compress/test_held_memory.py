"""Training keeps the memory that a step frees for the next step."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from edgepress.compress.held_memory import held_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def _new_pages() -> int:
    """Number of page faults of a block of 64 MB that is written and freed, when the same was done just before."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_block_that_was_freed_is_used_again_until_the_end():
    outside = _new_pages()
    with held_memory():
        inside = _new_pages()
    assert inside * 10 < outside
    assert _new_pages() * 2 > outside


def test_memory_goes_back_afterwards():
    with held_memory():
        torch.ones(64 << 20)
        held = _resident()
    assert held - _resident() > 200 << 20


def _resident() -> int:
    """Bytes of this process's memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
