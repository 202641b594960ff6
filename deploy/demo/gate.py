"""What keeps the demo's server within bounds: whose turn it is, and which pictures it holds."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from multilabel.errors import InputError


class BusyError(Exception):
    """Too many wait already, or one's turn did not come in time; the same request may succeed in a moment."""


class Gate:
    """One picture at a time: a second one would disturb the first one's latency, and take memory besides."""

    def __init__(self, waiting: int, seconds: float) -> None:
        """
        Args:
            waiting: how many may wait; one more is refused at once.
            seconds: how long one waits at most.
        """
        self.waiting, self.seconds = waiting, seconds
        self._places = threading.BoundedSemaphore(waiting + 1)
        self._turn = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn and have it.

        Raises:
            BusyError: too many wait already, or it took too long.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError(f"Busy: {self.waiting} pictures wait already. Try again in a moment.")
        try:
            if not self._turn.acquire(timeout=self.seconds):
                raise BusyError(f"Busy: the turn did not come within {self.seconds:g} s. Try again in a moment.")
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()


@dataclass(frozen=True)
class Given:
    """A picture as it was sent."""

    name: str
    data: bytes
    at: float
    """Seconds of the monotonic clock."""


class Shelf:
    """The pictures last given, by a token that only the giver knows; the oldest go first."""

    def __init__(self, max_bytes: int, seconds: float) -> None:
        """
        Args:
            max_bytes: of all pictures together; the newest stays, whatever its size.
            seconds: how long a picture is held.
        """
        self.max_bytes, self.seconds = max_bytes, seconds
        self._given: OrderedDict[str, Given] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes of the pictures that are held."""
        with self._lock:
            return sum(len(given.data) for given in self._given.values())

    def put(self, name: str, data: bytes) -> str:
        """Hold a picture; gives its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._given[token] = Given(name, data, time.monotonic())
            self._tidy()
        return token

    def get(self, token: str) -> Given:
        """
        Raises:
            InputError: no picture has this token, or it was held long enough.
        """
        with self._lock:
            self._tidy()
            given = self._given.get(token)
        if given is None:
            raise InputError("this picture is no longer held here; give it again")
        return given

    def _tidy(self) -> None:
        held = sum(len(given.data) for given in self._given.values())
        oldest = time.monotonic() - self.seconds
        while self._given:
            first = next(iter(self._given.values()))
            if first.at >= oldest and (held <= self.max_bytes or len(self._given) == 1):
                return
            held -= len(first.data)
            self._given.popitem(last=False)
