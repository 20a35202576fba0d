"""The supervisor over real processes: none outlives it, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ops.servers.children import start, wait_until
from ops.servers.log_files import LogFile
from ops.servers.supervisor import KeptProcess, ProcessSupervisor

# Starts two processes that ignore SIGTERM, prints their ids, and watches them.
PROGRAM = """
import sys
from functools import partial
from pathlib import Path
from ops.servers.children import start
from ops.servers.log_files import LogFile
from ops.servers.supervisor import (
    KeptProcess, ProcessSupervisor, StopRequested, raise_on_stop_signals,
)

STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True)" + (
    "; time.sleep(600)"
)
raise_on_stop_signals()
supervisor = ProcessSupervisor(say=print, changed=lambda: None)
try:
    for order, name in enumerate(("first", "second")):
        log = Path(sys.argv[1]) / name
        launch = partial(start, name, [sys.executable, "-c", STUBBORN], log=log)
        supervisor.add(
            KeptProcess(name=name, launch=launch, log=LogFile(log), stop_order=order)
        )
    print(*(kept.child.process.pid for kept in supervisor.processes), flush=True)
    supervisor.watch()
except StopRequested:
    supervisor.stop()
"""


@pytest.fixture
def supervised(tmp_path):
    """A supervisor in a process of its own, and the ids of its two children."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        children = [int(each) for each in process.stdout.readline().split()]
        assert wait_until(
            lambda: all((tmp_path / name).read_text() for name in ("first", "second")),
            deadline_s=10,
        )
        yield process, children
        process.kill()


def all_gone(pids: list[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_ends_even_stubborn_children_within_five_seconds(supervised, how):
    process, children = supervised
    asked_at = time.monotonic()
    process.send_signal(how)
    assert process.wait(10) == 0
    assert time.monotonic() - asked_at < 5
    assert all_gone(children)


def test_a_second_ctrl_c_does_not_cut_the_stop_short(supervised):
    process, children = supervised
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert all_gone(children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of the death")
def test_a_killed_supervisor_takes_its_children_with_it(supervised):
    process, children = supervised
    process.kill()
    assert wait_until(lambda: all_gone(children), deadline_s=30)


def test_a_process_that_ends_is_started_again_and_the_operator_is_told(tmp_path):
    said: list[str] = []
    log = tmp_path / "log"
    supervisor = ProcessSupervisor(say=said.append, changed=lambda: None)
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    kept = KeptProcess(
        name="sleeper",
        launch=lambda: start("sleeper", sleep, log=log),
        log=LogFile(log),
        stop_order=0,
    )
    supervisor.add(kept)
    first = kept.child.process.pid
    os.kill(first, signal.SIGKILL)

    def is_back() -> bool:
        supervisor.check()
        return kept.child is not None and kept.child.process.pid != first

    try:
        assert wait_until(is_back, deadline_s=5)
        assert kept.restarts == 1
        assert "sleeper ended (SIGKILL) and starts again in 0.5 s" in said[0]
    finally:
        supervisor.stop()


def test_what_a_child_started_ends_with_it(tmp_path):
    family = (
        "import subprocess, sys, time;"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    child = start("family", [sys.executable, "-c", family], log=log)
    assert wait_until(lambda: log.read_text().strip().isdigit(), deadline_s=30)
    child.stop(patience_s=2)
    assert wait_until(lambda: all_gone([int(log.read_text())]), deadline_s=30)


def test_a_child_takes_its_own_signals_although_we_hold_ours_back(tmp_path):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = start("held", ["sleep", "600"], log=Path(tmp_path / "log"))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    child.ask_to_stop()
    assert child.process.wait(30) == -signal.SIGTERM
