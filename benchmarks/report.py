"""What was measured, against the figures to hold: a table, and a file."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import orjson

from benchmarks.alerts import MANY, Alerts
from benchmarks.coded import CodeTurn
from benchmarks.contestants import Turn
from benchmarks.judged import JudgeTurn
from benchmarks.latency import Delays
from benchmarks.memory import Memory
from benchmarks.rescore import RescoreFigures
from benchmarks.small import FEW, Small

RESULTS = Path(__file__).parent / "results"
MB_MOST = 750.0
READABLE_MS_MOST = 100.0
SMALL_MS_MOST = 150.0
NAIVE_LEAST = {"http": 8.0, "drain": 12.0}
HTTP_RAW_LEAST = 0.09
DRAIN_RAW_LEAST, DRAIN_BARE_LEAST = 0.16, 0.9
"""From a backlog, either of the two."""

CALLS_MOST = 21.0
"""Processor time a span with two rules, in calls of the scorer, since machines differ: half of
what the tables before 0004 took (716 us where a call took 17)."""

SMALL_CALLS_MOST = 490.0
"""Processor time a request at 50 requests/s of 10 rows, beyond that of its rows: a third of
before (25 ms where a call took 17 us)."""

STORED_MOST = 4_140.0
"""Bytes of the database a logged span, with its 1.1 score spans: 0.6 of before (6 903)."""

WAL_MOST = 2.5
"""The write-ahead log, as a multiple of the JSON that was posted."""

JUDGE_SHARE_LEAST = 0.85
CODE_PER_S_LEAST = {
    "python, pipeline": 4000.0, "typescript, pipeline": 1500.0,
    "python, alone, isolated": 200.0, "+ autoevals, alone, isolated": 100.0,
}
POSTED_MS_MOST = 2_000.0
"""The p95 of a first match: a ring of beat each second, a look, and a request."""

EVALUATION_MOST = 1.1
DUE_S_MOST = 30.0
COLD_START_MS_MOST = 600.0
IDLE_SANDBOX_MB_MOST = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure to hold. `least` or `most` is what it may not fall below or exceed."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is held."""
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value < self.most
        )

    def line(self) -> str:
        """Its line of the table."""
        limit = f">= {self.least:g}" if self.least is not None else f"< {self.most:g}"
        verdict = "ok" if self.is_held else "MISSED"
        return f"  {self.name:<58} {_number(self.value):>9}  {limit:<9} {verdict}"


