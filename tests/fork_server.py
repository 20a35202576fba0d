"""Starts Python processes of Tallyard by fork, without their 0.7 s of imports.

A process of its own, the fork server, has imported what Tallyard's processes import. It forks
for each start, and the fork runs the module as `python -m` does: as `__main__`, with arguments,
environment and log of its own. What is imported depends on nothing but the code
(tests/architecture checks that importing a room needs no environment). Tests of starting itself
and of changed code start a new interpreter instead.

    server = fork_server()
    process = server.start(["-m", "workers", "worker", "-Q", "match"], log=..., environment=...)
    process.poll()

Run as a script, this file is the fork server.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED = (
    "api.asgi", "autoevals", "celery.apps.worker", "celery.bin.beat", "celery.bin.worker",
    "celery.concurrency.prefork", "celery.concurrency.thread", "celery.worker.consumer",
    "celery.worker.strategy", "httptools", "kombu.transport.redis", "uvicorn", "uvloop",
    "workers.process",
)
WITH_SETTINGS = "workers.celery"
"""What reads the environment when it is imported, so that each process must do it itself."""

UNKNOWN = 1000
"""Stands for the exit code of a process that has ended, which only its parent is told."""

PR_SET_PDEATHSIG = 1   # linux/prctl.h


class Forked:
    """A process that the fork server started, with what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # None: it has ended before it could be opened.
        self._descriptor: int | None = None
        with suppress(ProcessLookupError):
            self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """None while it runs, then UNKNOWN."""
        return self._ended_within(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        code = self._ended_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def send_signal(self, how: int) -> None:
        """Sends the signal; does nothing if the process has ended."""
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, how)

    def _ended_within(self, timeout_s: float | None) -> int | None:
        if self._descriptor is None:
            return UNKNOWN
        ended = select.poll()
        ended.register(self._descriptor, select.POLLIN)
        if not ended.poll(None if timeout_s is None else timeout_s * 1000):
            return None
        os.close(self._descriptor)
        self._descriptor = None
        return UNKNOWN


class ForkServer:
    """A fork server, which ends with this process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},  # noqa: TID251 handed on
            start_new_session=True,
        )

    def start(self, argv: list[str], *, log: Path, environment: Mapping[str, str]) -> Forked:
        """Starts `python` with these arguments, `-m` first, and appends its output to `log`."""
        assert argv[0] == "-m"
        log.touch()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"argv": argv[1:], "log": str(log), "environment": dict(environment)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))


@functools.cache
def fork_server() -> ForkServer:
    """The fork server of this process, started when it is first asked for."""
    return ForkServer()


def serve() -> dict:
    """Answers requests with the ids of new forks. Returns in each fork, with its request.

    The kernel buries the forks: nobody asks for their exit codes.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = os.getpid()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            die_with(server)
            return json.loads(line)
        print(pid, flush=True)
    sys.exit()


def become(request: dict) -> None:
    """Turn this fork into the process that was asked for, up to its first import."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    os.close(log)
    os.close(nothing)
    os.environ.clear()  # noqa: TID251 the new process's own
    os.environ.update(request["environment"])  # noqa: TID251 the same
    time.tzset()
    sys.argv = request["argv"]


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies."""
    import ctypes  # noqa: PLC0415 the client needs none of it

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    sys.path[0] = str(ROOT)
    for each in IMPORTED:
        importlib.import_module(each)
    assert WITH_SETTINGS not in sys.modules
    asked = serve()
    become(asked)
    runpy.run_module(asked["argv"][0], run_name="__main__", alter_sys=True)
