"""Differences that are taken some pictures at a time are those of all pictures together."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.deploy.verify.differences import Flips, LogitDifference
from edgepress.multilabel.decisions import changed_share
from edgepress.multilabel.noise import MOST_DB, signal_to_noise

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(size=(30, 4)).astype(np.float32)
LOGITS = REFERENCE + RNG.normal(scale=0.1, size=REFERENCE.shape).astype(np.float32)
KNOWN = RNG.random(REFERENCE.shape) < 0.8
KNOWN[20:] = False  # the last part has no known cell


@pytest.mark.parametrize("step", [30, 10, 7])
def test_logits(step):
    found = LogitDifference()
    for start in range(0, 30, step):
        part = slice(start, start + step)
        found.add(LOGITS[part], REFERENCE[part], KNOWN[part])
    difference = np.abs(LOGITS.astype(np.float64) - REFERENCE)[KNOWN]
    assert found.largest == difference.max()
    assert found.mean == pytest.approx(difference.mean(), rel=1e-12)
    assert found.sqnr_db == pytest.approx(signal_to_noise(REFERENCE[KNOWN], LOGITS[KNOWN]), rel=1e-12)


def test_equal_logits_have_no_noise():
    found = LogitDifference()
    found.add(LOGITS, LOGITS, KNOWN)
    assert (found.largest, found.mean, found.sqnr_db) == (0, 0, MOST_DB)


def test_flips():
    before, after = REFERENCE > 0, LOGITS > 0
    found = Flips()
    for start in range(0, 30, 7):
        part = slice(start, start + 7)
        found.add(before[part], after[part], ~KNOWN[part])
    assert 0 < found.share == changed_share(before, after, ~KNOWN)


def test_nothing_known_is_no_flip():
    found = Flips()
    found.add(REFERENCE > 0, REFERENCE < 0, np.ones(REFERENCE.shape, bool))
    assert found.share == 0