@dataclass(slots=True)
class Report:
    """Gathers what is measured; says each part as soon as it is there."""

    say: Callable[[str], None]
    figures: list[Figure] = field(default_factory=list)
    measured: dict[str, object] = field(default_factory=dict)

    def contest(self, title: str, name: str, turns: dict[str, list[Turn]]) -> None:
        """What each contender did, beside the raw loop of its round: medians over the rounds.

        A ratio is taken within its round, so that what slows the machine slows both.
        """
        self.measured[name] = turns
        self.say(f"\n{title}")
        for contender, each in turns.items():
            rates = [turn.spans_per_s for turn in each]
            spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
            shares = "" if contender == "raw" else f", {ratio(each, turns['raw']):.3f} x raw"
            self.say(
                f"  {contender:<9} {median(rates):>9,.0f} spans/s{shares}   ({spread})"
            )
            self.say(f"            processor time, us a span: {_cpu(each, turns['raw'])}")
            if any(turn.wal for turn in each):
                self.say(f"            {stored(each)}")

    def http(self, title: str, turns: dict[str, list[Turn]]) -> None:
        """The contest from a request to its scores, and its figures."""
        self.contest(title, "http", turns)
        one, two, loop = turns["one rule"], turns["two rules"], turns["raw"]
        self.hold(f"{title}: x raw", ratio(one, loop), least=HTTP_RAW_LEAST)
        self.hold(f"{title}: x naive", ratio(one, turns["naive"]), least=NAIVE_LEAST["http"])
        self.processor(title, two, loop)
        self.bytes_of(title, two)

    def processor(self, title: str, each: Sequence[Turn], loop: Sequence[Turn]) -> None:
        """Hold the processor time a span with two rules, in calls of the scorer."""
        self.hold(
            f"{title}: processor time a span, scorer calls", calls(each, loop),
            most=CALLS_MOST,
        )

    def bytes_of(self, title: str, each: Sequence[Turn]) -> None:
        """Hold what a span with two rules takes on disk."""
        self.hold(
            f"{title}: database, bytes a logged span", median(turn.stored for turn in each),
            most=STORED_MOST,
        )
        self.hold(
            f"{title}: write-ahead log, x payload",
            median(turn.wal / turn.sent for turn in each), most=WAL_MOST,
        )

    def drain(self, title: str, turns: dict[str, list[Turn]]) -> None:
        """The contest from a backlog to its scores, and its figures."""
        self.contest(title, "drain", turns)
        of_raw = ratio(turns["tallyard"], turns["raw"])
        of_bare = ratio(turns["tallyard"], turns["bare loop"])
        self.say(f"  {of_raw:.3f} x raw, {of_bare:.2f} x the bare loop")
        self.hold(
            f"{title}: of {DRAIN_RAW_LEAST} x raw or {DRAIN_BARE_LEAST} x bare",
            max(of_raw / DRAIN_RAW_LEAST, of_bare / DRAIN_BARE_LEAST), least=1.0,
        )
        of_naive = ratio(turns["tallyard"], turns["naive"])
        self.hold(f"{title}: x naive", of_naive, least=NAIVE_LEAST["drain"])

    def delays(self, title: str, name: str, contenders: dict[str, Delays]) -> None:
        """Acknowledged -> readable; Tallyard's p95 is the figure."""
        self.measured[name] = contenders
        self.say(f"\nAcknowledged -> readable (seen by a reader in the database), {title}")
        for contender, each in contenders.items():
            self.say(
                f"  {contender:<9} readable {_ms(each.readable_ms)}   answer "
                f"{_ms(each.answer_ms)}"
            )
            self.say(
                f"            {each.rows} rows offered in {each.offered_s:.1f} s, "
                f"{each.refused} requests refused, {each.unreadable} rows not seen; of a core: "
                f"load generator {each.generator_cpu:.2f}, reader {each.reader_cpu:.2f}"
            )
            self.say(f"            processor time, ms a request: {_parts(each.cpu_ms)}")
        self.hold(
            f"Readable p95 ms, {title}", contenders["tallyard"].worst_readable_ms,
            most=READABLE_MS_MOST,
        )

    def small(self, small: Small, *, span_us: float, call_us: float) -> None:
        """Requests of one row. A span in a large request takes `span_us`, a call of the scorer
        `call_us` of processor time.
        """
        self.measured["small"] = small
        self.say("\nRequests of one row, as fast as they are answered")
        for name, each in (("constant", small.constant), ("tallyard", small.tallyard)):
            self.say(
                f"  {name:<9} {median(turn.per_s for turn in each):>9,.0f} requests/s answered,"
                f" {median(turn.scored_per_s for turn in each):,.0f} /s done"
            )
            used = _median_parts([turn.cpu_ms for turn in each], least=0.005)
            self.say(f"            processor time, ms a request: {used}")
        offer = f"{small.steady_per_s} requests/s of 1 row"
        offers = ((offer, small.steady), ("50 requests/s of 10 rows", small.few))
        for name, delays in offers:
            self.say(
                f"  {name}: answer {_ms(delays.answer_ms)}; readable {_ms(delays.readable_ms)};"
                f" offered in {delays.offered_s:.1f} s, {delays.refused} refused,"
                f" {delays.unreadable} rows not seen"
            )
            self.say(f"            processor time, ms a request: {_parts(delays.cpu_ms)}")
        self.hold("Requests of one row: x constant route", median(small.shares), least=0.5)
        self.hold(
            "Requests of one row, scored: x constant route", median(small.scored_shares),
            least=0.5,
        )
        self.hold(
            f"Answer p95 ms, {offer}", small.steady.worst_answer_ms, most=SMALL_MS_MOST
        )
        self.hold(
            f"Readable p95 ms, {offer}", small.steady.worst_readable_ms, most=SMALL_MS_MOST
        )
        rows = FEW.rows_each * span_us / 1000
        alone_ms = sum(small.few.cpu_ms.values()) - rows
        self.say(f"  a request without its rows: {alone_ms:.1f} ms of processor time")
        self.hold(
            "Processor time a request without its rows, scorer calls",
            alone_ms * 1000 / call_us, most=SMALL_CALLS_MOST,
        )

    def memory(self, moments: dict[str, Memory]) -> None:
        """Each unit's PSS; the figure is the greatest total."""
        self.measured["memory"] = moments
        self.say("\nMemory at rest, MB of PSS (number of processes)")
        for moment, held in moments.items():
            parts = ", ".join(
                f"{name} {mb:.0f} ({held.processes[name]})" for name, mb in held.mb.items()
            )
            self.say(f"  {moment:<12} {held.total_mb:>6.0f}   {parts}")
            self.hold(f"Memory at rest, MB, {moment}", held.total_mb, most=MB_MOST)

    def judged(self, turns: dict[str, list[JudgeTurn]]) -> None:
        """The share of the ideal; posting the same bodies without more is the baseline."""
        self.measured["judged"] = turns
        self.say("\nJudge calls, 256 in flight at 500 ms (ideal: 512/s)")
        raw_rate = median(turn.calls / turn.seconds for turn in turns["raw"])
        for contender, each in turns.items():
            rate = median(turn.calls / turn.seconds for turn in each)
            share = median(turn.share for turn in each)
            self.say(
                f"  {contender:<9} {rate:>6.0f} calls/s   {share:.2f} of the ideal,"
                f" {rate / raw_rate:.2f} x raw"
            )
            if used := _median_parts([turn.cpu_us for turn in each]):
                self.say(f"            processor time, us a call: {used}")
        share = median(turn.share for turn in turns["tallyard"])
        self.hold("Judge calls, share of the ideal", share, least=JUDGE_SHARE_LEAST)

    def coded(
        self, turns: dict[str, list[CodeTurn]], cold_ms: Sequence[float], idle_mb: float
    ) -> None:
        """Records a second of users' code; the loops without walls are the baselines."""
        self.measured["coded"] = {"turns": turns, "cold_start_ms": cold_ms, "idle_mb": idle_mb}
        self.say("\nUsers' code, records a second (alone: a second of processor time)")
        for contender, each in turns.items():
            rates = [turn.per_s for turn in each]
            spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
            loop = turns[
                "typescript, loop" if contender.startswith("typescript") else "python, loop"
            ]
            share = median(rates) / median(turn.per_s for turn in loop)
            self.say(
                f"  {contender:<28} {median(rates):>11,.0f} /s, {share:.2g} x its loop"
                f"   ({spread})"
            )
            if used := _median_parts([turn.cpu_us for turn in each]):
                self.say(f"            processor time, us a record: {used}")
            if (least := CODE_PER_S_LEAST.get(contender)) is not None:
                self.hold(f"Users' code, /s: {contender}", median(rates), least=least)
        self.hold(
            "Cold sandbox to first score, ms", median(cold_ms), most=COLD_START_MS_MOST
        )
        self.hold("An idle sandbox, MB", idle_mb, most=IDLE_SANDBOX_MB_MOST)

    def alerts(self, alerts: Alerts) -> None:
        """What evaluation costs beside ingest and scoring, and how soon matches are posted."""
        self.measured["alerts"] = alerts
        self.say(
            f"\nAutomations, at {alerts.offered_per_s:,.0f} spans/s (half of what it takes)"
        )
        for name, turns in (("none", alerts.idle), ("100 active", alerts.watched)):
            self.say(f"  {name:<11} {_median_parts([turn.cpu_us for turn in turns])}")
        self.say(
            f"  first matches posted: {_ms(alerts.posted_ms)}; {alerts.missing} missing;"
            f" {MANY:,} due at once: formed in {alerts.due_s:.1f} s"
        )
        share = median(
            with_ones.server_us / without.server_us
            for with_ones, without in zip(alerts.watched, alerts.idle, strict=True)
        )
        self.hold("Automations: processor time, x without", share, most=EVALUATION_MOST)
        self.hold(
            "Automations: first match posted, p95 ms",
            float("inf") if alerts.missing else alerts.posted_ms.get("p95", float("inf")),
            most=POSTED_MS_MOST,
        )
        self.hold(f"Automations: {MANY} due at once, s", alerts.due_s, most=DUE_S_MOST)

    def rescore(self, rescore: RescoreFigures) -> None:
        """Re-score jobs, beside live work of the same run."""
        self.measured["rescore"] = rescore
        self.say("\nRe-score jobs (Levenshtein), rows/s in each round")
        for name, rates in (
            ("live, a backlog", rescore.live_rates),
            ("job, with its selection", rescore.job_rates),
            ("job, from its first slice on", rescore.run_rates),
            ("live over HTTP, alone", rescore.live_alone),
            ("live over HTTP, beside a job", rescore.live_beside),
        ):
            self.say(f"  {name:30} {', '.join(f'{rate:,.0f}' for rate in rates)}")
        before, after = rescore.alone.worst_readable_ms, rescore.beside.worst_readable_ms
        self.say(f"  live p95, 10 requests/s of 100 rows: {before:.0f} ms alone, "
                 f"{after:.0f} ms beside a job")
        for rows, held in rescore.memory_mb.items():
            self.say(f"  memory of the worker at {rows} rows: {held:.0f} MB")
        self.say(f"  cancelled after {', '.join(f'{each:.2f}' for each in rescore.cancel_s)} s")
        self.hold("Re-score: rate of a job / live rate", rescore.job_share, least=0.5)
        self.hold("Re-score: live p95 beside a job / alone", after / before, most=2.0)
        self.hold("Re-score: live rate beside a job / alone", rescore.live_share, least=0.8)
        if rescore.cancel_s:
            self.hold("Re-score: until cancelled, s", max(rescore.cancel_s), most=2.0)

    def finish(self, name: str = "") -> Path:
        """Say the figures, and write all of it to a file, whose name begins with `name`."""
        self.say("\nFigures to hold")
        for figure in self.figures:
            self.say(figure.line())
        at = datetime.now(UTC)
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}{at:%Y-%m-%dT%H%M%SZ}.json"
        content = {
            "at": at, "machine": machine(), "figures": self._told(), "measured": self.measured,
        }
        path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2, default=_plain))
        return path

    def _told(self) -> list[dict[str, object]]:
        return [
            {
                "name": figure.name, "value": figure.value, "least": figure.least,
                "most": figure.most, "held": figure.is_held,
            }
            for figure in self.figures
        ]

    def hold(
        self, name: str, value: float, *, least: float | None = None, most: float | None = None
    ) -> None:
        """Add a figure and its goal."""
        self.figures.append(Figure(name=name, value=value, least=least, most=most))


