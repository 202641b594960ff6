"""The most memory this process ever held, and what a measurement added to it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory of this process in MB, without the memory of a GPU."""

    peak_mb: float | None
    """The most that the process held; None where the system does not report it."""
    growth_mb: float | None
    """The peak minus what was held before the engine was loaded; None where an earlier peak hides it."""
    reason: str = ""
    """Why a number is missing."""


class PeakMemory:
    """Watches the peak from now on: where the system allows it, the earlier peak is reset (Linux 4.0)."""

    def __init__(self) -> None:
        self.before, self._forgotten = _kilobytes("VmRSS"), False
        try:
            _CLEAR_REFS.write_text("5")  # proc(5): this resets the peak to the present size
            self._forgotten = True
        except OSError:  # not Linux, or not allowed: an earlier peak may hide ours, and read() says so
            pass
        self._earlier = _peak()

    def read(self) -> Memory:
        """The peak up to now."""
        peak = _peak()
        if peak is None:
            return Memory(peak_mb=None, growth_mb=None, reason=f"{sys.platform} has neither /proc nor getrusage")
        if self.before is None:
            return Memory(peak_mb=peak / 1024, growth_mb=None, reason="no /proc here to ask what was held before")
        if not self._forgotten and peak == self._earlier:
            return Memory(peak_mb=peak / 1024, growth_mb=None, reason="this process had held as much before the engine")
        return Memory(peak_mb=peak / 1024, growth_mb=(peak - self.before) / 1024)


def _peak() -> float | None:
    found = _kilobytes("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1024 if sys.platform == "darwin" else used  # macOS counts bytes, other systems kilobytes


def _kilobytes(name: str) -> float | None:
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    lines = [line.split() for line in text.splitlines() if line.startswith(f"{name}:")]
    return float(lines[0][1]) if lines else None
