"""One turn of each contender at the two tasks that count spans a second."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg
from autoevals import Levenshtein

from benchmarks import bare, naive
from benchmarks.load import Answered, Order, load
from benchmarks.naive_stack import Naive
from benchmarks.processes import difference, machine_cpu_s
from benchmarks.rows import rows, texts
from benchmarks.stack import Stack
from benchmarks.tables import WAITING_ROWS, last_version, scored_after
from benchmarks.waiting import wait_for_outcomes, wait_until_matched

ROWS_EACH = 100
CONNECTIONS = 8
TURN_S = 180.0
RAW_S = 1.0
ONE_RULE: Mapping[str, float] = {"Levenshtein": 1.0}
TWO_RULES: Mapping[str, float] = {"Levenshtein": 1.0, "ExactMatch": 0.1}
"""Sampling rates by scorer: a project's rules."""

LOG_SIZE = """
    select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
           pg_database_size(current_database())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one contender did in one turn.

    `cpu_us` is processor time a span, by process; "elsewhere" is what the machine spent on
    others meanwhile: where it is not small, the turn was disturbed. `wal`, `stored` and `sent`
    are bytes a span: of the write-ahead log, of the database, and of the JSON that was posted.
    """

    spans: int
    seconds: float
    cpu_us: dict[str, float] = field(default_factory=dict)
    wal: float = 0.0
    stored: float = 0.0
    sent: float = 0.0

    @property
    def spans_per_s(self) -> float:
        """The measure."""
        return self.spans / self.seconds

    @property
    def server_us(self) -> float:
        """Processor time a span of all that serves: neither the load generator nor others."""
        outside = ("load generator", "elsewhere")
        return sum(us for name, us in self.cpu_us.items() if name not in outside)


class Meter:
    """What a contender and its database have used since the meter was made."""

    def __init__(
        self, reader: psycopg.Connection, cpu_s: Callable[[], Mapping[str, float]]
    ) -> None:
        self._reader = reader
        self._cpu_s = cpu_s
        self._wal, self._size = self._sizes()
        self._machine = machine_cpu_s()
        self._used = cpu_s()
        self.begin_s = time.monotonic()

    def turn(
        self, spans: int, end_s: float, *, begin_s: float | None = None,
        answered: Answered | None = None,
    ) -> Turn:
        """The turn that began at `begin_s` (or when the meter was made), and is over now."""
        used = difference(self._used, self._cpu_s())
        if answered is not None:
            used["load generator"] = answered.cpu_s
        elsewhere = machine_cpu_s() - self._machine - sum(used.values())
        used["elsewhere"] = max(0.0, elsewhere)
        wal, size = self._sizes()
        return Turn(
            spans=spans, seconds=end_s - (begin_s or self.begin_s),
            cpu_us={name: seconds / spans * 1e6 for name, seconds in used.items()},
            wal=(wal - self._wal) / spans, stored=(size - self._size) / spans,
            sent=answered.body_bytes / spans if answered else 0.0,
        )

    def _sizes(self) -> tuple[int, int]:
        found = self._reader.execute(LOG_SIZE).fetchone()
        assert found is not None
        return found[0], found[1]


def raw(count: int, *, seed: int) -> Turn:
    """The scorer alone, in a loop on one core, on the same texts, for RAW_S at least."""
    pairs = list(texts(count, seed=seed))
    scorer = Levenshtein()
    machine, ours = machine_cpu_s(), time.process_time()
    begin = time.perf_counter()
    done = 0
    while (elapsed := time.perf_counter() - begin) < RAW_S:
        for output, expected in pairs:
            scorer.eval(output=output, expected=expected)
        done += count
    used = time.process_time() - ours
    elsewhere = max(0.0, machine_cpu_s() - machine - used)
    return Turn(
        spans=done, seconds=elapsed,
        cpu_us={"loop": used / done * 1e6, "elsewhere": elsewhere / done * 1e6},
    )


def tallyard_http(
    stack: Stack, count: int, *, seed: int, rates: Mapping[str, float] = ONE_RULE
) -> Turn:
    """POST /logs3 to the last score, in a new project with these rules."""
    project_id = stack.project(_name("http"), rates=rates)
    return log_and_score(stack, project_id, count, seed=seed)


def log_and_score(stack: Stack, project_id: str, count: int, *, seed: int) -> Turn:
    """POST /logs3 to the last score, in a project that is there. One seed: the same rows."""
    order = _ours(stack, project_id, count, seed=seed)
    with stack.connect() as reader, load(order, log=stack.log) as generator:
        version = last_version(reader)
        meter = Meter(reader, stack.cpu_s)
        generator.go()
        answered = _all_taken(generator.answered())
        last = wait_until_matched(reader, project_id, deadline_s=TURN_S)
        turn = meter.turn(
            count, last, begin_s=min(meter.begin_s, answered.begin_s), answered=answered
        )
        _all_scored(reader, project_id, count, version)
    return turn


