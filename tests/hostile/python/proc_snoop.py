"""Look at other processes through /proc: command lines, memory maps, roots, descriptors."""

from __future__ import annotations

import os


def readable(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def reachable(pid, name):
    try:
        return bool(os.listdir(f"/proc/{pid}/{name}"))
    except OSError:
        return False


def handler(metadata):
    try:
        listed = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        listed = []
    others = {1, os.getppid(), *metadata["pids"], *listed} - {os.getpid(), 0}
    for pid in sorted(others):
        for name in ("cmdline", "maps", "environ", "mem", "status", "stack"):
            if readable(pid, name):
                return {"score": 1.0, "metadata": {"read": f"/proc/{pid}/{name}"}}
        for name in ("root/etc", "fd", "cwd", "ns", "task"):
            if reachable(pid, name):
                return {"score": 1.0, "metadata": {"listed": f"/proc/{pid}/{name}"}}
    return 0.0
