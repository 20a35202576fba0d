"""Lift our own limits, or others'; be the last that memory pressure kills."""

from __future__ import annotations

import os
import resource

FINITE = ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_CPU")
NAMES = (*FINITE, "RLIMIT_AS", "RLIMIT_STACK", "RLIMIT_MEMLOCK", "RLIMIT_NICE")


def handler(metadata):
    worked = []
    for name in NAMES:
        number = getattr(resource, name)
        try:
            hard = resource.getrlimit(number)[1]
        except OSError:
            continue
        if hard == resource.RLIM_INFINITY:
            if name in FINITE:
                worked.append(f"{name} is infinite")
            continue
        for raised in (hard + 1, resource.RLIM_INFINITY):
            try:
                resource.setrlimit(number, (raised, raised))
                worked.append(name)
            except (OSError, ValueError):
                continue
    for pid in {os.getppid(), 1, *metadata["pids"]} - {0, os.getpid()}:
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE)
            worked.append(f"prlimit {pid}")
        except OSError:
            continue
    for pid in ("self", *metadata["pids"]):
        try:
            with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                file.write("-1000")
            worked.append(f"oom_score_adj {pid}")
        except OSError:
            continue
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        worked.append("nice")
    except OSError:
        pass
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
