"""Reads /proc to measure a run's memory, count a user's processes, and kill leftovers."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PPID, _THREADS, _RSS = 1, 17, 21         # fields of /proc/<pid>/stat, counted after the name
_ROUNDS_MAX = 1000                        # of killing: each round finds the next generation


def exceeds(processes: int, most: int) -> bool:
    """Whether all descendants of this process together hold more than `most` bytes.

    `processes` is an open descriptor of /proc. A page that several processes share is first
    counted for each of them. Only if that sum is too large are shared pages divided among the
    processes, which takes longer.
    """
    # Its id in that /proc, which differs from os.getpid() within a PID namespace.
    tree = _tree(processes, int(os.readlink("self", dir_fd=processes)))
    if sum(tree.values()) <= most:
        return False
    return sum(_proportional(processes, each) for each in tree) > most


def tasks_of(processes: int, uid: int) -> int:
    """How many processes and threads this user has now, as RLIMIT_NPROC counts them."""
    count = 0
    for name in os.listdir(processes):
        with suppress(OSError, IndexError):             # the process has ended
            if name.isdigit() and os.stat(name, dir_fd=processes).st_uid == uid:
                count += int(_fields(processes, name)[_THREADS])
    return count


def kill_children() -> None:
    """Kill and reap all children of this process, and the orphans that they leave it."""
    path = f"/proc/self/task/{os.getpid()}/children"
    for _ in range(_ROUNDS_MAX):
        with open(path) as file:  # noqa: PTH123 read once a round
            children = [int(each) for each in file.read().split()]
        if not children:
            return
        for each in children:
            with suppress(OSError):
                os.kill(each, signal.SIGKILL)
                os.waitpid(each, 0)


def _tree(processes: int, root: int) -> dict[int, int]:
    """The resident bytes of each descendant of `root`, by process id."""
    resident: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for name in os.listdir(processes):
        if not name.isdigit():
            continue
        fields = _fields(processes, name)
        if fields:
            resident[int(name)] = _resident(fields)
            children.setdefault(int(fields[_PPID]), []).append(int(name))
    found: dict[int, int] = {}
    todo = [root]
    while todo:
        each = todo.pop()
        found[each] = resident.get(each, 0)
        todo += children.get(each, ())
    del found[root]
    return found


def _fields(processes: int, name: str) -> list[bytes]:
    """The fields of a process's stat that follow its name; empty if it has ended."""
    return _read(processes, f"{name}/stat").rpartition(b")")[2].split()


def _proportional(processes: int, pid: int) -> int:
    """The bytes of a process, each page divided by the number of processes that share it.

    If the kernel does not tell, it is the resident bytes.
    """
    for line in _read(processes, f"{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    # The resident bytes are read again, because the process may have ended since; then its
    # share counts for the others.
    return _resident(_fields(processes, str(pid)))


def _resident(fields: list[bytes]) -> int:
    return int(fields[_RSS]) * _PAGE if fields else 0


def _read(processes: int, path: str) -> bytes:
    """The first 4 kB of the file; empty if the process has ended or may not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=processes)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
