"""What was measured, against the figures to hold: a table, and a file."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import orjson

from benchmarks.coded import CodeTurn
from benchmarks.contestants import Turn
from benchmarks.judged import JudgeTurn
from benchmarks.latency import Delays
from benchmarks.memory import Memory

RESULTS = Path(__file__).parent / "results"
MB_MOST = 700.0
READABLE_MS_MOST = 100.0
JUDGE_SHARE_LEAST = 0.85
CODE_PER_S_LEAST = {
    "python, pipeline": 4000.0, "typescript, pipeline": 1500.0,
    "python, alone, isolated": 200.0, "+ autoevals, alone, isolated": 100.0,
}
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
        return f"  {self.name:<52} {self.value:>9.3g}  {limit:<9} {verdict}"


@dataclass(slots=True)
class Report:
    """Gathers what is measured; says each part as soon as it is there."""

    say: Callable[[str], None]
    figures: list[Figure] = field(default_factory=list)
    measured: dict[str, object] = field(default_factory=dict)

    def contest(
        self, title: str, name: str, turns: dict[str, list[Turn]], *, naive_least: float,
        raw_least: float,
    ) -> None:
        """Spans a second of each contender, and Tallyard's ratios: medians over the rounds.

        A ratio is taken within its round, so that what slows the machine slows both.
        """
        self.measured[name] = turns
        self.say(f"\n{title}")
        for contender, each in turns.items():
            rates = [turn.spans_per_s for turn in each]
            spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
            self.say(f"  {contender:<9} {median(rates):>9,.0f} spans/s   ({spread})")
            used = _median_parts([turn.cpu_us for turn in each])
            if used:
                self.say(f"            processor time, us a span: {used}")
        for against, least in (("naive", naive_least), ("raw", raw_least)):
            ratios = [
                ours.spans_per_s / theirs.spans_per_s
                for ours, theirs in zip(turns["tallyard"], turns[against], strict=False)
            ]
            if ratios:
                self._hold(f"{title}: x {against}", median(ratios), least=least)

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
        ours = contenders["tallyard"]
        worst = float("inf") if ours.unreadable or ours.refused else 0.0
        p95 = max(worst, ours.readable_ms.get("p95", float("inf")))
        self._hold(f"Readable p95 ms, {title}", p95, most=READABLE_MS_MOST)

    def memory(self, moments: dict[str, Memory]) -> None:
        """Each unit's PSS; the figure is the greatest total."""
        self.measured["memory"] = moments
        self.say("\nMemory at rest, MB of PSS (number of processes)")
        for moment, held in moments.items():
            parts = ", ".join(
                f"{name} {mb:.0f} ({held.processes[name]})" for name, mb in held.mb.items()
            )
            self.say(f"  {moment:<12} {held.total_mb:>6.0f}   {parts}")
            self._hold(f"Memory at rest, MB, {moment}", held.total_mb, most=MB_MOST)

    def judged(self, turns: dict[str, list[JudgeTurn]]) -> None:
        """The share of the ideal; posting the same bodies without more is the baseline."""
        self.measured["judged"] = turns
        self.say("\nJudge calls, 256 in flight at 500 ms (ideal: 512/s)")
        for contender, each in turns.items():
            rate = median(turn.calls / turn.seconds for turn in each)
            share = median(turn.share for turn in each)
            self.say(f"  {contender:<9} {rate:>6.0f} calls/s   {share:.2f} of the ideal")
            if used := _median_parts([turn.cpu_us for turn in each]):
                self.say(f"            processor time, us a call: {used}")
        share = median(turn.share for turn in turns["tallyard"])
        self._hold("Judge calls, share of the ideal", share, least=JUDGE_SHARE_LEAST)

    def coded(
        self, turns: dict[str, list[CodeTurn]], cold_ms: Sequence[float], idle_mb: float
    ) -> None:
        """Records a second of users' code; the loops without walls are the baselines."""
        self.measured["coded"] = {"turns": turns, "cold_start_ms": cold_ms, "idle_mb": idle_mb}
        self.say("\nUsers' code, records a second (alone: a second of processor time)")
        for contender, each in turns.items():
            rates = [turn.per_s for turn in each]
            spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
            self.say(f"  {contender:<28} {median(rates):>11,.0f} /s   ({spread})")
            if used := _median_parts([turn.cpu_us for turn in each]):
                self.say(f"            processor time, us a record: {used}")
            if (least := CODE_PER_S_LEAST.get(contender)) is not None:
                self._hold(f"Users' code, /s: {contender}", median(rates), least=least)
        self._hold(
            "Cold sandbox to first score, ms", median(cold_ms), most=COLD_START_MS_MOST
        )
        self._hold("An idle sandbox, MB", idle_mb, most=IDLE_SANDBOX_MB_MOST)

    def finish(self) -> Path:
        """Say the figures, and write all of it to a file."""
        self.say("\nFigures to hold")
        for figure in self.figures:
            self.say(figure.line())
        at = datetime.now(UTC)
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{at:%Y-%m-%dT%H%M%SZ}.json"
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

    def _hold(
        self, name: str, value: float, *, least: float | None = None, most: float | None = None
    ) -> None:
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


def _median_parts(each: Sequence[dict[str, float]]) -> str:
    """The greatest parts, by name, as one text."""
    names = {name for parts in each for name in parts}
    medians = {name: median(parts.get(name, 0.0) for parts in each) for name in names}
    ordered = sorted(medians.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value:.0f}" for name, value in ordered if value >= 2)


def _ms(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.0f}" for name, value in values.items()) + " ms"


def _plain(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not part of a result")
