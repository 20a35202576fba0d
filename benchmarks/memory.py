"""Memory at rest: the proportional set size of every process of a running Tallyard."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import psutil

from benchmarks.processes import pss_bytes
from benchmarks.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Megabytes (10^6 bytes) of PSS: of each unit with its number of processes, and in all."""

    mb: dict[str, float]
    processes: dict[str, int]

    @property
    def total_mb(self) -> float:
        """The sum over all."""
        return sum(self.mb.values())


def at_rest(stack: Stack) -> Memory:
    """What the stack holds now."""
    held: defaultdict[str, float] = defaultdict(float)
    number: defaultdict[str, int] = defaultdict(int)
    for name, process in stack.processes():
        try:
            held[name] += pss_bytes(process) / 1e6
        except (OSError, psutil.NoSuchProcess):
            continue   # it ended while we looked
        number[name] += 1
    return Memory(mb=dict(held), processes=dict(number))
