"""The process that will run a user's code: it locks itself in and cannot get out again.

The order matters. First comes all that needs powers, then the powers are given up, then the
filter of system calls is installed. Only after that is anything read that a user wrote.
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

# The descriptors that every job finds open, besides 0 to 2.
RESULT, BROKER, TEXT = 3, 4, 5

_TMP_OPTIONS = "size=16m,nr_inodes=256,mode=0700"
_FILES_MAX = 64
_STACK_BYTES = 16 * 1024 * 1024
_OOM_SCORE = b"1000"                      # killed first when the machine is out of memory
_SPARE = 100                              # descriptors are kept here while the low ones are set
_DESCRIPTORS_MAX = 4096                   # more than a zygote ever opens
_PAGE = os.sysconf("SC_PAGE_SIZE")

# The descriptors that each order brings, in the order in which they are sent.
_DESCRIPTORS = ("text", "result", "log", "status", "leash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order for one run: the job, its limits, and its descriptors.

    `deadline_s` is in seconds and `memory_mb` in MiB. `text` is the request as JSON, in a
    memory file that nobody can change. The run writes its answers to `result` and its output to
    `log`; the supervisor writes its report to `status`. `leash` becomes readable when the
    worker wants the run to end. `cgroup` is an open cgroup.procs that limits memory, and
    `broker` is the connection for model calls; a run may be without either.
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
        """The order in the worker's message: JSON that names optional descriptors in `more`."""
        given = json.loads(message)
        names = (*_DESCRIPTORS, *given.pop("more"))
        return cls(**given, **dict(zip(names, descriptors, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """The means that contain a child: namespaces if `scratch` is None, else Landlock.

    With Landlock the child may use only these paths, and a folder of its own in `scratch`.
    """

    scratch: str | None
    readable: tuple[str, ...]
    writable: tuple[str, ...]


def become(order: Order, walls: Walls, folder: str | None, setup: int) -> None:
    """Give up all powers but those of the job. `setup` is closed when that is done.

    Raises OSError if that fails. None of the user's code or data has been read by then.
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
    # Process groups reach across namespaces: in the old group, kill(0) would hit the zygote.
    os.setsid()
    kernel.drop_capabilities()
    setup = _arrange(order, setup)
    _limit(order, powers, size, others)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if walls.scratch is not None:
        # The run may not write to its folder. The folder is no file system of its own, so
        # nothing would limit how much the run writes there.
        landlock.restrict(
            readable=(folder, *walls.readable),
            writable=("/dev/null", *walls.writable),
            executable=walls.readable if powers.may_execute else (),
        )
    kernel.install_seccomp(_filter(powers, walls))
    os.close(setup)


def prepare(order: Order, walls: Walls) -> None:
    """Compute, before the fork, the filter that each child would otherwise compute itself."""
    _filter(powers_of(order.job), walls)


def _filter(powers: Powers, walls: Walls) -> bytes:
    is_apart = walls.scratch is None
    return seccomp.inner_filter(
        may_execute=powers.may_execute,
        may_signal=is_apart or landlock.confines_signals(),
        may_mark=is_apart,
    )


def _into_limits(order: Order) -> None:
    with suppress(OSError):         # only a hint to the kernel: the limits work without it
        _write("/proc/self/oom_score_adj", _OOM_SCORE)
    if order.cgroup is not None:
        with suppress(OSError):     # before Linux 5.16 only the group's owner may do this
            os.write(order.cgroup, b"0")


def _cover() -> None:
    """Give the run its own /tmp and shared memory, and put an empty folder over /proc."""
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount_tmpfs("/tmp", flags, _TMP_OPTIONS)  # noqa: S108 the jail's own
    kernel.mount_tmpfs("/proc", flags | kernel.MS_RDONLY, "size=0,nr_inodes=2")


def _arrange(order: Order, setup: int) -> int:
    """Close all descriptors but those of the job; return the new number of `setup`.

    Standard input is empty, standard output and error are the log, and then come RESULT, BROKER
    and TEXT.
    """
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
    """Set the limits of this process.

    `size` is the address space that it takes already, in bytes. `others` is the number of
    processes that count against its limit already.
    """
    memory = order.memory_mb * 1024 * 1024
    cpu_s = int(order.deadline_s) + 2     # it counts only if the supervisor fails
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
    """The bytes of address space that this process takes already, before the scorer's own."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(descriptor, 200).split()[0]) * _PAGE
    finally:
        os.close(descriptor)


def _others() -> int:
    """The processes and threads of our user on the whole machine.

    Without a user namespace, the kernel counts all of them against the limit.
    """
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
