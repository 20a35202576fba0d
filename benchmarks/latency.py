"""How long after its acknowledgement a row shows its score, at a fixed offer of rows.

Acknowledged: the load generator has read the answer to the request that brought the row.
Readable: a reader on a connection of its own, outside of any transaction of ours, has been
given the row with a score on it. The reader follows versions (`xact`) every few milliseconds,
so its own pace is part of the figure. What PostgreSQL spends on the reader is left out of the
processor time.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles

import psutil
import psycopg

from benchmarks.contestants import ONE_RULE, with_postgres
from benchmarks.load import Answered, Order, load
from benchmarks.naive_stack import Naive
from benchmarks.processes import difference, running_ms
from benchmarks.rows import row_id
from benchmarks.stack import Stack
from benchmarks.tables import SCORED_AFTER, scored_after

POLL_S = 0.004
OVERLAP_S = 0.05
"""The reader looks again at versions this young: a lower one may come after a higher."""

STRAGGLERS_S = 30.0
"""How long rows are waited for after the last request was answered."""

CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is offered for `seconds`."""

    requests_per_s: int
    rows_each: int
    seconds: float

    @property
    def requests(self) -> int:
        """How many requests that makes."""
        return round(self.requests_per_s * self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Milliseconds. `unreadable` rows never showed a score in time: the percentiles lack them.

    `answer_ms` is from when a request was due to its answer, `readable_ms` from there to the
    score. `offered_s` is how long it took to send what was due in `Offer.seconds`. `cpu_ms` is
    processor time a request of what serves, by process.
    """

    rows: int
    unreadable: int
    refused: int
    offered_s: float
    answer_ms: dict[str, float]
    readable_ms: dict[str, float]
    generator_cpu: float
    reader_cpu: float
    cpu_ms: dict[str, float]

    @property
    def worst_answer_ms(self) -> float:
        """The answers' p95; without end where some requests were refused."""
        return float("inf") if self.refused else self.answer_ms.get("p95", float("inf"))

    @property
    def worst_readable_ms(self) -> float:
        """The scores' p95; without end where some rows never showed one."""
        is_whole = not self.unreadable and not self.refused
        return self.readable_ms.get("p95", float("inf")) if is_whole else float("inf")


def tallyard_delays(stack: Stack, offer: Offer) -> Delays:
    """Of Tallyard."""
    project_id = stack.project(f"delay {uuid.uuid4().hex[:8]}", rates=ONE_RULE)
    host, port = stack.host_and_port
    return _measure(
        stack, stack.connect, stack.cpu_s, offer, host=host, port=port, key=stack.key,
        project_id=project_id,
    )


def naive_delays(baseline: Naive, stack: Stack, offer: Offer) -> Delays:
    """Of the naive baseline."""
    return _measure(
        stack, baseline.connect, lambda: with_postgres(baseline, stack), offer,
        host="127.0.0.1", port=baseline.port, key="", project_id=str(uuid.uuid4()),
    )


class Follower:
    """Notes when each row of a project was first seen with a score."""

    def __init__(self, connect: Callable[[], psycopg.Connection], project_id: str) -> None:
        self._connect = connect
        self._project_id = project_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._backend: psutil.Process | None = None
        self.seen_s: dict[str, float] = {}
        self.cpu_s = 0.0

    @property
    def backend_cpu_s(self) -> float:
        """Processor seconds that PostgreSQL has used for the reader so far."""
        return 0.0 if self._backend is None else running_ms(self._backend) / 1000

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _follow(self) -> None:
        begin_cpu = time.thread_time()
        floor, next_floor, floor_set_s = 0, 0, time.monotonic()
        with self._connect() as reader:
            self._backend = psutil.Process(reader.info.backend_pid)
            while not self._stop.wait(POLL_S):
                found = reader.execute(SCORED_AFTER, (self._project_id, floor)).fetchall()
                now = time.monotonic()
                for seen_id, _ in found:
                    self.seen_s.setdefault(seen_id, now)
                if now - floor_set_s > OVERLAP_S:
                    floor, floor_set_s = next_floor, now
                    next_floor = max((xact for _, xact in found), default=next_floor)
                self.cpu_s = time.thread_time() - begin_cpu


def _measure(
    stack: Stack, connect: Callable[[], psycopg.Connection],
    cpu_s: Callable[[], Mapping[str, float]], offer: Offer, *, host: str, port: int, key: str,
    project_id: str,
) -> Delays:
    order = Order(
        host=host, port=port, path="/logs3", authorization=f"Bearer {key}",
        connections=CONNECTIONS, requests=offer.requests, rows_each=offer.rows_each,
        every_s=1 / offer.requests_per_s, seed=7, prefix="l", project_id=project_id,
    )
    rows = offer.requests * offer.rows_each
    with load(order, log=stack.log) as generator, Follower(connect, project_id) as follower:
        before, of_reader = cpu_s(), follower.backend_cpu_s
        generator.go()
        answered = generator.answered()
        until = time.monotonic() + STRAGGLERS_S
        pause = threading.Event()
        while len(follower.seen_s) < rows and time.monotonic() < until:
            pause.wait(0.1)
            if until - time.monotonic() < STRAGGLERS_S / 2 and _all_scored(
                connect, project_id, rows
            ):
                break   # the reader overtook some: they count as unreadable
        used = difference(before, cpu_s())
        for_reader = follower.backend_cpu_s - of_reader
        used["postgres"] = used.get("postgres", 0.0) - for_reader
    return _delays(offer, answered, follower, used)


def _all_scored(
    connect: Callable[[], psycopg.Connection], project_id: str, rows: int
) -> bool:
    with connect() as reader:
        return scored_after(reader, project_id, 0) >= rows


def _delays(
    offer: Offer, answered: Answered, follower: Follower, used: Mapping[str, float]
) -> Delays:
    answers: list[float] = []
    readable: list[float] = []
    missing = 0
    for number, (due_s, answered_s) in enumerate(
        zip(answered.due_s, answered.answered_s, strict=True)
    ):
        if answered_s is None:
            continue
        answers.append((answered_s - due_s) * 1000)
        for index in range(offer.rows_each):
            seen_s = follower.seen_s.get(row_id("l", number * offer.rows_each + index))
            if seen_s is None:
                missing += 1
            else:
                # A score may be there before the answer has reached its client.
                readable.append(max(0.0, seen_s - answered_s) * 1000)
    elapsed_s = answered.end_s - answered.begin_s
    return Delays(
        rows=offer.requests * offer.rows_each, unreadable=missing,
        refused=sum(each is None for each in answered.answered_s), offered_s=elapsed_s,
        answer_ms=percentiles(answers), readable_ms=percentiles(readable),
        generator_cpu=answered.cpu_s / elapsed_s, reader_cpu=follower.cpu_s / elapsed_s,
        cpu_ms={name: seconds / offer.requests * 1000 for name, seconds in used.items()},
    )


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the greatest; empty without values."""
    if len(values) < 2:
        return {}
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(values)}
