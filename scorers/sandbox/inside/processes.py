"""What /proc tells of other processes: a run's memory, its leftovers, a user's number."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PPID, _THREADS, _RSS = 1, 17, 21         # fields of /proc/<pid>/stat, counted after the name
_ROUNDS_MAX = 1000                        # of killing: each round meets a new generation


def exceeds(processes: int, most: int) -> bool:
    """Whether all descendants of this process together hold more than `most` bytes.

    `processes` is an open directory of /proc. Pages that processes share count in each of them
    at first; only if that sum is too much are they divided fairly, which takes longer.
    """
    # Its number there, which is another than os.getpid() within a PID namespace.
    tree = _tree(processes, int(os.readlink("self", dir_fd=processes)))
    if sum(tree.values()) <= most:
        return False
    return sum(_proportional(processes, each) for each in tree) > most


def tasks_of(processes: int, uid: int) -> int:
    """How many processes and threads this user has now: what RLIMIT_NPROC counts."""
    count = 0
    for name in os.listdir(processes):
        with suppress(OSError, IndexError):             # it has gone
            if name.isdigit() and os.stat(name, dir_fd=processes).st_uid == uid:
                count += int(_fields(processes, name)[_THREADS])
    return count


def kill_children() -> None:
    """Kill and collect all children of this process, and those that it inherits by it."""
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
    """Resident bytes of each descendant."""
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
    """Of its stat, after the name; empty if the process has gone."""
    return _read(processes, f"{name}/stat").rpartition(b")")[2].split()


def _proportional(processes: int, pid: int) -> int:
    """Its pages, each divided by the number of processes that share it; all, if untold."""
    for line in _read(processes, f"{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    # Asked again: it may have ended since, and its share is with the others now.
    return _resident(_fields(processes, str(pid)))


def _resident(fields: list[bytes]) -> int:
    return int(fields[_RSS]) * _PAGE if fields else 0


def _read(processes: int, path: str) -> bytes:
    """The file's first 4 kB; empty if the process has gone or is closed to us."""
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
