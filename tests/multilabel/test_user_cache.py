"""Where the user's cache folder is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepress.multilabel.user_cache import user_cache


@pytest.mark.parametrize(
    ("cache", "home", "expected"),
    [
        ("/cache", "/home/me", Path("/cache/edgepress/hashes")),
        ("/cache", None, Path("/cache/edgepress/hashes")),
        (None, "/home/me", Path("/home/me/.cache/edgepress/hashes")),
        ("", "/home/me", Path("/home/me/.cache/edgepress/hashes")),
        ("cache", "/home/me", Path("/home/me/.cache/edgepress/hashes")),  # the standard has a relative path ignored
        ("cache", None, None),
        (None, "", None),
    ],
)
def test_the_folder_follows_the_environment(monkeypatch, cache, home, expected):
    for name, value in (("XDG_CACHE_HOME", cache), ("HOME", home)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert user_cache("hashes") == expected
