"""Thirds of the labels by frequency, by hand."""

from __future__ import annotations

import numpy as np

from edgepress.multilabel.frequency import MANY, thirds


def split(counts: list[int], pictures: int = 100) -> np.ndarray:
    return (np.arange(pictures)[:, None] < np.array(counts)).astype(np.uint8)


def test_labels_are_ranked_by_the_pictures_that_show_them_and_those_without_ap_are_left_out():
    counts = [*range(1, MANY + 1), 0, 100]  # one that no picture shows, one that every picture does
    head, middle, tail = thirds(split(counts), np.zeros((100, len(counts)), bool))
    assert (head.part, middle.part, tail.part) == ("head", "middle", "tail")
    assert tail.columns.tolist() == list(range(19, -1, -1))
    assert (tail.fewest, tail.most, head.fewest, head.most) == (1, 20, 41, 60)


def test_unknown_cells_do_not_count_and_few_labels_have_no_parts():
    counts = [50] * MANY
    ignore = np.zeros((100, MANY), bool)
    ignore[:45, 0] = True
    assert thirds(split(counts), ignore)[2].columns[-1] == 0
    assert thirds(split(counts), ignore)[2].fewest == 5
    assert thirds(split(counts[1:]), ignore[:, 1:]) == ()
