"""Watches a child's deadline, leash and memory from outside, kills it, and reports its end.

It kills by SIGKILL from outside the child's PID namespace. Whatever a scorer does to its
signals, timers and limits, the first process of its namespace cannot refuse that signal, and
everything in the namespace dies with it.
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
"""Milliseconds between two looks at the memory. A run that first touches pages at 2 GB/s can
take 100 MB meanwhile."""

_NOBODY = 65534


class ChildSupervisor:
    """Runs orders one after another, each in a child with namespaces of its own.

    `is_kept` says that more than one order may come. The supervisor then moves into a PID
    namespace from which it can start one child after another.
    """

    def __init__(self, walls: Walls, *, is_kept: bool) -> None:
        self._walls = walls
        self._is_kept = is_kept
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self._home: int | None = None
        self._is_set_up = False

    def supervise(self, orders: Iterable[Order]) -> None:
        """Run each order to its end and write its report; then exit. Never returns."""
        for order in orders:
            status: dict[str, object]
            try:
                status = self._run(order)
            # Any error here is a failure of the jail, and the worker must be told.
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
    """In the child: lock it in, then do the job. Never returns."""
    try:
        become(order, walls, folder, setup)
    except BaseException as error:  # noqa: BLE001 any failure to lock it in ends the run
        with suppress(OSError):
            os.write(setup, f"{type(error).__name__}: {error}".encode()[:2000])
        os._exit(1)
    run_job(order.job)


def _become_nobody() -> None:
    """Enter a new user namespace whose one user is nobody, with powers over it."""
    uid, gid = os.getuid(), os.getgid()
    kernel.set_dumpable(on=True)    # else /proc/self belongs to root and the maps are read-only
    kernel.unshare(kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {gid} 1")
    kernel.set_dumpable(on=False)


def _first_of_its_own() -> int:
    """Continue as the first process of a new PID namespace; return an open descriptor of it.

    To start a child in yet another namespace, a process must leave its own, and then return to
    it before the next one. It may return only to a namespace over which it has powers.
    """
    kernel.unshare(kernel.CLONE_NEWPID)
    if os.fork():
        os._exit(0)                 # the zygote becomes the parent of the new process
    return os.open("/proc/self/ns/pid", os.O_RDONLY)


def _watch(order: Order, pid: int, setup: int, proc: int) -> dict[str, object]:
    """Wait until the child has ended, and return the report.

    The child is killed at its deadline, when the worker closes the leash, and when it takes too
    much memory.
    """
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
    """Why the child must be killed now; None if it need not be."""
    if order.leash in ready:
        return "leash"
    if time.monotonic() > until:
        return "deadline"
    if not ready and processes.exceeds(proc, order.memory_mb * 1024 * 1024):
        return "memory"
    return None


def _folder(scratch: str) -> str:
    """Make the run's own folder, in tier B."""
    path = f"{scratch}/{os.getpid()}"
    os.mkdir(path, 0o700)  # noqa: PTH102 cheaper than pathlib, for each run
    return path


def _end_all(folder: str) -> None:
    """Kill the processes that the child left behind, and remove its files, in tier B."""
    processes.kill_children()
    shutil.rmtree(folder, ignore_errors=True)
