"""One turn of each contender at the two tasks that count spans a second."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

import psycopg
from autoevals import Levenshtein

from benchmarks import naive
from benchmarks.load import Load, Order, load
from benchmarks.naive_stack import Naive
from benchmarks.processes import difference, machine_cpu_s
from benchmarks.rows import rows, texts
from benchmarks.stack import Stack
from benchmarks.waiting import wait_for_outcomes

ROWS_EACH = 100
CONNECTIONS = 8
TURN_S = 180.0
RAW_S = 1.0
WAITING_ROWS = """
    select coalesce(sum(cardinality(row_ids)), 0) from outbox
     where project_id = %s and matched_at is null
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one contender did in one turn.

    `cpu_us` is processor time a span, by process; "elsewhere" is what the machine spent on
    others meanwhile: where it is not small, the turn was disturbed.
    """

    spans: int
    seconds: float
    cpu_us: dict[str, float] = field(default_factory=dict)

    @property
    def spans_per_s(self) -> float:
        """The measure."""
        return self.spans / self.seconds


def raw(count: int, *, seed: int) -> Turn:
    """The scorer alone, in a loop on one core, on the same texts, for RAW_S at least."""
    pairs = list(texts(count, seed=seed))
    scorer = Levenshtein()
    before, before_ours = machine_cpu_s(), time.process_time()
    begin = time.perf_counter()
    done = 0
    while (elapsed := time.perf_counter() - begin) < RAW_S:
        for output, expected in pairs:
            scorer.eval(output=output, expected=expected)
        done += count
    ours = time.process_time() - before_ours
    used = {"elsewhere": max(0.0, machine_cpu_s() - before - ours)}
    return Turn(spans=done, seconds=elapsed, cpu_us=_each(used, done))


def tallyard_http(stack: Stack, count: int, *, seed: int) -> Turn:
    """POST /logs3 to the last completed outcome."""
    project_id = stack.project(_name("http"), scorer="Levenshtein")
    host, port = stack.host_and_port
    order = _order(
        count, host=host, port=port, project_id=project_id, key=stack.key, seed=seed
    )
    with stack.connect() as reader, load(order, log=stack.log) as generator:
        before, machine = stack.cpu_s(), machine_cpu_s()
        begin, last, load_s = _post(generator, reader, project_id, count)
        used = {**difference(before, stack.cpu_s()), "load generator": load_s}
        used["elsewhere"] = _elsewhere(machine, used)
    return Turn(spans=count, seconds=last - begin, cpu_us=_each(used, count))


def naive_http(baseline: Naive, stack: Stack, count: int, *, seed: int) -> Turn:
    """The same of the naive baseline."""
    project_id = str(uuid.uuid4())
    order = _order(
        count, host="127.0.0.1", port=baseline.port, project_id=project_id, key="", seed=seed
    )
    with baseline.connect() as reader, load(order, log=stack.log) as generator:
        before, shared, machine = baseline.cpu_s(), stack.cpu_s(), machine_cpu_s()
        begin, last, load_s = _post(generator, reader, project_id, count)
        used = difference(before, baseline.cpu_s())
        # Its database is another one on the same server.
        used["postgres"] = difference(shared, stack.cpu_s()).get("postgres", 0.0)
        used["load generator"] = load_s
        used["elsewhere"] = _elsewhere(machine, used)
    return Turn(spans=count, seconds=last - begin, cpu_us=_each(used, count))


def tallyard_drain(stack: Stack, count: int, *, seed: int) -> Turn:
    """A backlog that came in while the match worker stood still, from its first step on."""
    project_id = stack.project(_name("drain"), scorer="Levenshtein")
    host, port = stack.host_and_port
    order = _order(
        count, host=host, port=port, project_id=project_id, key=stack.key, seed=seed
    )
    with stack.connect() as reader:
        with stack.held("match"):
            with load(order, log=stack.log) as generator:
                generator.go()
                generator.answered()
            found = reader.execute(WAITING_ROWS, (project_id,)).fetchone()
            if found is None or found[0] != count:
                raise RuntimeError(f"the backlog holds {found} instead of {count} rows")
            before, machine = stack.cpu_s(), machine_cpu_s()
            begin = time.monotonic()
        last = wait_for_outcomes(reader, project_id, count, deadline_s=TURN_S)
        used = difference(before, stack.cpu_s())
        used["elsewhere"] = _elsewhere(machine, used)
    return Turn(spans=count, seconds=last - begin, cpu_us=_each(used, count))


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
            before, shared, machine = baseline.cpu_s(), stack.cpu_s(), machine_cpu_s()
            begin = time.monotonic()
        finally:
            baseline.resume_worker()
        last = wait_for_outcomes(reader, project_id, count, deadline_s=TURN_S)
        used = difference(before, baseline.cpu_s())
        used["postgres"] = difference(shared, stack.cpu_s()).get("postgres", 0.0)
        used["elsewhere"] = _elsewhere(machine, used)
    return Turn(spans=count, seconds=last - begin, cpu_us=_each(used, count))


def _order(
    count: int, *, host: str, port: int, project_id: str, key: str, seed: int
) -> Order:
    return Order(
        host=host, port=port, path="/logs3", authorization=f"Bearer {key}",
        connections=CONNECTIONS, requests=count // ROWS_EACH, rows_each=ROWS_EACH, seed=seed,
        prefix="r", project_id=project_id,
    )


def _post(
    generator: Load, reader: psycopg.Connection, project_id: str, count: int
) -> tuple[float, float, float]:
    """(first request, last outcome, the load generator's processor seconds)."""
    generator.go()
    begin = time.monotonic()
    last = wait_for_outcomes(reader, project_id, count, deadline_s=TURN_S)
    answered = generator.answered()
    if set(answered.statuses) != {"200"}:
        raise RuntimeError(f"the API answered {answered.statuses}")
    return min(begin, answered.begin_s), last, answered.cpu_s


def _elsewhere(machine_before_s: float, used: dict[str, float]) -> float:
    return max(0.0, machine_cpu_s() - machine_before_s - sum(used.values()))


def _each(used: dict[str, float], count: int) -> dict[str, float]:
    return {name: seconds / count * 1e6 for name, seconds in used.items()}


def _name(kind: str) -> str:
    return f"{kind} {uuid.uuid4().hex[:8]}"
