"""Re-score jobs beside live scoring: rates, live delays, memory, and how soon a job ends."""

from __future__ import annotations

import json
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from benchmarks.contestants import log_only, tallyard_drain, tallyard_http
from benchmarks.latency import Delays, Offer, tallyard_delays
from benchmarks.stack import Stack
from benchmarks.waiting import wait_until_matched

DEADLINE_S = 600.0
POLL_S = 0.02
WORKER = "automations"
LIVE_SPANS_LEAST = 20_000
ROWS_LEAST = 2000
"""Rows of the smallest job whose memory is measured: a smaller one ends before it is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RescoreFigures:
    """What was measured. Rates are rows a second, a ratio for each round; memory is MB of the
    worker at its greatest during a job."""

    live_rates: list[float]
    job_rates: list[float]
    run_rates: list[float]
    alone: Delays
    beside: Delays
    live_alone: list[float]
    live_beside: list[float]
    memory_mb: dict[str, float]
    cancel_s: list[float]

    @property
    def job_share(self) -> float:
        """The median of a job's rate over the live rate of the same round."""
        return _median_ratio(self.job_rates, self.live_rates)

    @property
    def live_share(self) -> float:
        """The median of the live rate beside a job over the one alone of the same round."""
        return _median_ratio(self.live_beside, self.live_alone)


def measure_rescore(
    stack: Stack, *, spans: int, repeat: int, seconds: float
) -> RescoreFigures:
    """Measures jobs over `spans` rows, `repeat` times, and live work beside a larger one."""
    live, whole, run = [], [], []
    memory: dict[str, float] = {}
    for number in range(1, repeat + 1):
        live.append(tallyard_drain(stack, spans, seed=number).spans_per_s)
        project = _unscored(stack, spans, seed=number)
        with _greatest_mb(stack) as greatest:
            whole_s, run_s = _job(stack, project)
        whole.append(spans / whole_s)
        run.append(spans / run_s)
        memory[f"{spans:,}"] = greatest()
    few = max(ROWS_LEAST, spans // 10)
    small = _unscored(stack, few, seed=repeat + 1)
    with _greatest_mb(stack) as greatest:
        _job(stack, small)
    memory[f"{few:,}"] = greatest()
    offer = Offer(requests_per_s=10, rows_each=100, seconds=seconds)
    alone = tallyard_delays(stack, offer)
    project = _unscored(stack, spans, seed=0)
    with _jobs_running(stack, project):
        beside = tallyard_delays(stack, offer)
    live_spans = max(LIVE_SPANS_LEAST, spans // 2)
    live_alone, live_beside, cancel = [], [], []
    for number in range(1, repeat + 1):
        live_alone.append(tallyard_http(stack, live_spans, seed=number).spans_per_s)
        with _jobs_running(stack, project) as cancelled:
            live_beside.append(tallyard_http(stack, live_spans, seed=number).spans_per_s)
        cancel += cancelled
    return RescoreFigures(
        live_rates=live, job_rates=whole, run_rates=run, alone=alone, beside=beside,
        live_alone=live_alone, live_beside=live_beside, memory_mb=memory, cancel_s=cancel,
    )


def _unscored(stack: Stack, count: int, *, seed: int) -> str:
    """A new project with rows that no rule scores; its id."""
    project = stack.project(f"rescore {uuid.uuid4().hex[:8]}", rates={})
    log_only(stack, project, count, seed=seed)
    with stack.connect() as reader:
        wait_until_matched(reader, project, deadline_s=DEADLINE_S)
    return project


def _begin(stack: Stack, project: str) -> str:
    made = json.loads(stack.api.call("POST", "/v1/rescore", {
        "project_id": project, "filter": "", "scorers": ["Levenshtein"],
    }))
    return str(made["id"])


def _job(stack: Stack, project: str) -> tuple[float, float]:
    """Seconds from making a job to its end, and from its first slice on."""
    job = _begin(stack, project)
    with stack.connect() as reader:
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            found = reader.execute(
                """select extract(epoch from finished_at - created)::float8,
                          extract(epoch from finished_at - started_at)::float8
                     from rescore_job where id = %s and state = 'completed'""",
                (job,),
            ).fetchone()
            if found is not None:
                return found[0], found[1]
            threading.Event().wait(POLL_S)
    raise TimeoutError(f"the job did not end within {DEADLINE_S:g} s")


@contextmanager
def _jobs_running(stack: Stack, project: str) -> Iterator[list[float]]:
    """Jobs run over the project, one after the other, while the block lasts. The last one is
    cancelled then; gives the seconds that this took."""
    took: list[float] = []
    stop = threading.Event()
    current = [_begin(stack, project)]

    def follow() -> None:
        with stack.connect() as reader:
            while not stop.wait(POLL_S):
                if _state(reader, current[0]) == "completed":
                    current[0] = _begin(stack, project)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    yield took
    stop.set()
    thread.join()
    begin = time.monotonic()
    with stack.connect() as reader:
        if _state(reader, current[0]) in {"planned", "running"}:
            stack.api.call("POST", f"/v1/rescore/{current[0]}/cancel")
            while _state(reader, current[0]) == "cancelling":
                threading.Event().wait(POLL_S)
            took.append(time.monotonic() - begin)


def _state(reader: psycopg.Connection, job: str) -> str:
    found = reader.execute("select state from rescore_job where id = %s", (job,)).fetchone()
    return "" if found is None else str(found[0])


@contextmanager
def _greatest_mb(stack: Stack) -> Iterator[Callable[[], float]]:
    """Looks at the worker's memory while the block lasts; gives the greatest, MB (RSS)."""
    seen = [0.0]
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            held = sum(
                process.memory_info().rss for name, process in stack.processes()
                if name == WORKER
            )
            seen[0] = max(seen[0], held / 2**20)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield lambda: seen[0]
    stop.set()
    thread.join()


def _median_ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
