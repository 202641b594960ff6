"""Processors on which the 8-bit products of INT8 graphs saturate."""

from __future__ import annotations

import platform
from pathlib import Path

_EXACT = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Processor flags of instructions that add products of u8 and s8 in 32 bits."""


def weight_bits_for(flags: str, machine: str) -> int:
    """Return 8, or 7 for an x86 processor without VNNI.

    Such a processor adds two products of u8 and s8 in 16 bits (vpmaddubsw): 2 · 255 · 127 does not fit, but
    2 · 255 · 64 does. Runtimes on ARM add in 32 bits.

    Args:
        flags: the processor's flags, as in /proc/cpuinfo.
        machine: the machine's name, as from `platform.machine()`.
    """
    on_x86 = machine.lower() in ("x86_64", "amd64", "i686", "i386")
    return 7 if on_x86 and not set(_EXACT) & set(flags.split()) else 8


def weight_bits_here() -> int:
    """Weight bits for this machine. If its flags cannot be read, it is assumed to be recent: 8."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 8  # this is not Linux
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return weight_bits_for(flags, platform.machine()) if flags else 8
