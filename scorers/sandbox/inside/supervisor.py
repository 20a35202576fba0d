"""Watches a child from outside its namespaces: deadline, leash, memory; says how it ended.

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
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from scorers.sandbox.inside import kernel, processes
from scorers.sandbox.inside.child import Order, Walls, become, prepare
from scorers.sandbox.inside.job import run_job

WATCH_MS = 50
"""How often memory is looked at. At some 2 GB/s of first touches, 100 MB come in between."""

_NOBODY = 65534


class ChildSupervisor:
    """Runs orders one after another, each in a child with namespaces of its own.

    `is_kept` is whether more than one may come: then it takes a place from which it can go on.
    """

    def __init__(self, walls: Walls, *, is_kept: bool) -> None:
        self._walls = walls
        self._is_kept = is_kept
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self._home: int | None = None
        self._is_set_up = False

    def supervise(self, orders: Iterable[Order]) -> None:
        """Run each order to its end and write its status; then exit. Never returns."""
        for order in orders:
            status: dict[str, object]
            try:
                status = self._run(order)
            # Whatever goes wrong here is the jail's failure: the worker must hear of it.
            except BaseException as error:  # noqa: BLE001
                _tell(order, {"setup": f"{type(error).__name__}: {error}"})
                break
            _tell(order, status)
        os._exit(0)

    def _run(self, order: Order) -> dict[str, object]:
        if not self._is_set_up:
            self._set_up()
        folder = None
        if self._walls.scratch is None:
            kernel.unshare(kernel.CLONE_NEWPID)
        else:
            folder = _folder(self._walls.scratch)
        prepare(order, self._walls)
        setup, setup_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(order, self._walls, folder, setup_end)
        if self._home is not None:
            kernel.setns(self._home, kernel.CLONE_NEWPID)
        theirs = (order.text, order.result, order.log, order.cgroup, order.broker)
        for each in (setup_end, *theirs):
            if each is not None:
                os.close(each)
        try:
            return _watch(order, pid, setup, self._proc)
        finally:
            os.close(setup)
            os.close(order.leash)
            if folder is not None:
                _end_all(folder)

    def _set_up(self) -> None:
        if self._walls.scratch is not None:
            kernel.adopt_orphans()
        else:
            _become_nobody()
            if self._is_kept:
                self._home = _first_of_its_own()
        self._is_set_up = True


def _tell(order: Order, status: dict[str, object]) -> None:
    with suppress(OSError):
        os.write(order.status, json.dumps(status).encode())
    os.close(order.status)


def _child(order: Order, walls: Walls, folder: str | None, setup: int) -> None:
    """In the child: walls first, then the job. Never returns."""
    try:
        become(order, walls, folder, setup)
    except BaseException as error:  # noqa: BLE001 any failure to build the walls ends the run
        with suppress(OSError):
            os.write(setup, f"{type(error).__name__}: {error}".encode()[:2000])
        os._exit(1)
    run_job(order.job)


def _become_nobody() -> None:
    """A new user namespace with one user in it, nobody, and powers over what is made in it."""
    uid, gid = os.getuid(), os.getgid()
    kernel.set_dumpable(on=True)    # else /proc/self belongs to root, and the maps are closed
    kernel.unshare(kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {gid} 1")
    kernel.set_dumpable(on=False)


def _first_of_its_own() -> int:
    """Go on as the first process of a PID namespace over which this process has powers.

    Only from there can it start children in new ones again and again: each time it must come
    back. Returns an open descriptor of where that is.
    """
    kernel.unshare(kernel.CLONE_NEWPID)
    if os.fork():
        os._exit(0)                 # the zygote adopts the other
    return os.open("/proc/self/ns/pid", os.O_RDONLY)


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
    os.close(ended)
    _, code, usage = os.wait4(pid, 0)
    return {
        "setup": complaint.decode(errors="replace") or None,
        "exit": os.WEXITSTATUS(code) if os.WIFEXITED(code) else None,
        "signal": os.WTERMSIG(code) if os.WIFSIGNALED(code) else None,
        "killed": killed,
        "memory_kb": usage.ru_maxrss,
    }


def _reason(order: Order, ready: set[int], until: float, proc: int) -> str | None:
    """Why the child must be killed now, if it must."""
    if order.leash in ready:
        return "leash"
    if time.monotonic() > until:
        return "deadline"
    if not ready and processes.exceeds(proc, order.memory_mb * 1024 * 1024):
        return "memory"
    return None


def _folder(scratch: str) -> str:
    """Without namespaces: a folder of the run's own."""
    path = f"{scratch}/{os.getpid()}"
    os.mkdir(path, 0o700)  # noqa: PTH102 as cheap as it gets, once a run
    return path


def _end_all(folder: str) -> None:
    """Without namespaces: kill and collect what the child left behind, and its files."""
    processes.kill_children()
    shutil.rmtree(folder, ignore_errors=True)
