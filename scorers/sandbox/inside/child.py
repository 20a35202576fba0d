"""The process that will run a user's code: it walls itself in, then has no way back.

The order matters: what needs powers comes first, then the powers go, then the filter of
system calls comes, and only then is anything read that a user wrote.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass

from scorers.sandbox.inside import kernel, landlock, processes, seccomp
from scorers.sandbox.inside.job import Powers, powers_of

# The descriptors that a job finds, whatever it runs.
RESULT, BROKER, TEXT = 3, 4, 5

_TMP_OPTIONS = "size=16m,nr_inodes=256,mode=0700"
_FILES_MAX = 64
_STACK_BYTES = 16 * 1024 * 1024
_OOM_SCORE = b"1000"                      # the first to go when the machine is out of memory
_SPARE = 100                              # where descriptors wait while the low ones are set
_DESCRIPTORS_MAX = 4096                   # more than a zygote ever opens
_PAGE = os.sysconf("SC_PAGE_SIZE")

# What an order's descriptors are, in the order in which they are sent; the last two may lack.
_DESCRIPTORS = ("text", "result", "log", "status", "leash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One run: what to do, how much it may use, and descriptors (see `Limits` for units).

    `text` is the request as JSON in a sealed memory file; `leash` becomes readable when the
    worker lets the run go. `cgroup` is an open cgroup.procs that limits memory.
    """

    job: str
    deadline_s: float
    memory_mb: int
    text: int
    result: int
    log: int
    status: int
    leash: int
    cgroup: int | None = None
    broker: int | None = None

    @classmethod
    def parse(cls, message: bytes, descriptors: list[int]) -> Order:
        """From the worker's message: JSON with `more`, the names of optional descriptors."""
        given = json.loads(message)
        names = (*_DESCRIPTORS, *given.pop("more"))
        return cls(**given, **dict(zip(names, descriptors, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """What holds a child: namespaces, or Landlock with these paths if there is a `scratch`."""

    scratch: str | None
    readable: tuple[str, ...]
    writable: tuple[str, ...]


def become(order: Order, walls: Walls, folder: str | None, setup: int) -> None:
    """Give up everything but what the job may have. `setup` is closed when that is done.

    Raises OSError if a wall cannot be built; nothing of the user's has been read by then.
    """
    powers = powers_of(order.job)
    kernel.set_dumpable(on=True)    # its memory may be measured, its oom score set
    _into_limits(order)
    size = _address_space()
    others = 0
    if folder is None:
        _cover()
        folder = "/tmp"  # noqa: S108 the jail's own
    else:
        others = _others()
    os.chdir(folder)
    os.environ["TMPDIR"] = os.environ["HOME"] = folder  # noqa: TID251 the jail's own
    # Process groups cross namespaces: in the old one, kill(0) would reach the zygote.
    os.setsid()
    kernel.drop_capabilities()
    setup = _arrange(order, setup)
    _limit(order, powers, size, others)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if walls.scratch is not None:
        # The folder stays empty: without a file system of its own, nothing would bound what a
        # run writes there before it is looked at.
        landlock.restrict(
            readable=(folder, *walls.readable),
            writable=("/dev/null", *walls.writable),
            executable=walls.readable if powers.may_execute else (),
        )
    kernel.install_seccomp(_filter(powers, walls))
    os.close(setup)


def prepare(order: Order, walls: Walls) -> None:
    """Before the fork: work out what would else be worked out in each child anew."""
    _filter(powers_of(order.job), walls)


def _filter(powers: Powers, walls: Walls) -> bytes:
    is_apart = walls.scratch is None
    return seccomp.inner_filter(
        may_execute=powers.may_execute,
        may_signal=is_apart or landlock.confines_signals(),
        may_mark=is_apart,
    )


def _into_limits(order: Order) -> None:
    with suppress(OSError):         # a hint to the kernel; the limits hold without it
        _write("/proc/self/oom_score_adj", _OOM_SCORE)
    if order.cgroup is not None:
        with suppress(OSError):     # before Linux 5.16 only its owner may; see `memory`
            os.write(order.cgroup, b"0")


def _cover() -> None:
    """A /tmp of this run's own, and nothing where /proc was; no shared memory of others."""
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount_tmpfs("/tmp", flags, _TMP_OPTIONS)  # noqa: S108 the jail's own
    kernel.mount_tmpfs("/proc", flags | kernel.MS_RDONLY, "size=0,nr_inodes=2")


def _arrange(order: Order, setup: int) -> int:
    """Only these are open: nothing to read, the log twice, RESULT, BROKER, TEXT, `setup`."""
    nothing = os.open("/dev/null", os.O_RDONLY)
    wanted = [nothing, order.log, order.log, order.result, order.broker, order.text, setup]
    for place, each in enumerate(wanted):
        if each is not None:
            os.dup2(each, _SPARE + place, inheritable=False)
    for place, each in enumerate(wanted[:-1]):
        if each is not None:
            os.dup2(_SPARE + place, place, inheritable=True)
        else:
            with suppress(OSError):
                os.close(place)
    last = TEXT + 1
    os.dup2(_SPARE + last, last, inheritable=False)
    os.closerange(last + 1, _DESCRIPTORS_MAX)
    return last


def _limit(order: Order, powers: Powers, size: int, others: int) -> None:
    """`size` and `others` are the address space and the processes that were there before."""
    memory = order.memory_mb * 1024 * 1024
    cpu_s = int(order.deadline_s) + 2     # only if the supervisor fails
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: powers.file_mb * 1024 * 1024,
        resource.RLIMIT_NOFILE: _FILES_MAX,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_STACK: _STACK_BYTES,
        resource.RLIMIT_NPROC: others + powers.processes,
    }
    if powers.limits_address_space:
        limits[resource.RLIMIT_AS] = size + memory
    for which, wanted in limits.items():
        most = resource.getrlimit(which)[1]
        value = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(which, (value, value))


def _address_space() -> int:
    """Bytes of it that what is preloaded takes: a scorer's allowance comes on top."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(descriptor, 200).split()[0]) * _PAGE
    finally:
        os.close(descriptor)


def _others() -> int:
    """Without a namespace of users, the kernel counts all that our user has anywhere."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return processes.tasks_of(proc, os.getuid())
    finally:
        os.close(proc)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
