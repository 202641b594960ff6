"""Training keeps the memory that a step frees for the next step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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
