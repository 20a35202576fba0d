"""Watches one child from outside its namespaces: deadline, leash, memory; says how it ended.

Only this process's SIGKILL counts: whatever a scorer does to its own signals, timers and
limits, its namespace's first process cannot refuse it, and everything in there dies with it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from scorers.sandbox.inside import kernel, processes
from scorers.sandbox.inside.child import Order, Walls, become
from scorers.sandbox.inside.job import run_job

WATCH_MS = 50
"""How often memory is looked at. At some 2 GB/s of first touches, 100 MB come in between."""

_NOBODY = 65534


def supervise(order: Order, walls: Walls) -> None:
    """Run one order to its end, write its status, and exit. Never returns."""
    status: dict[str, object]
    try:
        status = _run(order, walls)
    # Whatever goes wrong here is the jail's failure, and the worker must hear of it as such.
    except BaseException as error:  # noqa: BLE001
        status = {"setup": f"{type(error).__name__}: {error}"}
    with suppress(OSError):
        os.write(order.status, json.dumps(status).encode())
    os._exit(0)


def _run(order: Order, walls: Walls) -> dict[str, object]:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    folder = None
    if walls.scratch is None:
        _namespaces()
    else:
        folder = _folder(walls.scratch)
    setup, setup_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(order, walls, folder, setup_end)
    for each in (setup_end, order.text, order.result, order.log, order.cgroup, order.broker):
        if each is not None:
            os.close(each)
    try:
        return _watch(order, pid, setup, proc)
    finally:
        if folder is not None:
            _end_all(folder)


def _child(order: Order, walls: Walls, folder: str | None, setup: int) -> None:
    """In the child: walls first, then the job. Never returns."""
    try:
        become(order, walls, folder, setup)
    except BaseException as error:  # noqa: BLE001 any failure to build the walls ends the run
        with suppress(OSError):
            os.write(setup, f"{type(error).__name__}: {error}".encode()[:2000])
        os._exit(1)
    run_job(order.job)


def _namespaces() -> None:
    """New namespaces for the child to come, with one user in them: nobody."""
    uid, gid = os.getuid(), os.getgid()
    kernel.set_dumpable(on=True)    # else /proc/self belongs to root, and the maps are closed
    flags = kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID | kernel.CLONE_NEWNS
    kernel.unshare(flags | kernel.CLONE_NEWIPC)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {gid} 1")
    kernel.set_dumpable(on=False)


def _watch(order: Order, pid: int, setup: int, proc: int) -> dict[str, object]:
    """Until the child has ended; kill it at its deadline, when let go, or when too big."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    for descriptor in (ended, order.leash, setup):
        poll.register(descriptor, select.POLLIN)
    until = time.monotonic() + order.deadline_s
    complaint = b""
    killed: str | None = None
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(WATCH_MS)}
        if setup in ready:
            complaint += os.read(setup, 4096)
            poll.unregister(setup)
        if ended in ready:
            break
        if killed is None:
            killed = _reason(order, ready, until, proc)
            if killed is not None:
                os.kill(pid, signal.SIGKILL)
                poll.unregister(order.leash)
    _, code, usage = os.wait4(pid, 0)
    return {
        "setup": complaint.decode(errors="replace") or None,
        "exit": os.WEXITSTATUS(code) if os.WIFEXITED(code) else None,
        "signal": os.WTERMSIG(code) if os.WIFSIGNALED(code) else None,
        "killed": killed,
        "memory_kb": usage.ru_maxrss,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def _reason(order: Order, ready: set[int], until: float, proc: int) -> str | None:
    """Why the child must be killed now, if it must."""
    if order.leash in ready:
        return "leash"
    if time.monotonic() > until:
        return "deadline"
    if not ready and processes.exceeds(proc, os.getpid(), order.memory_mb * 1024 * 1024):
        return "memory"
    return None


def _folder(scratch: str) -> str:
    """Without namespaces: a folder of the run's own, and every orphan comes to us."""
    kernel.adopt_orphans()
    path = f"{scratch}/{os.getpid()}"
    os.mkdir(path, 0o700)  # noqa: PTH102 as cheap as it gets, once a run
    return path


def _end_all(folder: str) -> None:
    """Without namespaces: kill and collect what the child left behind, and its files."""
    processes.kill_children()
    shutil.rmtree(folder, ignore_errors=True)
