"""The number of threads at first: the processors of the affinity mask, or fewer where a CPU quota is lower."""

import os
from pathlib import Path

import pytest

from fusedstep import config

UNLIMITED = "max 100000\n"

# What stands in which file, and how many processors that leaves of 16.
TREES: dict[str, tuple[dict[str, str | bytes], int]] = {
    "nothing to read": ({}, 16),
    "no quota": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": UNLIMITED}, 16),
    "whole processors": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "400000 100000\n"}, 4),
    "a part is rounded up": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 2),
    "at least one": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "1000 100000\n"}, 1),
    "none at all": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "0 100000\n"}, 1),
    "another period": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "30000 10000\n"}, 3),
    "more than there are": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "9900000 100000\n"}, 16),
    "a container's own root": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "a path of the host's": ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "a path out of the root": ({"proc/self/cgroup": "0::/../b\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "the lowest of the groups above": (
        {
            "proc/self/cgroup": "0::/a/b/c\n",
            "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "900000 100000\n",
            "sys/fs/cgroup/a/b/c/cpu.max": UNLIMITED,
        },
        3,
    ),
    "another group": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/b/cpu.max": "200000 100000\n"}, 16),
    "version 1": (
        {
            "proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/a\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "50000\n",
        },
        5,
    ),
    "version 1 in a container": (
        {
            "proc/self/cgroup": "4:cpu:/docker/a\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "version 1 without a quota": (
        {
            "proc/self/cgroup": "4:cpu:/a\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
        },
        16,
    ),
    "version 1 without a period": (
        {"proc/self/cgroup": "4:cpu:/a\n", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "200000\n"},
        16,
    ),
    "controllers whose names begin alike": (
        {
            "proc/self/cgroup": "4:cpuset,cpuacct:/a\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
        },
        16,
    ),
    "both versions": (
        {
            "proc/self/cgroup": "1:cpu:/a\n0::/b\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "700000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/unified/b/cpu.max": "600000 100000\n",
        },
        6,
    ),
    "a period of zero": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "200000 0\n"}, 16),
    "one number": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "200000\n"}, 16),
    "words": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "two processors\n"}, 16),
    "an empty file": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": ""}, 16),
    "bytes that are no text": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": b"\xff\xfe \xff"}, 16),
    "a folder in the file's place": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max/x": ""}, 16),
    "groups without colons": ({"proc/self/cgroup": "\nnothing\n:\n", "sys/fs/cgroup/cpu.max": UNLIMITED}, 16),
    "a path that no file can have": ({"proc/self/cgroup": "0::/a\0b\n", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
}


@pytest.mark.parametrize(("files", "expected"), TREES.values(), ids=TREES.keys())
def test_processors_of_a_tree(
    files: dict[str, str | bytes], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert config._usable_processors(tmp_path) == expected


def test_the_affinity_mask_may_be_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("400000 100000\n")
    assert config._usable_processors(tmp_path) == 2
