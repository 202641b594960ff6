"""How many processor cores this process may use: what it is bound to, and a container's quota.

`os.cpu_count` and the runtimes count the machine's cores. In a container with a quota of one core, a pool of 64 threads
then spends its quota in a few milliseconds of each period and is stopped for the rest of it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = "sys/fs/cgroup"


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, at least 1: the lesser of its affinity and its cgroups' quota, rounded up.

    Args:
        root: where /proc and /sys are.

    Example:
        >>> cores() >= 1
        True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(root)
    return bound if quota is None else max(1, min(bound, math.ceil(quota)))


def thread_limit() -> int | None:
    """Threads that a runtime is to have where this process may not use every core; None where it may, for then the
    runtime knows better (of two hardware threads of one core most use one)."""
    allowed = cores()
    return allowed if allowed < (os.cpu_count() or 1) else None


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that cgroups (v1 or v2) allow, the least of this process's group and all above it; None
    where nothing is limited or there are no cgroups."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _quotas(root / _CGROUPS, path)
            found += _quotas(root / _CGROUPS / "unified", path)
        elif "cpu" in controllers.split(","):
            found += _quotas(root / _CGROUPS / "cpu", path)
            found += _quotas(root / _CGROUPS / controllers, path)
    return min(found, default=None)


def _quotas(mount: Path, path: str) -> list[float]:
    """Of a group and all above it. In a container the path may be the host's, of which only the mount is visible."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    folders = [mount.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
    return [quota for folder in folders if (quota := _quota(folder)) is not None]


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(limit) / int(period) if limit not in ("max", "-1") and int(period) > 0 else None
    except (OSError, ValueError):
        return None  # no such controller here, or a file of another kind
