"""Limits of the demo's server: which request has its turn, and which pictures are held."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgepress.multilabel.errors import InputError


class BusyError(Exception):
    """Too many requests wait already, or this one waited too long; it may succeed in a moment."""


class Gate:
    """Lets one picture through at a time: a second one would disturb the first one's latency and take memory."""

    def __init__(self, waiting: int, seconds: float) -> None:
        """
        Args:
            waiting: how many requests may wait; any further request is refused at once.
            seconds: how long a request may wait.
        """
        self.waiting, self.seconds = waiting, seconds
        self._places = threading.BoundedSemaphore(waiting + 1)
        self._turn = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the request's turn and hold it.

        Raises:
            BusyError: too many requests wait already, or the wait was too long.
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
    """A picture as the browser sent it."""

    name: str
    data: bytes
    at: float
    """Time in seconds on the monotonic clock."""


class Shelf:
    """The latest pictures, by a token that only their sender knows; the oldest are dropped first."""

    def __init__(self, max_bytes: int, seconds: float, awaited_seconds: float = 0.0) -> None:
        """
        Args:
            max_bytes: limit for all pictures together; a single picture stays, whatever its size.
            seconds: how long a picture is held.
            awaited_seconds: how long a picture that nobody has asked about yet is safe from being dropped for another.
        """
        self.max_bytes, self.seconds, self.awaited_seconds = max_bytes, seconds, awaited_seconds
        self._given: OrderedDict[str, Given] = OrderedDict()
        self._awaited: set[str] = set()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Total bytes of the held pictures."""
        with self._lock:
            return sum(len(given.data) for given in self._given.values())

    def put(self, name: str, data: bytes) -> str:
        """Hold a picture; returns its token.

        Raises:
            BusyError: pictures that nobody has asked about yet leave no room.
        """
        token = secrets.token_urlsafe(16)
        with self._lock:
            if self._tidy(len(data)) > self.max_bytes and self._given:
                raise BusyError("Busy: the pictures given just now fill what is held here. Try again in a moment.")
            self._given[token] = Given(name, data, time.monotonic())
            self._awaited.add(token)
        return token

    def get(self, token: str) -> Given:
        """
        Raises:
            InputError: no picture has this token, or its time is over.
        """
        with self._lock:
            self._tidy()
            given = self._given.get(token)
            self._awaited.discard(token)
        if given is None:
            raise InputError("this picture is no longer held here; give it again")
        return given

    def _tidy(self, more: int = 0) -> int:
        """Drop expired pictures, and others that are not awaited to fit `more` bytes; returns the bytes with `more`."""
        now = time.monotonic()
        held = more + sum(len(given.data) for given in self._given.values())
        for token, given in list(self._given.items()):
            awaited = token in self._awaited and given.at > now - self.awaited_seconds
            if given.at < now - self.seconds or (more and held > self.max_bytes and not awaited):
                held -= len(given.data)
                del self._given[token]
                self._awaited.discard(token)
        return held