def log_only(stack: Stack, project_id: str, count: int, *, seed: int) -> None:
    """POST /logs3 alone, in a project that is there."""
    with load(_ours(stack, project_id, count, seed=seed), log=stack.log) as generator:
        generator.go()
        _all_taken(generator.answered())


def naive_http(baseline: Naive, stack: Stack, count: int, *, seed: int) -> Turn:
    """The same of the naive baseline."""
    project_id = str(uuid.uuid4())
    order = _order(
        count, host="127.0.0.1", port=baseline.port, project_id=project_id, key="", seed=seed
    )
    with baseline.connect() as reader, load(order, log=stack.log) as generator:
        meter = Meter(reader, lambda: with_postgres(baseline, stack))
        generator.go()
        last = wait_for_outcomes(reader, project_id, count, deadline_s=TURN_S)
        answered = _all_taken(generator.answered())
        return meter.turn(
            count, last, begin_s=min(meter.begin_s, answered.begin_s), answered=answered
        )


def tallyard_drain(stack: Stack, count: int, *, seed: int) -> Turn:
    """A backlog that came in while the match worker stood still, from its first step on."""
    project_id = stack.project(_name("drain"), rates=ONE_RULE)
    with stack.connect() as reader:
        with stack.held("match"):
            version = _backlog(stack, reader, project_id, count, seed=seed)
            meter = Meter(reader, stack.cpu_s)
        last = wait_until_matched(reader, project_id, deadline_s=TURN_S)
        turn = meter.turn(count, last)
        _all_scored(reader, project_id, count, version)
    return turn


def bare_drain(stack: Stack, count: int, *, seed: int) -> Turn:
    """The same backlog, by a loop that does nothing but claim, score and COPY."""
    project_id = stack.project(_name("bare"), rates=ONE_RULE)
    (rule_id,) = stack.rule_ids(project_id).values()
    with stack.connect() as reader, stack.held("match"):
        version = _backlog(stack, reader, project_id, count, seed=seed)
        # The loop is to have the best plans there are.
        reader.execute("analyze span, span_head, outbox")
        meter = Meter(reader, lambda: {**stack.cpu_s(), "loop": time.process_time()})
        bare.drain(reader, project_id, rule_id)
        turn = meter.turn(count, time.monotonic())
        _all_scored(reader, project_id, count, version)
    return turn


def naive_drain(baseline: Naive, stack: Stack, count: int, *, seed: int) -> Turn:
    """The same of the naive baseline: rows and messages are there before its worker moves."""
    project_id = str(uuid.uuid4())
    backlog = list(rows(count, seed=seed, prefix="n"))
    with baseline.connect() as reader:
        baseline.stop_worker()
        try:
            for first in range(0, count, ROWS_EACH):
                batch = backlog[first : first + ROWS_EACH]
                naive.insert_rows(naive.connection(), project_id, batch)
            naive.publish(project_id, backlog)
            meter = Meter(reader, lambda: with_postgres(baseline, stack))
        finally:
            baseline.resume_worker()
        last = wait_for_outcomes(reader, project_id, count, deadline_s=TURN_S)
        return meter.turn(count, last)


def _backlog(
    stack: Stack, reader: psycopg.Connection, project_id: str, count: int, *, seed: int
) -> int:
    """Log rows while the match worker stands still. The last version before they are scored."""
    order = _ours(stack, project_id, count, seed=seed)
    with load(order, log=stack.log) as generator:
        generator.go()
        _all_taken(generator.answered())
    found = reader.execute(WAITING_ROWS, (project_id,)).fetchone()
    if found is None or found[0] != count:
        raise RuntimeError(f"the backlog holds {found} instead of {count} rows")
    return last_version(reader)


def _all_scored(
    reader: psycopg.Connection, project_id: str, count: int, version: int
) -> None:
    scored = scored_after(reader, project_id, version)
    if scored != count:
        raise RuntimeError(f"{scored} of {count} rows have a score")


def with_postgres(baseline: Naive, stack: Stack) -> dict[str, float]:
    """Processor seconds of the baseline. Its database is another one on our server."""
    return {**baseline.cpu_s(), "postgres": stack.cpu_s().get("postgres", 0.0)}


def _ours(stack: Stack, project_id: str, count: int, *, seed: int) -> Order:
    host, port = stack.host_and_port
    return _order(
        count, host=host, port=port, project_id=project_id, key=stack.key, seed=seed
    )


def _order(
    count: int, *, host: str, port: int, project_id: str, key: str, seed: int
) -> Order:
    return Order(
        host=host, port=port, path="/logs3", authorization=f"Bearer {key}",
        connections=CONNECTIONS, requests=count // ROWS_EACH, rows_each=ROWS_EACH, seed=seed,
        project_id=project_id,
    )


def _all_taken(answered: Answered) -> Answered:
    if set(answered.statuses) != {"200"}:
        raise RuntimeError(f"the API answered {answered.statuses}")
    return answered


def _name(kind: str) -> str:
    return f"{kind} {uuid.uuid4().hex[:8]}"
