"""What is made ahead comes in order, and so do errors."""

from __future__ import annotations

import threading

import pytest

from edgepress.compress.ahead import ahead
from edgepress.multilabel.errors import InputError


def test_items_are_made_ahead_by_a_thread_and_errors_come_when_they_are_due():
    made: list[int] = []

    def items(fail: bool = False):
        for number in range(6):
            made.append(number)
            yield number
        if fail:
            raise InputError("the seventh")

    assert list(ahead(items())) == list(range(6))
    coming = ahead(items(fail=True))
    assert [next(coming) for _ in range(6)] == list(range(6))
    with pytest.raises(InputError, match="the seventh"):
        next(coming)
    made.clear()
    early = ahead(items())
    next(early)
    early.close()  # the consumer has had enough: the thread ends, and nobody waits for it
    assert len(made) <= 4
    assert not any(thread.name == "pictures" for thread in threading.enumerate())
