"""Starts processes that never outlive this one, and stops them.

Each child leads a session of its own, so that Ctrl-C in the terminal reaches the supervisor
alone. On Linux the kernel sends it a signal when the supervisor dies, however it dies; where
there is no such call (macOS) a killed supervisor leaves its children to be found by the next.
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

from spans.errors import SetupError

# linux/prctl.h and linux/capability.h
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A running process. `stop_signals` ask it to end, politest first."""

    name: str
    process: subprocess.Popen[bytes]
    stop_signals: tuple[signal.Signals, ...]

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; collects its exit code if it has."""
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        """Send the politest signal; harmless if it has ended."""
        self.process.send_signal(self.stop_signals[0])

    def stop(self, *, patience_s: float) -> None:
        """End it, with `patience_s` for each signal; at last the whole group is killed."""
        for each in self.stop_signals:
            self.process.send_signal(each)
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
            break
        self.kill()

    def kill(self) -> None:
        """SIGKILL to it and to what it started that is still in its group."""
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
    """Start `argv`, writing to the end of `log`. To be called from the main thread only.

    `uid` is who it runs as when we are root. `orphan_signal` is what the kernel sends it when
    we die. Raises SetupError if it cannot be started.
    """
    parent = os.getpid()

    def become_child() -> None:
        # The supervisor may hold signals back while it starts its children.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if uid is not None:
            drop_root(uid)
        if sys.platform == "linux":
            # After the change of user, which clears it.
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
                preexec_fn=become_child,  # noqa: PLW1509 one thread, and nothing else can do it
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"{name} cannot be started ({error}): see {log}.") from error
    return Child(name=name, process=process, stop_signals=stop_signals)


def drop_root(uid: int) -> None:
    """Become `uid`, keeping of root's powers only that of reading below closed folders.

    PostgreSQL refuses to run as root, and as anyone else it could neither reach its program in
    a checkout below /root nor its data in our closed folder. Opening those folders to all, as
    the wheel's own start does, would be worse. Containers often grant CAP_DAC_OVERRIDE only.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    on_linux = sys.platform == "linux"
    if on_linux:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        # Else access(2), by which initdb looks for its programs, asks as if without the power.
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
    """Whether `state` became true in `deadline_s`. A signal handler may end it by raising."""
    until = time.monotonic() + deadline_s
    pause = threading.Event()
    while not state():
        if time.monotonic() > until:
            return False
        pause.wait(every_s)
    return True