def machine() -> dict[str, object]:
    """What the figures depend on besides the code."""
    return {
        "cores": os.cpu_count(), "platform": platform.platform(),
        "processor": _processor(), "python": platform.python_version(),
        "load_average": os.getloadavg(), "commit": _commit(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The commit, with + where the tree has changes of its own."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    )
    return done.stdout.strip() or None


def ratio(ours: Sequence[Turn], theirs: Sequence[Turn]) -> float:
    """Our spans a second as a multiple of theirs: the median of the rounds' ratios."""
    return median(
        turn.spans_per_s / other.spans_per_s for turn, other in zip(ours, theirs, strict=True)
    )


def calls(each: Sequence[Turn], loop: Sequence[Turn]) -> float:
    """Processor time a span of all that serves, in calls of the raw loop of the same round."""
    return median(
        turn.server_us / raw.cpu_us["loop"] for turn, raw in zip(each, loop, strict=True)
    )


def stored(each: Sequence[Turn]) -> str:
    """What a span takes on disk, as one text."""
    wal, size = median(turn.wal for turn in each), median(turn.stored for turn in each)
    sent = median(turn.sent for turn in each)
    times = f" ({wal / sent:.1f} x its JSON of {sent:,.0f})" if sent else ""
    return f"bytes a span: write-ahead log {wal:,.0f}{times}, database {size:,.0f}"


def _cpu(each: Sequence[Turn], loop: Sequence[Turn]) -> str:
    used = _median_parts([turn.cpu_us for turn in each])
    if each is loop:
        return used
    served = median(turn.server_us for turn in each)
    return f"{served:.0f} = {calls(each, loop):.1f} calls ({used})"


def _median_parts(each: Sequence[dict[str, float]], *, least: float = 2.0) -> str:
    """The greatest parts, by name, as one text."""
    names = {name for parts in each for name in parts}
    return _parts(
        {name: median(parts.get(name, 0.0) for parts in each) for name in names}, least=least
    )


def _parts(parts: Mapping[str, float], *, least: float = 0.005) -> str:
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {_number(value)}" for name, value in ordered if value >= least)


def _number(value: float) -> str:
    """Three digits, or the whole part."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ms(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.0f}" for name, value in values.items()) + " ms"


def _plain(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not part of a result")
