"""`python -m benchmarks`: measure Tallyard beside its baselines, on a stack of its own.

Every contender takes its turn in every round, so that what else the machine does meets all of
them alike. All of it stays on the loopback, in a folder that is gone afterwards.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType

from benchmarks.alerts import Receiver, measure_alerts
from benchmarks.coded import (
    CodeTurn,
    alone,
    cold_start_ms,
    idle_mb,
    javascript_loop,
    pipeline,
    python_loop,
)
from benchmarks.contestants import (
    ROWS_EACH,
    TWO_RULES,
    Turn,
    bare_drain,
    naive_drain,
    naive_http,
    raw,
    tallyard_drain,
    tallyard_http,
)
from benchmarks.judged import (
    IN_FLIGHT,
    FakeJudge,
    JudgeTurn,
    raw_judged,
    running_judge,
    tallyard_judged,
)
from benchmarks.latency import Offer, naive_delays, tallyard_delays
from benchmarks.memory import Memory, at_rest
from benchmarks.naive_stack import Naive, running_naive
from benchmarks.report import Report
from benchmarks.rescore import measure_rescore
from benchmarks.small import small_requests
from benchmarks.stack import Stack, running_stack
from benchmarks.waiting import deadline
from scorers.sandbox.model import Isolation

NAMES = ("http", "drain", "latency", "small", "judged", "coded", "alerts", "rescore",
         "memory")
BASELINED = frozenset({"http", "drain", "latency"})
WARM_SPANS = 2_000
NAIVE_SHARE = 5
"""The naive baseline gets a fifth of the spans: its rate does not depend on their number, and
the whole takes minutes instead of a quarter of an hour."""

NAIVE_LATENCY_S = 5.0
IDLE_S = 10.0
ROUND_S = 600.0
"""Longest time of one benchmark's round: beyond it something hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for."""

    only: tuple[str, ...]
    spans: int
    repeat: int
    seconds: float
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """All that runs while a benchmark is made."""

    options: Options
    report: Report
    stack: Stack
    naive: Naive | None
    judge: FakeJudge | None
    receiver: Receiver
    folder: Path


def main() -> int:
    """Measure; the exit code is 0 also where a figure is missed: this is no test."""
    options = read_options(sys.argv[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report(say=lambda line: print(line, flush=True))
    with ExitStack() as opened:
        folder = Path(
            opened.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="tallyard-bench-", ignore_cleanup_errors=True
                )
            )
        )
        try:
            _run(opened, folder, options, report)
        except KeyboardInterrupt:
            report.say("Interrupted: what was started is being stopped.")
            return 130
    return 0


