"""Where edgepress keeps what it can make again: in the user's cache folder, one folder for each purpose."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache(name: str) -> Path | None:
    """A folder of edgepress in XDG_CACHE_HOME or HOME's .cache; None without either."""
    cache = os.environ.get("XDG_CACHE_HOME")
    home = os.environ.get("HOME")
    base = Path(cache) if cache and os.path.isabs(cache) else Path(home) / ".cache" if home else None
    return None if base is None else base / "edgepress" / name
