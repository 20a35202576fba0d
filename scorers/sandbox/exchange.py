"""Runs one child from the worker's side: sends the order, reads the answers, keeps the time.

The worker holds one end of the child's leash, a pipe. When the worker closes it, or dies, the
supervisor in the jail kills the child.
"""

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
"""Seconds that a supervisor has to kill its child before the worker gives up the jail."""

_SEALABLE = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
_READ_BYTES = 256 * 1024


@dataclass(slots=True)
class Transcript:
    """All that the worker heard of one child.

    `loaded` is the first frame, which says whether the code has loaded; `frames` are those of
    the records. `status` is the supervisor's report of how the child ended; it is None if the
    jail died first. `broken` says how the child broke the format of frames. `timed_out` means
    that the worker ended the child because the next frame took too long.
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
    """The jail has ended, so it takes no orders."""


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
    """Run one child that does `job` on the request `text`, and return all that was heard.

    `count` answers are expected after the first frame. `cgroup` is an open cgroup.procs. The
    `broker` gets the other end of the child's connection for model calls. Raises JailLost if
    the jail took no order, and OSError if the machine lacks descriptors or memory for a run.
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
    """Reads what a child sends, and ends the child if it is too slow or breaks the format."""

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
        """Read until the supervisor has reported the child's end, or the jail is given up."""
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
        """Close the leash if the child must end. True if that was done and had no effect."""
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
        """Read all that is there now. False if the other end is closed."""
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
        # Only a complete frame buys time for the next one; single bytes do not.
        if frames and not self._is_let_go:
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
    """The descriptors that one run has open. Each is closed exactly once."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def pipe(self) -> tuple[int, int]:
        """A new pipe: the end to read from, and the end to write to."""
        ends = os.pipe()
        self._open.update(ends)
        return ends

    def keep(self, descriptor: int) -> int:
        """Take over this descriptor, to close it with the others."""
        self._open.add(descriptor)
        return descriptor

    def sealed(self, text: bytes) -> int:
        """A file in memory that holds the text and that nobody can change any more."""
        descriptor = self.keep(os.memfd_create("request", _SEALABLE))
        left = memoryview(text)
        while left:
            left = left[os.write(descriptor, left) :]
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return descriptor

    def close(self, *descriptors: int) -> None:
        """Close those of these descriptors that are still open."""
        for each in descriptors:
            if each in self._open:
                self._open.discard(each)
                os.close(each)

    def close_all(self) -> None:
        """Close all that are still open."""
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
    except RuntimeError as error:          # Python raises this for the kernel's EAGAIN
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
