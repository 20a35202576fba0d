"""The first process in a jail: imports the slow modules, then forks a supervisor for each run.

It is trusted and never reads users' code: only the child of a supervisor does. Each message on
the control socket is one order with its descriptors. When the worker closes the socket, or
ends, the zygote ends, and with it everything in the jail.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType

from scorers.sandbox.inside import child, job, kernel, programs, supervisor

READY = b"ready"

LINE = b"line"
"""A message that is no order: its one descriptor is a socket on which many orders will come."""

ORDER_BYTES_MAX = 64 * 1024
DESCRIPTORS_MAX = 8

# Imported before the first fork, so that no scorer spends its time on them.
_COMMON = (
    "asyncio", "collections.abc", "dataclasses", "datetime", "decimal", "difflib",
    "encodings.idna", "encodings.latin_1", "encodings.utf_8_sig", "hashlib", "inspect", "math",
    "random", "re", "statistics", "string", "stringprep", "textwrap", "traceback", "typing",
    "unicodedata", "uuid", "zoneinfo",
)

# Our modules. Python would clear them if nothing held a reference.
_hidden: list[ModuleType] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the jail is built. The worker gives it to this process as an argument.

    `uid` is the user to become if we are root. It must be a real user, because a mapped one
    would have no limit on its processes. `scratch` is the folder in which each run gets its own
    if there are no namespaces (tier B); with namespaces it is None.
    """

    control: int
    uid: int | None
    packages: str | None
    preload: tuple[str, ...]
    programs: dict[str, str]
    scratch: str | None = None
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()


def main(text: str) -> None:
    """Serve until the control socket closes. `text` is a Setting as JSON."""
    given = json.loads(text)
    tuples = {name: tuple(given[name]) for name in ("preload", "readable", "writable")}
    setting = Setting(**{**given, **tuples})
    _load_ours()
    if setting.uid is not None:
        os.setgroups([])
        os.setresgid(setting.uid, setting.uid, setting.uid)
        os.setresuid(setting.uid, setting.uid, setting.uid)
    if setting.scratch is not None:
        kernel.die_with_parent(signal.SIGKILL)      # in tier A bubblewrap does that
        if not os.access(os.__file__, os.R_OK):
            sys.exit(f"{os.__file__} cannot be read by the user {os.getuid()}")
    # Nobody of the same user may look into this process, nor take its descriptors.
    kernel.set_dumpable(on=False)
    kernel.adopt_orphans()                          # supervisors whose parents have ended
    programs.register(setting.programs)
    _preload(setting)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)   # the kernel reaps supervisors
    gc.collect()
    gc.freeze()                                     # else a child's first collection copies it
    _serve(socket.socket(fileno=setting.control), setting)


def _load_ours() -> None:
    """Import all our modules, then remove them from `sys.modules`.

    A scorer may then have modules with the same names, and imports those and not ours.
    """
    here = importlib.import_module(__package__)
    for found in pkgutil.iter_modules(here.__path__):
        job.loaded[found.name] = importlib.import_module(f"{__package__}.{found.name}")
    ours = __package__.partition(".")[0]
    names = [name for name in sys.modules if name.partition(".")[0] == ours]
    _hidden.extend(sys.modules.pop(name) for name in names)
    sys.path.pop(0)         # the folder from which they were imported


def _preload(setting: Setting) -> None:
    # Numeric libraries would start threads, and threads do not survive a fork.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # noqa: TID251 the jail's own, nothing is read
    if setting.packages:
        sys.path.append(setting.packages)
    for name in _COMMON:
        importlib.import_module(name)
    for name in setting.preload:
        with suppress(ImportError):
            importlib.import_module(name)


def _serve(control: socket.socket, setting: Setting) -> None:
    walls = child.Walls(
        scratch=setting.scratch, readable=setting.readable, writable=setting.writable
    )
    control.send(READY)
    for message, descriptors in _heard(control):
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            _supervise(message, descriptors, walls)     # never returns
        for each in descriptors:
            os.close(each)


def _supervise(message: bytes, descriptors: list[int], walls: child.Walls) -> None:
    """Run one order, or all orders of a line. Never returns."""
    if message != LINE:
        order = child.Order.parse(message, descriptors)
        supervisor.ChildSupervisor(walls, is_kept=False).supervise([order])
    (line,) = descriptors
    supervisor.ChildSupervisor(walls, is_kept=True).supervise(
        child.Order.parse(*each) for each in _heard(socket.socket(fileno=line))
    )


def _heard(control: socket.socket) -> Iterator[tuple[bytes, list[int]]]:
    """Each message with its descriptors, until the worker closes the socket."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, ORDER_BYTES_MAX, DESCRIPTORS_MAX)
        if not message:
            return
        yield message, descriptors
