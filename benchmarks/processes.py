"""What processes use: processor time and memory, from /proc."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil


def cpu_s_by_name(processes: Iterable[tuple[str, psutil.Process]]) -> dict[str, float]:
    """Processor seconds (user and system) of the processes, by name.

    Those of children that ended are with the parent that waited for them.
    """
    used: defaultdict[str, float] = defaultdict(float)
    for name, process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used[name] += (
            times.user + times.system + times.children_user + times.children_system
        )
    return dict(used)


def running_ms(process: psutil.Process) -> float:
    """Processor milliseconds of the process so far, to the microsecond; 0 once it has ended.

    `cpu_times` counts in steps of ten milliseconds, which are many short answers.
    """
    try:
        # The clock of another process: its number with all bits turned, and two flags.
        return time.clock_gettime(~process.pid << 3 | 2) * 1000
    except OSError:
        return 0.0


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was used in between, by name; names that used next to nothing are left out."""
    used = {name: after[name] - before.get(name, 0.0) for name in after}
    return {name: value for name, value in used.items() if value >= 0.01}


def machine_cpu_s() -> float:
    """Processor seconds that this machine has spent on anything so far."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def pss_bytes(process: psutil.Process) -> int:
    """Proportional set size: pages that n processes share count 1/n for each."""
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
