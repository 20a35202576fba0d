"""`python -m benchmarks.growth`: whether Tallyard stays as fast while a project grows.

One project on a stack of its own is measured at several numbers of rows: how fast spans are
logged and scored, what they take on disk, and how long each kind of read takes. Its history is
made by copying rows that Tallyard itself wrote and scored (`benchmarks/history.py`).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import FrameType

import psycopg

from benchmarks.contestants import (
    ROWS_EACH,
    TWO_RULES,
    Turn,
    log_and_score,
    raw,
    tallyard_http,
)
from benchmarks.history import History, history_of, prepare
from benchmarks.reads import NOTHING, ReadTime, measure_reads
from benchmarks.report import Report, calls, ratio, stored
from benchmarks.stack import Stack, database_on, running_stack
from benchmarks.tables import row_count

SIZES = "10k,1M,3M"
UNITS = {"k": 1_000, "M": 1_000_000}
ROWS_A_SPAN = 1 + sum(TWO_RULES.values())
"""A logged row has a score span for each rule that took it."""

GROWTH_MOST = 1.5
"""A read's time at the most rows, as a multiple of its time at the fewest."""

BARE_MOST = 5.0
"""A read's time beyond that of an answer that reads nothing, as a multiple of its bare
statement's."""

RATE_LEAST = 0.9
"""Spans a second at the most rows, as a share of those at the fewest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for. `sizes` are numbers of rows, in ascending order."""

    sizes: tuple[int, ...]
    spans: int
    bursts: int
    database_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What was measured at one number of rows. Bytes a logged span are of all its rows.

    `beside` is a burst in a new project: the planner has no statistics of its rows, and
    believes by those of the others that there are none.
    """

    rows: int
    logged: int
    bytes_each: float
    loops: list[Turn]
    bursts: list[Turn]
    beside: Turn
    reads: dict[str, ReadTime]

    @property
    def rate(self) -> float:
        """Spans a second from the request to the scores."""
        return median(turn.spans_per_s for turn in self.bursts)

    def times_bare(self, read: ReadTime) -> float | None:
        """A read's own time as a multiple of its bare statement's, where it has one."""
        if read.bare_ms is None:
            return None
        return max(0.0, read.ms - self.reads[NOTHING].ms) / read.bare_ms


def main() -> int:
    """Measure; the exit code is 0 also where a figure is missed: this is no test."""
    options = read_options(sys.argv[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report(say=lambda line: print(line, flush=True))
    with ExitStack() as opened:
        try:
            _run(opened, options, report)
        except KeyboardInterrupt:
            report.say("Interrupted: what was started is being stopped.")
            return 130
    return 0


def read_options(arguments: list[str]) -> Options:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help=f"rows, as in {SIZES}")
    parser.add_argument("--spans", type=int, default=20_000, help="spans in a burst")
    parser.add_argument("--bursts", type=int, default=2, help="bursts at each size")
    parser.add_argument(
        "--database-url", help="a PostgreSQL server to measure, in place of the embedded one:"
        " the URL of a database whose role may create others",
    )
    given = parser.parse_args(arguments)
    return Options(
        sizes=given.sizes, spans=max(ROWS_EACH, given.spans // ROWS_EACH * ROWS_EACH),
        bursts=given.bursts, database_url=given.database_url,
    )


def _sizes(text: str) -> tuple[int, ...]:
    each = text.split(",")
    return tuple(sorted(
        int(float(size.rstrip("kM")) * UNITS.get(size[-1], 1)) for size in each
    ))


def _run(opened: ExitStack, options: Options, report: Report) -> None:
    folder = Path(opened.enter_context(
        tempfile.TemporaryDirectory(prefix="tallyard-growth-", ignore_cleanup_errors=True)
    ))
    settings = {}
    if options.database_url:
        database = opened.enter_context(database_on(options.database_url))
        settings["TALLYARD_DATABASE_URL"] = database
    report.say(f"Starting Tallyard in {folder} ({os.cpu_count()} cores) ...")
    stack = opened.enter_context(running_stack(folder, **settings))
    with stack.connect() as connection:
        version = connection.info.parameter_status("server_version")
        report.say(f"PostgreSQL {version}")
        report.measured["postgres"] = version
        sizes = _measure(stack, connection, options, report)
    report.measured["sizes"] = sizes
    _tell(report, sizes)
    path = report.finish("growth-")
    report.say(f"\nWritten to {path}")


def _measure(
    stack: Stack, connection: psycopg.Connection, options: Options, report: Report
) -> list[Size]:
    prepare(stack.connect)
    project_id = stack.project("growth", rates=TWO_RULES)
    empty = _database_bytes(connection)
    first = round(options.sizes[0] / ROWS_A_SPAN / ROWS_EACH) * ROWS_EACH
    log_and_score(stack, project_id, first, seed=0)
    history = history_of(stack.connect, project_id)
    sizes: list[Size] = []
    seed = logged = 0
    for rows in options.sizes:
        _grow(history, rows, report)
        logged = first * (1 + history.copies) + sum(
            turn.spans for size in sizes for turn in (*size.bursts, size.beside)
        )
        there = row_count(connection, project_id)
        each = (_database_bytes(connection) - empty) / logged
        report.say(f"\n{there:,} rows, {each:,.0f} bytes a logged span: reading ...")
        reads = measure_reads(stack, connection, project_id)
        report.say(f"{there:,} rows: {options.bursts} bursts of {options.spans:,} spans ...")
        loops: list[Turn] = []
        bursts: list[Turn] = []
        for _ in range(options.bursts):
            seed += 1
            loops.append(raw(options.spans, seed=seed))
            bursts.append(log_and_score(stack, project_id, options.spans, seed=seed))
        size = Size(
            rows=there, logged=logged, bytes_each=each, loops=loops, bursts=bursts,
            beside=tallyard_http(stack, options.spans, seed=0, rates=TWO_RULES), reads=reads,
        )
        _tell_bursts(report, size)
        sizes.append(size)
    return sizes


def _grow(history: History, rows: int, report: Report) -> None:
    begin = time.monotonic()
    before = history.copies
    history.grow_to(rows)
    added = (history.copies - before) * history.rows
    took_s = time.monotonic() - begin
    report.say(f"\n{added:,} rows of history were made in {took_s:.0f} s")


def _database_bytes(connection: psycopg.Connection) -> int:
    found = connection.execute("select pg_database_size(current_database())").fetchone()
    assert found is not None
    return int(found[0])


def _tell_bursts(report: Report, size: Size) -> None:
    # The last loop stands for that of the burst in a new project, which came right after it.
    turns, loops = [*size.bursts, size.beside], [*size.loops, size.loops[-1]]
    for turn, loop in zip(turns, loops, strict=True):
        parts = ", ".join(
            f"{name} {us:.0f}" for name, us in sorted(
                turn.cpu_us.items(), key=lambda part: -part[1]
            ) if us >= 2
        )
        report.say(
            f"  {turn.spans_per_s:,.0f} spans/s, {ratio([turn], [loop]):.3f} x raw;"
            f" processor time {turn.server_us:.0f} us a span"
            f" = {calls([turn], [loop]):.1f} calls ({parts})"
        )
        report.say(f"  {stored([turn])}")


def _tell(report: Report, sizes: Sequence[Size]) -> None:
    """The tables: what is logged and scored, and what is read. Figures are of the most rows."""
    first, last = sizes[0], sizes[-1]
    report.say(f"\n{'':<44}" + "".join(f"{size.rows:>30,}" for size in sizes))
    for name, cells in {
        "spans/s (x the first; x raw)": [
            f"{size.rate:,.0f} ({size.rate / first.rate:.2f}; "
            f"{ratio(size.bursts, size.loops):.3f})" for size in sizes
        ],
        "spans/s in a new project beside it": [
            f"{size.beside.spans_per_s:,.0f} ({size.beside.spans_per_s / size.rate:.2f})"
            for size in sizes
        ],
        "processor time a span, us (scorer calls)": [
            f"{median(turn.server_us for turn in size.bursts):.0f} "
            f"({calls(size.bursts, size.loops):.1f})" for size in sizes
        ],
        **{
            f"  {part}": [
                f"{median(turn.cpu_us.get(part, 0.0) for turn in size.bursts):.0f}"
                for size in sizes
            ]
            for part in ("api", "match", "postgres")
        },
        "write-ahead log, bytes a span (x payload)": [
            f"{median(turn.wal for turn in size.bursts):,.0f} "
            f"({median(turn.wal / turn.sent for turn in size.bursts):.1f})" for size in sizes
        ],
        "database, bytes a logged span; of the bursts": [
            f"{size.bytes_each:,.0f}; {median(turn.stored for turn in size.bursts):,.0f}"
            for size in sizes
        ],
    }.items():
        report.say(f"{name:<44}" + "".join(f"{cell:>30}" for cell in cells))
    report.say("\nReads: ms (x the first; x the bare statement; processor ms)")
    for name, fewest in first.reads.items():
        cells = [_cell(size, size.reads[name], fewest) for size in sizes]
        report.say(f"{name:<44}" + "".join(f"{cell:>30}" for cell in cells))
    _hold(report, first, last)


def _cell(size: Size, read: ReadTime, first: ReadTime) -> str:
    times = size.times_bare(read)
    bare = "-" if times is None else f"{times:.1f}"
    status = "" if read.status == 200 else f"{read.status}! "
    return f"{status}{read.ms:.1f} ({read.ms / first.ms:.2f}; {bare}; {read.cpu_ms:.1f})"


def _hold(report: Report, first: Size, last: Size) -> None:
    report.hold("HTTP -> scored, x first", last.rate / first.rate, least=RATE_LEAST)
    report.hold(
        "HTTP -> scored in a new project beside it, x first",
        last.beside.spans_per_s / first.rate, least=RATE_LEAST,
    )
    report.processor("HTTP -> scored", last.bursts, last.loops)
    report.bytes_of("HTTP -> scored", last.bursts)
    for name, read in last.reads.items():
        if read.is_bounded or name == NOTHING:
            continue
        worst = float("inf") if read.status != 200 else read.ms / first.reads[name].ms
        report.hold(f"{name}, x first", worst, most=GROWTH_MOST)
        if (times := last.times_bare(read)) is not None:
            report.hold(f"{name}, x bare", times, most=BARE_MOST)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
