"""How many cores a process may use: its affinity, and cgroups' quotas of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepress.multilabel import cores as room
from edgepress.multilabel.cores import cgroup_quota, cores, thread_limit

V2 = "0::/system.slice/service\n"
V1 = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"


def system(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        (V2, {"sys/fs/cgroup/system.slice/service/cpu.max": "100000 100000\n"}, 1.0),
        (V2, {"sys/fs/cgroup/system.slice/service/cpu.max": "max 100000\n"}, None),
        (
            V2,
            {
                "sys/fs/cgroup/system.slice/service/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",  # what is above it holds as well
            },
            1.5,
        ),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/../other\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        (
            V1,
            {
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (  # a container that sees its own group as the mount, under the host's name
            V1,
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            1.0,
        ),
        (V1, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V2, {"sys/fs/cgroup/cpu.max": "no numbers here\n"}, None),
        (V2, {}, None),
    ],
)
def test_a_quota_is_read_of_both_versions(tmp_path, groups, files, quota):
    assert cgroup_quota(system(tmp_path, groups, files)) == quota


def test_a_system_without_cgroups_has_no_quota(tmp_path):
    assert cgroup_quota(tmp_path) is None


def test_cores_are_the_lesser_of_affinity_and_quota_and_at_least_one(tmp_path, monkeypatch):
    root = system(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert cores(root) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert cores(root) == 1
    (root / "sys/fs/cgroup/cpu.max").write_text("1000 100000\n")
    assert cores(root) == 1


def test_runtimes_are_limited_only_where_the_process_is(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(room, "cores", lambda: 8)
    assert thread_limit() is None
    monkeypatch.setattr(room, "cores", lambda: 2)
    assert thread_limit() == 2
