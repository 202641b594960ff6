"""Decoding ahead gives every picture once, in order, and no faster than they are taken."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edgepress.deploy.tag.ahead import AHEAD, decode_ahead, load_ahead


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
    time.sleep(0.2)  # more would be decoded by now
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


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_is_whole_waits_for_no_further_source(batch):
    taken, in_time = threading.Event(), []

    def sources() -> Iterator[int]:
        yield from range(batch)
        in_time.append(taken.wait(10))
        yield batch

    coming = load_ahead(lambda number: number, sources(), batch, 2)
    assert next(coming) == list(range(batch))
    taken.set()
    assert next(coming) == [batch]
    assert in_time == [True]


def test_who_leaves_waits_for_no_source_that_does_not_come():
    comes, loaded = threading.Event(), []

    def sources() -> Iterator[int]:
        yield 0
        assert comes.wait(60)
        yield 1

    before = set(threading.enumerate())
    coming = load_ahead(lambda number: loaded.append(number) or number, sources(), 1, 2)
    assert next(coming) == [0]
    coming.close()
    (left,) = set(threading.enumerate()) - before
    assert left.daemon  # the process may end
    comes.set()
    left.join(60)
    assert loaded == [0]


def test_what_goes_wrong_with_the_sources_is_told_after_what_came_before():
    def sources() -> Iterator[int]:
        yield from range(4)
        raise ValueError("no more lines")

    coming = load_ahead(lambda number: number, sources(), 2, 2)
    assert [next(coming), next(coming)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="no more lines"):
        next(coming)


def test_a_source_that_ends_the_process_ends_the_batches():
    def sources():
        yield 1
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(load_ahead(lambda source: source, sources(), 1))
