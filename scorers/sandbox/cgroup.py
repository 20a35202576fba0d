"""Limits the memory of a whole tree of processes by control groups, where the kernel allows it.

A worker that may make control groups below its own (as root, or in a delegated subtree) puts
each run into one. Elsewhere only the supervisor watches a run's memory, as it always does.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ENDING_S = 2.0
"""Seconds that a killed process may take to disappear."""

_POLL_S = 0.01

_names = itertools.count()


class Cgroups:
    """The control groups of this worker, made when needed and used again. Thread-safe."""

    def __init__(self, home: Path | None) -> None:
        self._home = home
        self._free: list[_Group] = []
        self._is_closed = False
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, memory_mb: int) -> Iterator[int | None]:
        """A group with this limit (MiB) for the time of a block, as its open cgroup.procs.

        It is None where no groups can be made.
        """
        group = self._take(memory_mb)
        try:
            yield group.entrance if group else None
        finally:
            if group:
                self._give_back(group)

    def close(self) -> None:
        """Remove all groups. Those in use are removed when they are given back."""
        with self._lock:
            self._is_closed = True
            self._remove_free()

    def _remove_free(self) -> None:
        while self._free:
            self._free.pop().remove()

    def _take(self, memory_mb: int) -> _Group | None:
        if self._home is None:
            return None
        with self._lock:
            group = self._free.pop() if self._free else None
        try:
            group = group or _Group(self._home / f"tallyard-{os.getpid()}-{next(_names)}")
            group.limit(memory_mb * 1024 * 1024)
        except OSError:
            # The kernel refuses a lower limit until the memory of the last run is freed.
            if group:
                self._give_back(group)
            return None
        return group

    def _give_back(self, group: _Group) -> None:
        with self._lock:
            self._free.insert(0, group)           # the last one to be taken again
            if self._is_closed:
                self._remove_free()


class _Group:
    """A control group, and the descriptor by which a process enters it."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        self._most = 0
        try:
            self.entrance = os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            path.rmdir()
            raise

    def limit(self, most: int) -> None:
        """Set how many bytes it may hold, with swap if the kernel counts that."""
        if most == self._most:
            return
        names = ("memory.max", "memory.limit_in_bytes")
        name = next(each for each in names if (self._path / each).exists())
        swap = "memory.memsw.limit_in_bytes"
        # The limit with swap must never be below the one without. Whether the limits rise or
        # fall, one of these orders works; writes that the kernel refuses are ignored here.
        for each in (swap, name, swap):
            with suppress(OSError):
                (self._path / each).write_text(str(most))
        (self._path / name).write_text(str(most))
        self._most = most

    def remove(self) -> None:
        """Remove the group once its last process, which has been killed, is gone.

        If that takes too long, a later `find_home` removes it.
        """
        os.close(self.entrance)
        pause = threading.Event()
        until = time.monotonic() + _ENDING_S
        while time.monotonic() < until:
            try:
                self._path.rmdir()
            except OSError:
                pause.wait(_POLL_S)
            else:
                return


def _remove_left_behind(home: Path) -> None:
    """Remove the groups of worker processes that were killed. Nothing runs in them any more."""
    for group in home.glob("tallyard-*-*"):
        if not Path("/proc", group.name.split("-")[1]).exists():
            with suppress(OSError):
                group.rmdir()


def find_home() -> Path | None:
    """The folder in which groups with a limit on memory can be made; None if there is none."""
    home = _own()
    if home is None:
        return None
    _remove_left_behind(home)
    trial = home / f"tallyard-{os.getpid()}-trial"
    try:
        group = _Group(trial)
    except OSError:
        return None
    try:
        group.limit(1 << 30)
    except (OSError, StopIteration):                  # v2: memory is not delegated to us
        return None
    finally:
        group.remove()
    return home


def _own() -> Path | None:
    """The folder of our own group: version 1 has one for memory, version 2 only one."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    paths = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    for mount in mounts:
        fields, _, source = mount.partition(" - ")
        kind, _, options = source.split(" ", 2)
        _, _, _, root, target, *_ = fields.split(" ")
        ours: str | None = None
        if kind == "cgroup" and "memory" in options.split(","):
            ours = next((paths[key] for key in paths if "memory" in key.split(",")), None)
        elif kind == "cgroup2" and _offers_memory(Path(target)):
            ours = paths.get("")
        if ours is not None:
            # In a container the mount may begin below the root of all groups.
            below = os.path.relpath(ours, root) if ours.startswith(root) else "."
            return Path(target) / below
    return None


def _offers_memory(mount: Path) -> bool:
    offered = mount / "cgroup.controllers"
    return offered.exists() and "memory" in offered.read_text().split()
