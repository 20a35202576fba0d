"""Starts Tallyard's Python processes by fork, so that what all of them import is held once.

The fork server is a process that has imported what Tallyard's processes import. It forks for
each start, and the fork runs its module as `python -m` does: as `__main__`, with arguments,
environment and log of its own. What is imported depends on nothing but the code (a test imports
every module without any environment). A page that no process writes to is then in memory once
and not seven times, and a start takes a fork instead of 0.7 s of imports.

The forks are children of the process that asked, not of the fork server: it is told how they
end, and they end with it. Once they run, nothing depends on the fork server. If it is gone, the
next start begins with another. It needs Linux; elsewhere each process is an interpreter of its
own.

`python -m ops.servers.fork_server` is the fork server itself.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.servers.children import PR_SET_PDEATHSIG, Child, start, wait_until
from spans.errors import SetupError

IMPORTED = (
    "aiohttp", "api.asgi", "autoevals", "celery.apps.worker", "celery.bin.celery",
    "celery.concurrency.prefork", "celery.concurrency.thread", "celery.events.state",
    "celery.worker.consumer", "celery.worker.strategy", "httptools", "kombu.transport.redis",
    "tornado.auth", "tornado.web", "uvicorn", "uvloop", "wiring.tallyard", "workers.process",
    "workers.sandboxes",
)
"""What Tallyard's processes import. `workers.celery` is not among it: it reads the settings."""

ADOPTED_S = 30.0
"""Longest time until the kernel has made a fork our child. It takes a millisecond, and more on
a busy machine."""

FORKS = sys.platform == "linux"
"""Whether there is a fork server. macOS's libraries do not work in a fork, and it has no
adoption."""

# From linux/prctl.h.
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36


class ForkServer:
    """A fork server. It is started by `open`, or when it is first needed, and ends with us.

    Call it from the main thread only.
    """

    def __init__(self, *, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def open(self) -> None:
        """Start it if it does not run. It imports for a second, during which we can go on."""
        if not FORKS or (self._process and self._process.poll() is None):
            return
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 our own interpreter
                [sys.executable, "-m", __name__, str(os.getpid())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
                # A fork's lines would otherwise reach its log only when its buffer is full.
                env={**os.environ, "PYTHONUNBUFFERED": "1"},  # noqa: TID251 handed on
                start_new_session=True,
            )

    def start(
        self, name: str, argv: list[str], *, log: Path, environment: Mapping[str, str]
    ) -> Child:
        """Start `python` with these arguments, `-m` first, and append its output to `log`.

        Raises SetupError if it cannot be started.
        """
        if not FORKS:
            return start(name, [sys.executable, *argv], log=log, environment=environment)
        self.open()
        log.touch()
        request = json.dumps({
            "name": name, "argv": argv[1:], "log": str(log), "environment": dict(environment)
        })
        with _adopting():
            try:
                pid = int(self._ask(request))
            except (OSError, ValueError) as error:
                raise SetupError(
                    f"{name} cannot be started: the fork server ended; see {self._log}."
                ) from error
            # Only its parent can tell how a process ends, and a group is needed to kill it.
            if not wait_until(
                lambda: _is_child(pid) and os.getpgid(pid) == pid,
                deadline_s=ADOPTED_S, every_s=0.001,
            ):
                raise SetupError(f"{name} cannot be started: process {pid} is not our child.")
        return Child(name=name, process=ForkedProcess(pid), stop_signals=(signal.SIGTERM,))

    def _ask(self, request: str) -> str:
        pipes = self._process
        assert pipes is not None  # noqa: S101 these three are for the type checker
        assert pipes.stdin is not None  # noqa: S101
        assert pipes.stdout is not None  # noqa: S101
        pipes.stdin.write(f"{request}\n")
        pipes.stdin.flush()
        return pipes.stdout.readline()

    def close(self) -> None:
        """End it. What it started goes on."""
        if self._process:
            self._process.kill()
            self._process.communicate()


class ForkedProcess:
    """A child process that the fork server started, used like a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, as Popen gives it; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        deadline_s = math.inf if timeout is None else timeout
        if not wait_until(lambda: self.poll() is not None, deadline_s=deadline_s):
            raise subprocess.TimeoutExpired(str(self.pid), deadline_s)
        assert self.returncode is not None  # noqa: S101 for the type checker
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send the signal; do nothing if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    name: str
    argv: list[str]
    log: str
    environment: dict[str, str]


@contextmanager
def _adopting() -> Iterator[None]:
    """Meanwhile, orphans among our descendants become our children, not those of init.

    No longer than that, since whoever adopts must also bury.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _serve(client: int) -> _Request:
    """Answers requests with the ids of new forks. Returns in each fork, with its request."""
    for line in sys.stdin:
        # Of two forks the first ends at once, so that the second is an orphan, which our
        # client adopts.
        first = os.fork()
        if first:
            if os.waitpid(first, 0)[1] != 0:
                break   # there is no memory for a second fork; the client starts a new server
            continue
        first = os.getpid()
        second = os.fork()
        if second:
            sys.stdout.write(f"{second}\n")
            sys.stdout.flush()
            os._exit(0)
        os.setsid()
        wait_until(lambda: os.getppid() != first, deadline_s=ADOPTED_S, every_s=0.001)  # noqa: B023
        _die_with(client)
        return _Request(**json.loads(line))
    sys.exit()


def _become(request: _Request) -> None:
    """Turn this fork into the process that was asked for, up to its first import."""
    # The client may block signals while it starts processes.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ctypes.CDLL(None).prctl(PR_SET_NAME, request.name.encode()[:15], 0, 0, 0)
    log = os.open(request.log, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    os.close(log)
    os.close(nothing)
    os.environ.clear()  # noqa: TID251 the new process's own
    os.environ.update(request.environment)  # noqa: TID251 the same
    time.tzset()
    sys.argv = request.argv
    gc.enable()


def _die_with(process: int) -> None:
    """Have the kernel kill this process when that one, its parent, dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != process:
        os._exit(1)


def main() -> None:
    """Import, then fork for each request. Returns in the forks when they are done."""
    _die_with(int(sys.argv[1]))
    # A scan for garbage writes to each object, and would unshare its page.
    gc.disable()
    for each in IMPORTED:
        importlib.import_module(each)
    gc.freeze()
    request = _serve(int(sys.argv[1]))
    _become(request)
    runpy.run_module(request.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
