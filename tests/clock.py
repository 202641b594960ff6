"""A wall clock that has jumped, and files from another day."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

DAY = 86_400


def jump(patch: pytest.MonkeyPatch, days: int) -> None:
    """Move the wall clock of this process, and with it what bundles say of when they were made."""
    seconds, nanoseconds = time.time, time.time_ns

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + datetime.timedelta(days=days)

    patch.setattr(time, "time", lambda: seconds() + days * DAY)
    patch.setattr(time, "time_ns", lambda: nanoseconds() + days * DAY * 10**9)
    patch.setattr("edgepress.multilabel.bundle.datetime", SimpleNamespace(datetime=Moved, timezone=datetime.timezone))


def scatter_dates(folder: Path) -> None:
    """Date everything below a folder, in turn, a day back and a year ahead."""
    now = time.time()
    for number, path in enumerate(sorted(folder.rglob("*"))):
        moved = now + (365 * DAY if number % 2 else -DAY)
        os.utime(path, (moved, moved))
