"""One child's run as the worker sees it: send the order, hear the answers, hold the leash."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import orjson

from scorers.sandbox.frame_reader import Frame, split
from scorers.sandbox.model import Limits
from spans.json import JsonObject

Broker = Callable[[socket.socket], None]
"""Serves the other end of the child's descriptor 4 until that closes."""

GRACE_S = 2.0
"""From letting a child go to giving up its jail."""

_SEALABLE = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
_READ_BYTES = 256 * 1024


@dataclass(slots=True)
class Transcript:
    """What was heard of one child. `status` is None if the jail died around it.

    `loaded` is the frame that says the code is there. `broken` says how the child broke the
    form; `timed_out`, that it was let go because what comes next took too long.
    """

    started_s: float
    loaded: Frame | None = None
    frames: list[Frame] = field(default_factory=list)
    status: JsonObject | None = None
    timed_out: bool = False
    broken: str | None = None
    log: bytearray = field(default_factory=bytearray)
    log_dropped: int = 0


class JailLost(Exception):
    """The jail is gone: it takes no orders."""


def exchange(
    control: socket.socket,
    job: str,
    text: bytes,
    *,
    count: int,
    limits: Limits,
    cgroup: int | None = None,
    broker: Broker | None = None,
) -> Transcript:
    """Have one child do `job` on `text`, and hear `count` answers after the first.

    Raises Lost if the jail took no order, OSError if this machine had no room for one.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(_descriptors())
        result, log, status, leash = (opened.pipe() for _ in range(4))
        theirs = [opened.sealed(text), result[1], log[1], status[1], leash[0]]
        optional = {"cgroup": cgroup}
        if broker is not None:
            optional["broker"] = opened.keep(stack.enter_context(_served(broker)))
        given = {name: each for name, each in optional.items() if each is not None}
        order = {
            "job": job,
            "deadline_s": limits.loading_s + limits.time_s * count + GRACE_S,
            "memory_mb": limits.memory_mb,
            "more": [*given],
        }
        transcript = Transcript(time.monotonic())
        try:
            socket.send_fds(control, [orjson.dumps(order)], [*theirs, *given.values()])
        except OSError as error:
            raise JailLost(str(error)) from error
        opened.close(*theirs)
        if "broker" in given:
            opened.close(given["broker"])
        _Hearing(transcript, limits, count, opened).until_the_end(
            result[0], log[0], status[0], leash[1]
        )
        return transcript


class _Hearing:
    """Reads what a child sends, and lets it go when it takes too long or breaks the form."""

    def __init__(
        self, transcript: Transcript, limits: Limits, count: int, opened: _Descriptors
    ) -> None:
        self._said = transcript
        self._limits = limits
        self._count = count
        self._opened = opened
        self._buffer = bytearray()
        self._until_s = transcript.started_s + limits.loading_s
        self._is_let_go = False

    def until_the_end(self, result: int, log: int, status: int, leash: int) -> None:
        """Returns when the supervisor has said how it ended, or the jail does not answer."""
        poll = select.poll()
        for each in (result, log, status):
            os.set_blocking(each, False)
            poll.register(each, select.POLLIN)
        verdict = bytearray()
        part = None
        while part != b"" and not self._is_given_up(leash):
            left_s = self._until_s - time.monotonic()
            ready = {each for each, _ in poll.poll(max(0.0, left_s * 1000))}
            for each in ready & {result, log}:
                if not self._read(each, result):
                    poll.unregister(each)
            if status in ready:
                part = os.read(status, _READ_BYTES)
                verdict += part
        for each in (result, log):
            self._read(each, result)
        if verdict:
            self._said.status = orjson.loads(verdict)

    def _is_given_up(self, leash: int) -> bool:
        """Let the child go if it must be; whether even that had no effect."""
        is_late = time.monotonic() >= self._until_s
        if self._is_let_go:
            return is_late
        if is_late or self._said.broken is not None:
            self._said.timed_out = is_late and len(self._said.frames) < self._count
            self._opened.close(leash)
            self._is_let_go = True
            self._until_s = time.monotonic() + GRACE_S
        return False

    def _read(self, descriptor: int, result: int) -> bool:
        """All that is there now. False at its end."""
        with suppress(BlockingIOError):
            while part := os.read(descriptor, _READ_BYTES):
                if descriptor == result:
                    self._hear(part)
                else:
                    self._keep(part)
                if len(part) < _READ_BYTES:
                    return True
            return False
        return True

    def _hear(self, part: bytes) -> None:
        said = self._said
        if said.broken is not None:
            return
        self._buffer += part
        now_s = time.monotonic()
        frames, said.broken = split(
            self._buffer,
            result_bytes=self._limits.result_bytes,
            log_bytes=self._limits.log_bytes,
            now_s=now_s,
        )
        if frames and not self._is_let_go:      # what drips in without an answer buys no time
            self._until_s = now_s + self._limits.time_s
        if frames and said.loaded is None:
            said.loaded = frames.pop(0)
        said.frames += frames
        if len(said.frames) > self._count:
            said.broken = f"more than {self._count} answers (did it fork?)"

    def _keep(self, part: bytes) -> None:
        room = max(0, self._limits.log_bytes - len(self._said.log))
        self._said.log += part[:room]
        self._said.log_dropped += len(part) - len(part[:room])


class _Descriptors:
    """What one run has open; each is closed once."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def pipe(self) -> tuple[int, int]:
        """To read, to write."""
        ends = os.pipe()
        self._open.update(ends)
        return ends

    def keep(self, descriptor: int) -> int:
        """Close this one with the others."""
        self._open.add(descriptor)
        return descriptor

    def sealed(self, text: bytes) -> int:
        """A file in memory that nobody can change any more: read where it lies, never piped."""
        descriptor = self.keep(os.memfd_create("request", _SEALABLE))
        left = memoryview(text)
        while left:
            left = left[os.write(descriptor, left) :]
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return descriptor

    def close(self, *descriptors: int) -> None:
        """Close those that are still open."""
        for each in descriptors:
            if each in self._open:
                self._open.discard(each)
                os.close(each)

    def close_all(self) -> None:
        """Close whatever is left."""
        self.close(*self._open)


@contextmanager
def _descriptors() -> Iterator[_Descriptors]:
    opened = _Descriptors()
    try:
        yield opened
    finally:
        opened.close_all()


@contextmanager
def _served(broker: Broker) -> Iterator[int]:
    """The child's end of a connection that `broker` serves on a thread of its own."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=broker, args=(ours,), name="broker", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:          # the kernel's EAGAIN, under Python's own name
        ours.close()
        theirs.close()
        raise OSError(errno.EAGAIN, str(error)) from error
    try:
        yield theirs.detach()
    finally:
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        thread.join(GRACE_S)
        ours.close()
