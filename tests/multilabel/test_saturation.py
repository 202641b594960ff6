"""Processors on which the products of 8-bit weights saturate."""

from __future__ import annotations

import pytest

from edgepress.multilabel.saturation import weight_bits_for


@pytest.mark.parametrize(
    ("machine", "flags", "bits"),
    [
        ("x86_64", "avx2 fma", 7),
        ("x86_64", "avx2 avx512f avx512bw", 7),
        ("x86_64", "avx2 avx512_vnni", 8),
        ("AMD64", "avx2 avx_vnni", 8),
        ("aarch64", "asimd asimddp", 8),
    ],
)
def test_only_x86_without_vnni_needs_narrower_weights(machine, flags, bits):
    assert weight_bits_for(flags, machine) == bits
