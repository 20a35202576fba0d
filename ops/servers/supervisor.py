"""Keeps this machine's processes running, and stops them in order.

The supervisor has one thread. The first SIGINT, SIGTERM or SIGHUP raises StopRequested wherever
that thread is; the signal handlers do nothing else. No process is left behind, even if the
signal arrives while one is being started: the kernel ends a child when its supervisor dies.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ops.servers.children import Child, wait_until
from ops.servers.log_files import LogFile
from spans.errors import SetupError

WATCH_S = 0.5
# Seconds. A process that ran longer than this before it ended is started again at once.
STEADY_S = 60.0
# Seconds to wait before the next start, after one, two, ... quick ends in a row.
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# Seconds that processes get to stop, by their stop order. Together with the second, harder
# signal for PostgreSQL (0.2 s) they stay below 5 s.
STOP_S = {0: 1.0, 1: 1.8, 2: 0.4, 3: 0.8}


class StopRequested(BaseException):
    """The operator pressed Ctrl-C, or the system asked this process to end."""


@dataclass(slots=True, kw_only=True)
class KeptProcess:
    """A process that the supervisor keeps running, and how often it had to start it.

    `launch` starts it, or raises SetupError. `child` is None while the process waits for its
    next start, at `due_at_s` (monotonic seconds). `failures` counts quick ends in a row.
    """

    name: str
    launch: Callable[[], Child]
    log: LogFile
    stop_order: int
    child: Child | None = None
    restarts: int = 0
    failures: int = 0
    started_at_s: float = 0.0
    due_at_s: float = 0.0


@dataclass(slots=True)
class ProcessSupervisor:
    """Starts processes again when they end, and stops all of them in order.

    `processes` are in the order of their start. `say` shows a line to the operator. `changed`
    is called whenever a process ended or was started again.
    """

    say: Callable[[str], None]
    changed: Callable[[], None]
    processes: list[KeptProcess] = field(default_factory=list)

    def add(self, process: KeptProcess) -> None:
        """Start `process` and keep it running. Raises SetupError if it does not start."""
        self.processes.append(process)
        _start(process)

    def watch(self) -> None:
        """Start processes again when they end. Ends only by StopRequested."""
        while True:
            wait_until(self._any_ended, deadline_s=WATCH_S, every_s=0.1)
            self.check()

    def check(self) -> None:
        """Show new warnings of the logs, note which processes ended, start those due."""
        for process in self.processes:
            for line in process.log.new_warnings():
                self.say(f"{process.name}: {line}")
            process.log.rotate()
            if process.child and not process.child.is_running:
                self._note_end(process, process.child)
            if process.child is None and time.monotonic() >= process.due_at_s:
                self._restart(process)

    def stop(self) -> None:
        """Stop all processes in order, within 5 s; kill those that do not stop."""
        for order, patience_s in sorted(STOP_S.items()):
            together = [
                process.child for process in self.processes
                if process.child and process.stop_order == order
            ]
            for child in together:
                child.ask_to_stop()
            wait_until(
                lambda group=together: not any(child.is_running for child in group),  # type: ignore[misc]
                deadline_s=patience_s,
            )
            for child in together:
                if child.is_running and len(child.stop_signals) > 1:
                    child.stop(patience_s=0.2)
                child.kill()

    def _any_ended(self) -> bool:
        return any(process.child and not process.child.is_running for process in self.processes)

    def _note_end(self, process: KeptProcess, child: Child) -> None:
        child.kill()
        now = time.monotonic()
        process.failures = 0 if now - process.started_at_s > STEADY_S else process.failures + 1
        delay_s = restart_delay_s(process.failures)
        process.child, process.due_at_s = None, now + delay_s
        self.say(
            f"{process.name} ended ({_how(child.process.wait())}) and starts again in "
            f"{delay_s:g} s; its log, {process.log.path}, ends with: {process.log.last_line()}"
        )
        self.changed()

    def _restart(self, process: KeptProcess) -> None:
        process.restarts += 1
        try:
            _start(process)
        except SetupError as error:
            process.failures += 1
            process.due_at_s = time.monotonic() + restart_delay_s(process.failures)
            self.say(str(error))
        self.changed()


def restart_delay_s(failures: int) -> float:
    """Seconds to wait before the next start, after this many quick ends in a row."""
    return 0.0 if failures == 0 else BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]


def raise_on_stop_signals() -> None:
    """Have the first SIGINT, SIGTERM or SIGHUP raise StopRequested; ignore later ones."""

    def stop(*_: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # The stop has its own deadline, so a second Ctrl-C must not interrupt it.
            signal.signal(each, signal.SIG_IGN)
        raise StopRequested

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)


def _start(process: KeptProcess) -> None:
    process.started_at_s = time.monotonic()
    process.child = process.launch()


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
