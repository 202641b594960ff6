"""What a manifest says about an INT8 search in words."""

from __future__ import annotations

import pytest

from edgepress.multilabel.manifest import Quantization, Tried


def searched(*kept: int) -> Quantization:
    rows = (
        Tried(candidate="c", val_mAP=0.4, drop_points=0.1, sqnr=30.0, latency=None, int8_share=1.0, kept=count)
        for count in kept
    )
    return Quantization(pictures=8, sha256="", split="train", method="min-max", planned=9, tried=tuple(rows))


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ((0, 0, 0, 0), "4 of 9 candidates"),
        ((0, 0, 0, 0, 1, 2, 4), "4 of 9 candidates, and 3 with more nodes in float"),
        ((17,), "1 of 9 candidates"),  # ncnn: these are slower in INT8, and stay in float in every candidate
        ((17, 17, 18), "2 of 9 candidates, and 1 with more nodes in float"),
    ],
)
def test_the_rows_of_a_search_are_all_counted(kept, told):
    assert searched(*kept).tried_told == told


def test_candidates_that_were_not_tried_are_counted():
    assert searched(0, 0, 0, 0, 1, 2).untried == 5
    assert searched(*[0] * 9, 1).untried == 0
