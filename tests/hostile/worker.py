"""Starts `driver.py` as root or as an ordinary user, and speaks with it.

An ordinary user must be able to open the interpreter and the project, which may lie in a home
that is closed to others; so must the user that root's scorers become where there are no
namespaces. So root shows them the same machine with the closed folders replaced by open ones,
in which nothing but the needed paths is: a mount namespace, made by bubblewrap, that contains
nothing and changes nothing else. Who is an ordinary user already needs none of that.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("driver.py")
START_S = 30.0
ANSWER_S = 60.0
STOP_S = 10.0


class Worker:
    """A running driver. Its requests may be made from several threads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._writing = threading.Lock()
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            stop(process)
            raise AssertionError(f"the driver ended with {process.returncode}, see its errors")
        threading.Thread(target=self._listen, daemon=True).start()

    def ask(self, do: str, **request: object) -> Any:
        """The driver's answer. Raises AssertionError if it fails, or takes too long."""
        number = next(self._numbers)
        answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._waiting[number] = answers
        with self._writing:
            assert self._process.stdin is not None
            line = json.dumps({"do": do, "number": number, **request})
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        try:
            said = answers.get(timeout=ANSWER_S)
        except queue.Empty:
            raise AssertionError(f"the driver does not answer: {do}") from None
        assert "failed" not in said, said["failed"]
        return said["answer"]

    @property
    def driver(self) -> psutil.Process:
        """The driver itself, whatever it was started through."""
        process = psutil.Process(self._process.pid)
        while DRIVER.name not in " ".join(process.cmdline()) or process.name() == "bwrap":
            (process,) = process.children()
        return process

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._waiting.pop(said["number"]).put(said)
        for each in self._waiting.values():
            each.put({"failed": "the driver has ended"})


@contextmanager
def started(
    setting: Mapping[str, object],
    *,
    uid: int,
    environment: Mapping[str, str],
    needed: list[Path],
) -> Iterator[Worker]:
    """A worker of this user. `needed` are the paths that it must be able to read."""
    command = [sys.executable, str(DRIVER), json.dumps(setting)]
    if uid != os.geteuid():
        command = [*becoming(uid), *command]
    if os.geteuid() == 0:
        command = [*opened(needed), *command]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
             **environment},
    )
    try:
        yield Worker(process)
    finally:
        stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """Ask it to end, and see to it that nothing of it is left."""
    tree = []
    if process.poll() is None:
        tree = psutil.Process(process.pid).children(recursive=True)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
    for each in psutil.wait_procs(tree, timeout=STOP_S)[1]:
        each.kill()


def opened(needed: list[Path]) -> list[str]:
    """What root puts before a command so that others than root can read `needed`."""
    shown: list[str] = []
    covered: set[Path] = set()
    for path in needed:
        closed = [each for each in reversed(path.parents) if not each.stat().st_mode & 0o001]
        if not closed:
            continue
        if closed[0] not in covered:
            covered.add(closed[0])
            shown += ["--perms", "0755", "--tmpfs", str(closed[0])]
        below = [each for each in reversed(path.parents) if each.is_relative_to(closed[0])][1:]
        shown += [word for each in below for word in ("--perms", "0755", "--dir", str(each))]
        shown += ["--ro-bind", str(path), str(path)]
    if not shown:
        return []
    return ["bwrap", "--dev-bind", "/", "/", *shown, "--die-with-parent", "--"]


def becoming(uid: int) -> list[str]:
    """What root puts before a command so that it runs as another user."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
