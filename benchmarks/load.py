"""The load generator: a process of its own that posts bodies over kept connections.

`python -m benchmarks.load` reads one JSON object (see `Order`) from its standard input, makes
the bodies, says "ready", waits for a line, posts, and prints one JSON object (see `Answered`).
Raw asyncio and httptools: 1 000 requests a second take it a fraction of a core, and the
processor seconds that it did take are part of what it says.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httptools
import orjson
import uvloop

from benchmarks.rows import bodies

READY_S = 60.0
DRAIN_S = 60.0
"""How long answers are waited for once the last request was due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to post. `every_s` None: as fast as the connections allow, else at this pace.

    `body` is posted `requests` times as it is; without it, rows of `project_id` are.
    """

    host: str
    port: int
    path: str
    authorization: str = ""
    connections: int
    requests: int
    every_s: float | None = None
    rows_each: int = 0
    seed: int = 0
    prefix: str = ""
    project_id: str = ""
    body: str | None = None

    def bodies(self) -> Iterator[bytes]:
        """What is posted, in order."""
        if self.body is not None:
            yield from [self.body.encode()] * self.requests
            return
        yield from bodies(
            self.requests * self.rows_each, rows_each=self.rows_each, seed=self.seed,
            prefix=self.prefix, project_id=self.project_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of it. Times are CLOCK_MONOTONIC seconds, which all processes share.

    `due_s` is when a request was to be sent (at a pace) or was sent; `answered_s` is when its
    answer was whole, None for one that never came. `body_bytes` is what all bodies hold.
    """

    begin_s: float
    end_s: float
    cpu_s: float
    body_bytes: int
    due_s: list[float]
    answered_s: list[float | None]
    statuses: dict[str, int]


class Connection(asyncio.Protocol):
    """One kept connection with at most one request under way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP is a Transport

    def data_received(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed_data(data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)

    def on_message_complete(self) -> None:
        """Of httptools' interface."""
        if self._answer is not None and self._parser is not None and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())

    async def post(self, request: bytes) -> int:
        """The status of the answer; 0 where the connection was lost."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        return await self._answer


async def run(order: Order) -> Answered:
    """Post everything that `order` says."""
    head = (
        f"POST {order.path} HTTP/1.1\r\nhost: {order.host}\r\n"
        f"content-type: application/json\r\nauthorization: {order.authorization}\r\n"
    ).encode()
    made = list(order.bodies())
    body_bytes = sum(map(len, made))
    requests = [b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body) for body in made]
    del made
    loop = asyncio.get_running_loop()
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(order.connections):
        _, connection = await loop.create_connection(Connection, order.host, order.port)
        idle.put_nowait(connection)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)

    statuses: Counter[str] = Counter()
    due: list[float] = [0.0] * len(requests)
    answered: list[float | None] = [None] * len(requests)
    cpu_s = _cpu_s()
    begin = time.monotonic()

    async def post(number: int, connection: Connection) -> None:
        status = await connection.post(requests[number])
        if status // 100 == 2:
            answered[number] = time.monotonic()
        statuses[str(status)] += 1
        if status:
            idle.put_nowait(connection)

    running: set[asyncio.Task[None]] = set()
    for number in range(len(requests)):
        if order.every_s is not None:
            due[number] = begin + number * order.every_s
            if (wait := due[number] - time.monotonic()) > 0:
                await asyncio.sleep(wait)
        connection = await idle.get()
        if order.every_s is None:
            due[number] = time.monotonic()
        task = asyncio.create_task(post(number, connection))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running, timeout=DRAIN_S)
    return Answered(
        begin_s=begin, end_s=time.monotonic(), cpu_s=_cpu_s() - cpu_s, body_bytes=body_bytes,
        due_s=due, answered_s=answered, statuses=dict(statuses),
    )


class Load:
    """A load generator that has its bodies ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def go(self) -> None:
        """Begin to post."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answered(self) -> Answered:
        """What came of it, once it is over. Raises RuntimeError if nothing did."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator died")
        return Answered(**orjson.loads(line))


@contextmanager
def load(order: Order, *, log: Path) -> Iterator[Load]:
    """A load generator for `order`, ready to begin; gone at the end, whatever happens."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asdict(order)) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the load generator did not start: see {log}")
        yield Load(process)
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(READY_S)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Serve one order."""
    order = Order(**orjson.loads(sys.stdin.readline()))
    answered = uvloop.run(run(order))
    sys.stdout.write(orjson.dumps(asdict(answered)).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