def read_options(arguments: list[str]) -> Options:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=NAMES, help="one benchmark (may be repeated)"
    )
    parser.add_argument("--spans", type=int, default=20_000, help="spans in a turn")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each latency offer")
    parser.add_argument("--calls", type=int, default=5_120, help="judge calls in a turn")
    given = parser.parse_args(arguments)
    return Options(
        only=tuple(given.only or NAMES),
        spans=max(ROWS_EACH * NAIVE_SHARE, given.spans // ROWS_EACH * ROWS_EACH),
        repeat=given.repeat, seconds=given.seconds, calls=given.calls,
    )


def _run(opened: ExitStack, folder: Path, options: Options, report: Report) -> None:
    needs_judge = "judged" in options.only
    needs_naive = not BASELINED.isdisjoint(options.only)
    judge = opened.enter_context(running_judge(folder)) if needs_judge else None
    receiver = opened.enter_context(Receiver())
    settings = {
        # As on a machine of 4 GB, for which the bound on memory is.
        "TALLYARD_MEMORY_MB": "4096",
        "TALLYARD_OUTBOUND_ALLOW": receiver.address,
    }
    if judge:
        settings |= {
            "TALLYARD_JUDGE_BASE_URL": judge.url, "TALLYARD_JUDGE_API_KEY": "none",
            "TALLYARD_JUDGE_IN_FLIGHT": str(IN_FLIGHT),
        }
    report.say(f"Starting Tallyard in {folder} ({os.cpu_count()} cores) ...")
    stack = opened.enter_context(running_stack(folder, **settings))
    fresh = at_rest(stack)
    tallyard_http(stack, WARM_SPANS, seed=0)
    with (
        running_naive(folder, stack.state.database_url) if needs_naive else nullcontext()
    ) as naive:
        bench = Bench(
            options=options, report=report, stack=stack, naive=naive, judge=judge,
            receiver=receiver, folder=folder,
        )
        for name, run in BENCHMARKS.items():
            if name in options.only:
                with deadline(ROUND_S * options.repeat, name):
                    run(bench)
    if "memory" in options.only:
        report.memory({"after start": fresh, "after load": _after_load(stack)})
    path = report.finish()
    report.say(f"\nWritten to {path}")


def _http(bench: Bench) -> None:
    bench.report.http("HTTP -> scored", _rounds(bench, {
        "one rule": tallyard_http, "two rules": partial(tallyard_http, rates=TWO_RULES),
    }, naive_http))


def _drain(bench: Bench) -> None:
    bench.report.drain("Backlog -> scored", _rounds(bench, {
        "tallyard": tallyard_drain, "bare loop": bare_drain,
    }, naive_drain))


def _rounds(
    bench: Bench, ours: Mapping[str, Callable[..., Turn]], theirs: Callable[..., Turn]
) -> dict[str, list[Turn]]:
    assert bench.naive is not None
    spans = bench.options.spans
    turns: dict[str, list[Turn]] = {name: [] for name in ("raw", *ours, "naive")}
    for number in range(1, bench.options.repeat + 1):
        turns["raw"].append(raw(spans, seed=number))
        for name, run in ours.items():
            turns[name].append(run(bench.stack, spans, seed=number))
        turns["naive"].append(
            theirs(bench.naive, bench.stack, spans // NAIVE_SHARE, seed=number)
        )
    return turns


def _latency(bench: Bench) -> None:
    assert bench.naive is not None
    offer = Offer(requests_per_s=10, rows_each=100, seconds=bench.options.seconds)
    bench.report.delays("10 requests/s of 100 rows", "latency", {
        "tallyard": tallyard_delays(bench.stack, offer),
        "naive": naive_delays(
            bench.naive, bench.stack, replace(offer, seconds=NAIVE_LATENCY_S)
        ),
    })


def _small(bench: Bench) -> None:
    spans = bench.options.spans
    loop, large = raw(spans, seed=0), tallyard_http(bench.stack, spans, seed=0)
    bench.report.small(
        small_requests(
            bench.stack, bench.folder, repeat=bench.options.repeat,
            seconds=bench.options.seconds,
        ),
        span_us=large.server_us, call_us=loop.cpu_us["loop"],
    )


def _judged(bench: Bench) -> None:
    assert bench.judge is not None
    turns: dict[str, list[JudgeTurn]] = {"raw": [], "tallyard": []}
    for number in range(1, bench.options.repeat + 1):
        turns["raw"].append(raw_judged(bench.stack, bench.judge, bench.options.calls))
        turns["tallyard"].append(
            tallyard_judged(bench.stack, bench.judge, bench.options.calls, seed=number)
        )
    bench.report.judged(turns)


def _coded(bench: Bench) -> None:
    stack, count = bench.stack, bench.options.spans
    turns: dict[str, list[CodeTurn]] = defaultdict(list)
    for number in range(1, bench.options.repeat + 1):
        turns["python, loop"].append(python_loop())
        turns["python, pipeline"].append(
            pipeline(stack, count, runtime="python", seed=number)
        )
        turns["typescript, loop"].append(javascript_loop())
        turns["typescript, pipeline"].append(
            pipeline(stack, count, runtime="node", seed=number)
        )
        for name, isolation, is_bare in (
            ("python, alone", Isolation.BATCH, True),
            ("python, alone, isolated", Isolation.RECORD, True),
            ("+ autoevals, alone, isolated", Isolation.RECORD, False),
        ):
            turns[name].append(alone(isolation=isolation, is_bare=is_bare))
    bench.report.coded(dict(turns), cold_start_ms(), idle_mb())


def _alerts(bench: Bench) -> None:
    full = tallyard_http(bench.stack, bench.options.spans, seed=0)
    bench.report.alerts(
        measure_alerts(
            bench.stack, bench.receiver, rate=full.spans_per_s, repeat=bench.options.repeat
        )
    )


def _rescore(bench: Bench) -> None:
    options = bench.options
    bench.report.rescore(
        measure_rescore(
            bench.stack, spans=options.spans, repeat=options.repeat, seconds=options.seconds
        )
    )


def _after_load(stack: Stack) -> Memory:
    tallyard_http(stack, WARM_SPANS * 5, seed=0)
    threading.Event().wait(IDLE_S)
    return at_rest(stack)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


BENCHMARKS: dict[str, Callable[[Bench], None]] = {
    "http": _http, "drain": _drain, "latency": _latency, "small": _small,
    "judged": _judged, "coded": _coded, "alerts": _alerts,
    "rescore": _rescore,
}

if __name__ == "__main__":
    sys.exit(main())
