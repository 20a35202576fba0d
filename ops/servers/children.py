"""Starts child processes that do not outlive this process, and stops them.

Each child leads a session of its own, so Ctrl-C in the terminal reaches only the supervisor. On
Linux the kernel signals the child when the supervisor dies, in whatever way it dies. macOS has
no such call: there, the next supervisor finds the children that a killed one left behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spans.errors import SetupError

# From linux/prctl.h and linux/capability.h.
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522

POLL_S = 0.01


class ChildProcess(Protocol):
    """What is used of a `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""

    def send_signal(self, sig: int) -> None:
        """Send the signal; do nothing if the process has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A started process. `stop_signals` ask it to end, the gentlest first."""

    name: str
    process: ChildProcess
    stop_signals: tuple[signal.Signals, ...]

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended. Collects its exit code once it has."""
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        """Send the gentlest signal. Does nothing if the process has ended."""
        self.process.send_signal(self.stop_signals[0])

    def stop(self, *, patience_s: float) -> None:
        """Send each signal and wait `patience_s` after it; then kill the process group."""
        for each in self.stop_signals:
            self.process.send_signal(each)
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
            break
        self.kill()

    def kill(self) -> None:
        """Send SIGKILL to the process and to all processes that are still in its group."""
        # An empty group is an error, which macOS calls EPERM.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start(
    name: str,
    argv: list[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    uid: int | None = None,
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,),
    orphan_signal: signal.Signals = signal.SIGKILL,
) -> Child:
    """Start `argv` and append its output to `log`. Call it from the main thread only.

    `uid` is the user that the child runs as if this process is root. `orphan_signal` is what
    the kernel sends the child when this process dies. Raises SetupError if the child cannot be
    started.
    """
    parent = os.getpid()

    def become_child() -> None:
        # The supervisor may block signals while it starts children; the child must get them.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if uid is not None:
            drop_root(uid)
        if sys.platform == "linux":
            # Set after the change of user, because that change clears it.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    try:
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 argv is ours, no shell
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=become_child,  # noqa: PLW1509 safe with one thread; no other way
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"{name} cannot be started ({error}): see {log}.") from error
    return Child(name=name, process=process, stop_signals=stop_signals)


def drop_root(uid: int) -> None:
    """Become the user `uid`, and keep one of root's powers: reading in private folders.

    PostgreSQL refuses to run as root. As another user it could reach neither its program in a
    checkout below /root nor its data in our private folder. The wheel's own start opens those
    folders to everybody, which would be worse. Containers often grant only CAP_DAC_OVERRIDE, so
    that is kept if CAP_DAC_READ_SEARCH is not to be had.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    on_linux = sys.platform == "linux"
    if on_linux:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        # Otherwise access(2), by which initdb finds its programs, ignores the kept power.
        libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    if not on_linux:
        return
    header = struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0)
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        bits = 1 << capability
        # Effective, permitted, inheritable; twice, for the lower and the upper 32 bits.
        if libc.capset(header, struct.pack("6I", bits, bits, bits, 0, 0, 0)) == 0:
            libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)
            return
    libc.capset(header, struct.pack("6I", 0, 0, 0, 0, 0, 0))


def wait_until(
    state: Callable[[], bool], *, deadline_s: float, every_s: float = POLL_S
) -> bool:
    """Whether `state` became true within `deadline_s`. A signal handler may raise out of it."""
    until = time.monotonic() + deadline_s
    pause = threading.Event()
    while not state():
        if time.monotonic() > until:
            return False
        pause.wait(every_s)
    return True
