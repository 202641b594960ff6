"""What is said where SIGINT stops the command; without imports, because it may come while these are made."""

from __future__ import annotations

import sys
import threading

INTERRUPTED = 130


def tell_interrupted() -> int:
    """Say why the command stops; returns its exit code."""
    if _starts_threads():
        print("edgepress: interrupted; the same command continues where it can", file=sys.stderr)
        return INTERRUPTED
    # OpenBLAS, which numpy imports, interrupts its own process where its threads do not start.
    said = "no thread can be started here: raise the limit (ulimit -u, or --pids-limit of a container)"
    print(f"edgepress: {said}", file=sys.stderr)
    return 2


def _starts_threads() -> bool:
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        return False
    return True
