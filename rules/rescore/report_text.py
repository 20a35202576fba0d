"""A report of a re-score job as lines for a terminal, with small charts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rules.budgets.model import BILLION, money_text
from rules.rescore.report import Counted, JobReport, ScoreReport, ScorerReport
from rules.rescore.statistics import Distribution, Method
from spans.outcome import CANCELLED
from spans.scoring import OutcomeState

BLOCKS = " ▁▂▃▄▅▆▇█"
"""Heights of a bin, from none to the highest. Anything but none is seen."""

ASCII_BLOCKS = " .:-=+*#@"

FLIPS_SHOWN = 5
"""Rows of a score's flips that are shown; the JSON has more."""

NARROW = 60
"""Below so many characters the chart stands on a line of its own."""

_ORDER = (
    OutcomeState.COMPLETED.value, OutcomeState.SKIPPED.value, OutcomeState.ERRORED.value,
    OutcomeState.PENDING.value, OutcomeState.SUPERSEDED.value, CANCELLED,
)


def report_lines(report: JobReport, *, width: int, encoding: str) -> list[str]:
    """The report as lines of at most `width` characters.

    Where the terminal's `encoding` lacks block characters, charts are made of plain ASCII.
    """
    blocks = _blocks(encoding)
    lines = [*_counted_lines("all scorers", report.total)] if len(report.scorers) > 1 else []
    for one in report.scorers:
        if lines:
            lines.append("")
        lines += _scorer_lines(one, width, blocks)
    if report.hidden:
        lines += ["", f"logged scores stay the ones shown: {_outcomes(report.hidden)}"]
    return [_cut(line, width, blocks) for line in lines]


def chart(bins: Sequence[int], blocks: str) -> str:
    """A line of a character for each bin, as high as its share of the fullest bin."""
    most = max(bins, default=0)
    steps = len(blocks) - 1
    return "".join(
        blocks[0 if not count else max(1, round(count / most * steps))] for count in bins
    )


def _blocks(encoding: str) -> str:
    try:
        BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII_BLOCKS
    return BLOCKS


def _scorer_lines(one: ScorerReport, width: int, blocks: str) -> Iterator[str]:
    title = f"{one.scorer.shown_as} {one.scorer.scorer.version}"
    yield from _counted_lines(title, one.counted)
    for name, score in sorted(one.scores.items()):
        yield ""
        yield from _score_lines(name, score, width, blocks)
    if one.unnamed:
        yield f"  {_number(one.unnamed)} scores of more names are left out"


def _counted_lines(title: str, counted: Counted) -> Iterator[str]:
    yield f"{title}: {_outcomes(counted.outcomes)}"
    rows = [(state, counted.states[state]) for state in _ORDER]
    rows += [("not reached yet", counted.unreached), ("record deleted", counted.deleted)]
    yield from _aligned([row for row in rows if row[1]], indent=2)
    yield from _aligned(counted.error_classes.most_common(), indent=4)
    if counted.calls or counted.cached:
        cached = f", {_number(counted.cached)} answers from the cache" if counted.cached else ""
        yield f"  calls     {_number(counted.calls)}{cached}"
        yield (
            f"  tokens    {_number(counted.prompt_tokens)} of prompts, "
            f"{_number(counted.completion_tokens)} of answers"
        )
        unpriced = (
            f", without {_outcomes(counted.unpriced)} whose model has no price"
            if counted.unpriced else ""
        )
        yield f"  money     {money_text(round(counted.cost * BILLION))}{unpriced}"
    if counted.run_ms:
        yield f"  run time  {_number(round(counted.run_ms / 1000))} s"


def _score_lines(name: str, score: ScoreReport, width: int, blocks: str) -> Iterator[str]:
    yield f"  {name}"
    head = f"    {'':6} {'count':>11} {'mean':>6} {'spread':>6} {'pass':>6}"
    is_wide = width >= NARROW
    yield f"{head}  0{'':8}1" if is_wide else head
    for label, found in (("before", score.before), ("after", score.after)):
        figures = _figures(found)
        row = f"    {label:6} {figures}"
        bars = chart(found.bins, blocks)
        if is_wide:
            yield f"{row}  {bars}"
        else:
            yield row
            yield f"      {bars}"
    for line in _change_lines(score):
        yield f"    {line}"
    flips = score.flips
    if flips.count:
        yield (
            f"    flips: {_number(flips.to_fail)} pass -> fail, "
            f"{_number(flips.to_pass)} fail -> pass"
        )
        for flip in flips.listed[:FLIPS_SHOWN]:
            yield f"      {flip.before:5.3f} -> {flip.after:5.3f}  {flip.row_id}"
        if flips.count > FLIPS_SHOWN:
            yield f"      and {_number(flips.count - FLIPS_SHOWN)} more, with `--json`"
    if score.hidden:
        yield f"    logged score stays shown: {_number(score.hidden)} records"


def _figures(found: Distribution) -> str:
    count = _number(found.values.count)
    share = found.share_passing
    if share is None:
        return f"{count:>11} {'-':>6} {'-':>6} {'-':>6}"
    deviation = found.values.deviation
    spread = "-" if deviation is None else f"{deviation:.3f}"
    return f"{count:>11} {found.values.mean:>6.3f} {spread:>6} {share:>6.1%}"


def _change_lines(score: ScoreReport) -> Iterator[str]:
    """The difference, then on how many records, so that either fits into 80 characters."""
    change = score.change
    pairs = change.differences.count
    if not pairs:
        yield "difference: no record had this score before"
        return
    mean = f"difference: {change.differences.mean:+.4f}"
    interval = change.interval()
    if interval is None:
        yield f"{mean} (too few records for an interval)"
    else:
        how = "exact, pass/fail" if change.method is Method.EXACT else "by t"
        yield f"{mean} (95 %: {interval.low:+.4f} to {interval.high:+.4f}, {how})"
    unchanged = _number(score.unchanged)
    yield f"  over {_number(pairs)} records with both scores, {unchanged} of them unchanged"


def _aligned(rows: Iterable[tuple[str, int]], *, indent: int) -> Iterator[str]:
    shown = [(label, _number(count)) for label, count in rows]
    if not shown:
        return
    labels = max(len(label) for label, _ in shown)
    numbers = max(len(number) for _, number in shown)
    for label, number in shown:
        yield f"{'':{indent}}{label:{labels}}  {number:>{numbers}}"


def _number(count: int) -> str:
    """The number with commas between its thousands, as plans and progress show it."""
    return f"{count:,}"


def _outcomes(count: int) -> str:
    return f"{_number(count)} outcome{'' if count == 1 else 's'}"


def _cut(line: str, width: int, blocks: str) -> str:
    """The line, shortened with a mark if it is wider than the terminal."""
    line = line.rstrip()
    if len(line) <= width:
        return line
    mark = "…" if blocks is BLOCKS else ">"
    return line[: max(0, width - 1)] + mark if width > 0 else ""
