"""Keeps the processes running, and ends them in order.

One thread and no handlers that do work: SIGINT and SIGTERM raise StopRequested wherever the
supervisor is, once. What it had started by then is known to it or dies with it.
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
# A process that ran so long before it ended is started again at once.
STEADY_S = 60.0
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# The whole stop takes at most 5 s: see STOP_S. PostgreSQL is asked twice (fast, immediate).
STOP_S = {0: 1.0, 1: 1.8, 2: 0.4, 3: 0.8}


class StopRequested(BaseException):
    """The operator pressed Ctrl-C, or the system asks us to end."""


@dataclass(slots=True, kw_only=True)
class Unit:
    """A process to be kept running. `launch` starts it, or raises SetupError."""

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
class Supervisor:
    """The units, oldest first. `say` shows a line to the operator."""

    say: Callable[[str], None]
    changed: Callable[[], None]
    units: list[Unit] = field(default_factory=list)

    def add(self, unit: Unit) -> None:
        """Start `unit` and keep it running from now on. Raises SetupError if it will not."""
        self.units.append(unit)
        _start(unit)

    def watch(self) -> None:
        """Start again what ends, until StopRequested."""
        while True:
            wait_until(self._any_ended, deadline_s=WATCH_S, every_s=0.1)
            self.check()

    def check(self) -> None:
        """One look at everything: telling log lines, ended processes, starts that are due."""
        for unit in self.units:
            for line in unit.log.telling_lines():
                self.say(f"{unit.name}: {line}")
            unit.log.bound()
            if unit.child and not unit.child.is_running:
                self._note_end(unit, unit.child)
            if unit.child is None and time.monotonic() >= unit.due_at_s:
                self._restart(unit)

    def ended(self) -> list[Unit]:
        """Units that are not running at this moment."""
        return [unit for unit in self.units if not (unit.child and unit.child.is_running)]

    def stop(self) -> None:
        """End all, in order, within 5 s; what does not end by itself is killed."""
        for order, patience_s in sorted(STOP_S.items()):
            together = [u.child for u in self.units if u.child and u.stop_order == order]
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
        return any(unit.child and not unit.child.is_running for unit in self.units)

    def _note_end(self, unit: Unit, child: Child) -> None:
        child.kill()
        now = time.monotonic()
        unit.failures = 0 if now - unit.started_at_s > STEADY_S else unit.failures + 1
        delay_s = restart_delay_s(unit.failures)
        unit.child, unit.due_at_s = None, now + delay_s
        self.say(
            f"{unit.name} ended ({_how(child.process.returncode)}), and is started again in "
            f"{delay_s:g} s; its log is {unit.log.path}: {unit.log.last_line()}"
        )
        self.changed()

    def _restart(self, unit: Unit) -> None:
        unit.restarts += 1
        try:
            _start(unit)
        except SetupError as error:
            unit.failures += 1
            unit.due_at_s = time.monotonic() + restart_delay_s(unit.failures)
            self.say(str(error))
        self.changed()


def restart_delay_s(failures: int) -> float:
    """Wait before the next start after so many quick ends in a row; none for a steady one."""
    return 0.0 if failures == 0 else BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]


def raise_on_stop_signals() -> None:
    """From now on SIGINT and SIGTERM raise StopRequested, the first time."""

    def stop(*_: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # The stop is under way and has its own deadline: a second Ctrl-C changes nothing.
            signal.signal(each, signal.SIG_IGN)
        raise StopRequested

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)


def _start(unit: Unit) -> None:
    unit.started_at_s = time.monotonic()
    unit.child = unit.launch()


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
