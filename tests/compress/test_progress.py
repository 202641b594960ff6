"""What a person sees while something outside works without a word."""

import logging
import time

import pytest

from edgepress.compress.progress import heartbeat


@pytest.fixture(autouse=True)
def heard(monkeypatch):
    monkeypatch.setattr(logging.getLogger("edgepress"), "propagate", True)  # whatever a command line left


def test_a_long_wait_is_told_again_and_again_and_ends_with_it(caplog):
    caplog.set_level(logging.INFO, logger="edgepress")
    with heartbeat("waiting for the hub", every=0.02):
        time.sleep(0.15)
    told = len(caplog.records)
    assert told >= 2
    assert caplog.records[0].getMessage().startswith("waiting for the hub (0 s")
    time.sleep(0.06)
    assert len(caplog.records) == told


def test_a_short_wait_is_told_nobody(caplog):
    caplog.set_level(logging.INFO, logger="edgepress")
    with heartbeat("waiting", every=30):
        pass
    assert caplog.records == []
