"""A headless Chromium for tests: Debian's, driven by Playwright; pages that call no other host and log no error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Without the last five Chromium itself looks for updates and hosts of its own.
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream"),
    "--use-fake-ui-for-media-stream",
)


def require_chromium() -> str:
    """Chromium's path. Skips, by name, where it is not installed; fails where EDGEPRESS_REQUIRE_CHROMIUM is set."""
    found = shutil.which("chromium")
    if found is None and os.environ.get("EDGEPRESS_REQUIRE_CHROMIUM"):
        pytest.fail("chromium is not installed, and EDGEPRESS_REQUIRE_CHROMIUM is set")
    if found is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium."""
    path = require_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield browser
        browser.close()


@contextmanager
def clean_page(browser: Browser, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page; at the end it must have logged no error and asked nothing of another host than this machine."""
    page = browser.new_page(viewport={"width": width, "height": height})
    errors: list[str] = []
    hosts: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.append(request.url) if not _is_here(request.url) else None)
    try:
        yield page
    finally:
        page.close()
    assert errors == []
    assert hosts == []


def _is_here(url: str) -> bool:
    return url.startswith(
        ("http://127.0.0.1", "http://localhost", "ws://127.0.0.1", "file:", "data:", "blob:", "about:")
    )
