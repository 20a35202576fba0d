"""How much memory this machine has, and how the embedded PostgreSQL uses it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

MIB = 2**20
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")

# Shares of the machine's memory (docs/decisions/0018). PostgreSQL's own cache gets 128 MiB of
# 4 GiB. With 32 MiB, a project of 2.7 million rows was scored at 0.7 of a small one's rate, and
# with 512 MiB at the same rate, so it gets no more.
CACHE_SHARE, CACHE_MIB = 1 / 32, (32, 512)
# The kernel caches files too. This reserves nothing; it tells the planner what to expect.
FILE_CACHE_SHARE = 1 / 2
# For each sort and hash table of each query.
SORT_SHARE, SORT_MIB = 1 / 1024, (4, 64)
# For VACUUM and the building of an index; up to three of them run at a time.
UPKEEP_SHARE, UPKEEP_MIB = 1 / 128, (16, 256)


def machine_memory_bytes() -> int:
    """What this machine has, or its container or service may use if that is less."""
    limits = cgroup_limits_bytes(
        CGROUPS, OWN_CGROUP.read_text() if OWN_CGROUP.exists() else ""
    )
    return min((psutil.virtual_memory().total, *limits))


def cgroup_limits_bytes(root: Path, own: str) -> list[int]:
    """Limits of this process's control group and of those above it.

    `root` is where control groups (version 2) are mounted, and `own` the text of
    /proc/self/cgroup. Empty if nothing is limited, or there is only version 1.
    """
    found = []
    for line in own.splitlines():
        number, _, path = line.partition("::/")
        if number != "0":
            continue
        group = Path(os.path.normpath(root / path))
        for each in (group, *group.parents):
            if not each.is_relative_to(root):
                break
            limit = each / "memory.max"
            text = limit.read_text().strip() if limit.exists() else "max"
            if text.isdecimal():
                found.append(int(text))
    return found


def postgres_settings(memory_bytes: int) -> Mapping[str, str]:
    """PostgreSQL's settings of memory for a machine that has so much, and runs Tallyard."""
    return {
        "shared_buffers": _share(memory_bytes, CACHE_SHARE, CACHE_MIB),
        "effective_cache_size": _share(memory_bytes, FILE_CACHE_SHARE),
        "work_mem": _share(memory_bytes, SORT_SHARE, SORT_MIB),
        "maintenance_work_mem": _share(memory_bytes, UPKEEP_SHARE, UPKEEP_MIB),
    }


def _share(
    memory_bytes: int, share: float, bounds_mib: tuple[int, int] = (1, 2**20)
) -> str:
    least, most = bounds_mib
    return f"{min(max(int(memory_bytes * share / MIB), least), most)}MB"
