"""Runs the pieces of a set-up side by side, and says what each does and how far it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from ops.install.failure import ProgramFailed, SetupFailed

SHOW_EVERY_S = 3.0

QUIET_S = 15.0
"""Seconds without news after which an index is called slow. Most packages take under one."""

GIVE_UP_S = 1800.0
"""Seconds without news after which programs are ended. uv, pip and npm give up much sooner on
an index that does not answer. On a slow line the largest package (Node.js, 58 MB) is no news as
long as it takes: 30 minutes at 0.26 Mbit/s."""

LOOK_EVERY_S = 0.1
TAIL_LINES = 12
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+(?=@)")


class Piece(Protocol):
    """Something that set-up installs, such as an environment. It may be installed already."""

    @property
    def name(self) -> str:
        """What the user sees, such as `.venv`."""

    @property
    def after(self) -> Sequence[Piece]:
        """The pieces that this one needs."""

    def is_complete(self) -> bool:
        """Whether there is nothing to do. It takes a few milliseconds."""

    def make(self, making: Making) -> None:
        """Install it. Safe to repeat after an interruption. Raises SetupFailed."""


class Making:
    """The making of one piece: what it does just now, and the program that does it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = "the package index"
        """Where its files come from. A piece that knows better says so."""
        self.waits = False
        """Whether another make is at it, which has its own patience with the index."""
        self._tell: Callable[[], str] = lambda: ""
        self._process: subprocess.Popen[str] | None = None
        self._is_ended = threading.Event()

    def state(self) -> str:
        """What it does just now, such as `12 of 70 packages`. Empty while it waits."""
        return self._tell()

    def now(self, state: str) -> None:
        """Change the state."""
        self._tell = lambda: state

    def follow(self, tell: Callable[[], str]) -> None:
        """Have the state computed by `tell` whenever it is shown."""
        self._tell = tell

    def wait_until(self, is_free: Callable[[], bool]) -> None:
        """Wait until another make has ended its work. Raises SetupFailed if this one is ended.

        Nothing can end a thread that waits inside the kernel, so it looks again and again.
        """
        tell = self._tell
        while not is_free():
            self.waits = True
            self.now("waits for another make")
            if self._is_ended.wait(LOOK_EVERY_S):
                raise SetupFailed(f"{self.name}: stopped while another make was at it")
        self.waits = False
        self._tell = tell

    def say(self, line: str) -> None:
        """Print a line at once."""
        show(f"         {self.name}: {line}")

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None,
        folder: Path | None = None, hear: Callable[[str], None] | None = None,
    ) -> str:
        """The end of what the program printed, without credentials. `hear` gets each line.

        `environment` is added to that of this process. Raises ProgramFailed, and SetupFailed if
        it was ended.
        """
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        try:
            process = subprocess.Popen(  # noqa: S603 our own commands, no shell
                command, cwd=folder,
                env={**os.environ, **(environment or {})},  # noqa: TID251 handed on
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                encoding="utf-8", errors="replace",
            )
        except OSError as error:
            raise ProgramFailed(f"{command[0]}: {error.strerror}") from error
        with process:
            self._process = process
            if self._is_ended.is_set():
                process.kill()
            for line in process.stdout or ():
                if text := without_credentials(line.rstrip()):
                    tail.append(text)
                    if hear:
                        hear(text)
        if self._is_ended.is_set():
            raise SetupFailed(
                f"{self.name}: nothing arrived from {self.source} for {GIVE_UP_S:.0f} s. Check "
                "the network and the index's settings; then run the command again."
            )
        if process.returncode != 0:
            raise ProgramFailed("\n".join(tail) or f"{command[0]} failed and said nothing")
        return "\n".join(tail)

    def end(self) -> None:
        """End its program, and each that it would start."""
        self._is_ended.set()
        if process := self._process:
            process.kill()


def carry_out(pieces: Sequence[Piece]) -> list[SetupFailed]:
    """Make all pieces side by side, each after those that it needs. Gives why some failed.

    A piece that is not among `pieces` counts as there.
    """
    futures: dict[str, Future[None]] = {}
    makings = {piece.name: Making(piece.name) for piece in pieces}
    with ThreadPoolExecutor(max_workers=len(pieces)) as pool:
        for piece in pieces:
            needed = [futures[each.name] for each in piece.after if each.name in futures]
            futures[piece.name] = pool.submit(_make, piece, makings[piece.name], needed)
        try:
            _watch({future: makings[name] for name, future in futures.items()})
        except BaseException:
            for making in makings.values():
                making.end()
            raise
    failures: dict[str, SetupFailed] = {}
    for future in futures.values():
        try:
            future.result()
        except SetupFailed as failure:
            failures.setdefault(str(failure), failure)
    failures.pop("", None)
    return list(failures.values())


def _make(piece: Piece, making: Making, needed: list[Future[None]]) -> None:
    wait(needed)
    if any(each.exception() for each in needed):
        raise SetupFailed  # the other piece says why
    making.now("begins")
    try:
        piece.make(making)
    except OSError as error:
        raise SetupFailed(f"{piece.name} cannot be installed: {error}") from error


def _watch(left: dict[Future[None], Making]) -> None:
    """Show progress until all have ended."""
    began_s = news_s = warned_s = time.monotonic()
    shown = ""
    while left:
        done, _ = wait(left, timeout=SHOW_EVERY_S, return_when=FIRST_COMPLETED)
        now_s = time.monotonic()
        clock = f"{now_s - began_s:5.0f} s  "
        for future in done:
            making = left.pop(future)
            if not future.exception():
                show(f"{clock}{making.name} is ready")
        told = {each: each.state() for each in left.values()}
        states = "; ".join(f"{each.name}: {state}" for each, state in told.items() if state)
        if done or states != shown:
            news_s = warned_s = now_s
            if not done:
                show(clock + states)
                shown = states
            continue
        silent = [each for each, state in told.items() if state and not each.waits]
        if silent and now_s - news_s >= GIVE_UP_S:
            for each in silent:
                each.end()
        elif silent and now_s - warned_s >= QUIET_S:
            warned_s = now_s
            sources = " and ".join(dict.fromkeys(each.source for each in silent))
            show(
                f"{clock}nothing new for {now_s - news_s:.0f} s: {sources} is slow or does not "
                f"answer. Still trying; after {GIVE_UP_S:.0f} s without news this ends"
            )


def show(line: str) -> None:
    """Print a line now, also where the output is a file."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def without_credentials(text: str) -> str:
    """The text with `***` for the user and password in each URL."""
    return _CREDENTIALS.sub("***", text)
