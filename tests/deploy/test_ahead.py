"""Decoding ahead gives every picture once, in order, and no faster than they are taken."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from deploy.ahead import AHEAD, decode_ahead


def picture(number: int) -> np.ndarray:
    return np.full((2, 2, 3), number, np.uint8)


@pytest.mark.parametrize(("count", "batch", "threads"), [(10, 4, 1), (10, 4, 3), (8, 4, 2), (1, 4, 2), (0, 4, 2)])
def test_batches_come_in_order_and_whole(count, batch, threads):
    batches = list(decode_ahead(picture, range(count), batch, threads))
    assert [len(one) for one in batches] == [batch] * (count // batch) + ([count % batch] if count % batch else [])
    assert [int(one[0, 0, 0]) for many in batches for one in many] == list(range(count))


def test_only_so_many_batches_are_decoded_before_they_are_taken():
    started: list[int] = []

    def load(number: int) -> np.ndarray:
        started.append(number)
        return picture(number % 256)

    before = set(threading.enumerate())
    coming = decode_ahead(load, itertools.count(), 4, 2)
    next(coming)
    assert set(threading.enumerate()) > before
    coming.close()
    assert len(started) <= (AHEAD + 1) * 4
    assert set(threading.enumerate()) <= before  # its threads end with it


def test_the_next_batch_is_decoded_while_the_last_is_used():
    """The taker waits for a picture of a later batch: that can only end if another thread decodes it meanwhile."""
    decoded = threading.Event()

    def load(number: int) -> np.ndarray:
        if number == 2:
            decoded.set()
        return picture(number)

    coming = decode_ahead(load, range(4), 2, 1)
    next(coming)
    assert decoded.wait(60)
    assert len(next(coming)) == 2


def test_a_broken_picture_is_told_when_its_batch_is_due():
    def load(number: int) -> np.ndarray:
        if number == 5:
            raise ValueError("picture 5 is broken")
        return picture(number)

    coming = decode_ahead(load, range(8), 4, 2)
    assert len(next(coming)) == 4
    with pytest.raises(ValueError, match="picture 5"):
        next(coming)
