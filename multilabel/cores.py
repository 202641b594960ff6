"""How many processor cores this process may use, by its affinity and by a container's quota.

`os.cpu_count` and the runtimes count the machine's cores. In a container with a quota of one core, a pool of 64 threads
therefore spends its quota in a few milliseconds of each period and is stopped for the rest of it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = "sys/fs/cgroup"


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, at least 1: the smaller of its affinity and its cgroups' quota, rounded up.

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
    """The number of threads to give a runtime where this process may not use every core; None where it may, because
    the runtime then chooses better (most runtimes use one of a core's two hardware threads)."""
    allowed = cores()
    return allowed if allowed < (os.cpu_count() or 1) else None


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Number of cores that cgroups (v1 or v2) allow: the least over this process's group and all groups above it;
    None where there is no limit or no cgroup."""
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
    """Quotas of a group and of all above it. A container may see the host's path, with only the mount visible."""
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
        return None  # there is no such controller, or the file is of another kind
