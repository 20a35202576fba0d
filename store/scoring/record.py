"""Records verdicts: the outcome, the score span, and the score in the row's head.

Everything happens in the caller's transaction. The caller first locks the heads of the scored
rows with `lock_rows`, in the order in which the rows came, as ingest does; the new version is
drawn after that. If the content of a row changed while its scorer ran, the outcome is stored as
`superseded` and no score is written: a late result for old content never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby

import orjson

from spans.ids import RowSeq, Xact
from spans.json import Json
from spans.outcome import Errored, ScorerUse, Verdict, verdict_scores
from spans.row import ObjectRef
from spans.score_span import (
    argument_names,
    score_span_context,
    score_span_id,
    score_span_span_id,
)
from spans.scoring import OutcomeState, Role, Usage
from spans.work import Assignment, Deferred, Execution, OutcomeRequest, Priority, Subject
from store.postgres.copy import (
    FALSE,
    NULL,
    TRUE,
    copy_lines,
    escaped,
    json_cell,
)
from store.postgres.counters import Counts
from store.postgres.database import Cursor
from store.postgres.leases import RELEASED
from store.postgres.numbers import Numbers
from store.postgres.versions import draw_versions
from store.scoring.execution_metrics import count_executions
from store.scoring.supersede import supersede_other_versions

# The cells of an outcome: those that all outcomes of one request have in common, those that
# differ, and its result.
SHARED_COLUMNS = (
    "object_no", "use_no", "rules_revision", "skip_logging", "role", "queue", "priority",
    "label",
)
OWN_COLUMNS = ("subject_seq", "subject_version", "is_lead")
RESULT_COLUMNS = (
    "state", "error_class", "error_message", "scores", "arguments", "attempts", "started_at",
    "finished_at", "run_ms", "log", "calls", "prompt_tokens", "completion_tokens", "model",
    "is_cached",
)
_LIST = ", ".join((*SHARED_COLUMNS, *OWN_COLUMNS, *RESULT_COLUMNS))
COPY_OUTCOMES = f"copy outcome ({_LIST}) from stdin"
STAGE_OUTCOMES = f"copy outcome_staged ({_LIST}) from stdin"
# A pending outcome gets its result. An outcome that has a result keeps it. A superseded outcome
# becomes pending again if it is asked for again, such as when a rule returns to the version of
# its scorer, as if nobody had tried it. Outcomes that are neither inserted nor updated are not
# returned, and the caller then writes no score for them.
UPSERT_OUTCOMES = f"""
    insert into outcome ({_LIST}) select {_LIST} from outcome_staged
        order by subject_seq, subject_version, use_no
    on conflict (subject_seq, subject_version, use_no) do update
       set {", ".join(f"{name} = excluded.{name}" for name in RESULT_COLUMNS)},
           {RELEASED},
           is_lead = outcome.is_lead and outcome.state = 'pending',
           priority = excluded.priority,
           deaths = case outcome.state when 'superseded' then 0 else outcome.deaths end,
           next_attempt_at =
             case outcome.state when 'superseded' then now() else outcome.next_attempt_at end
     where outcome.state = 'pending' and excluded.state <> 'pending'
        or outcome.state = 'superseded' and excluded.state = 'pending'
    returning subject_seq, subject_version, use_no
"""

# Makes one outcome the lead where pending outcomes share a scorer and content and have none.
# That happens if the former lead got its result before they were added, or if its rule was
# deleted.
LEAD = """
    update outcome set is_lead = true from (
      select subject_seq, subject_version, use_no from (
        select outcome.subject_seq, outcome.subject_version, outcome.use_no,
               row_number() over (alike order by outcome.use_no) as place,
               bool_or(outcome.is_lead) over alike as is_led
          from unnest(%s::bigint[]) as subject(seq)
          join outcome on outcome.subject_seq = subject.seq and outcome.state = 'pending'
          join scorer_use on scorer_use.use_no = outcome.use_no
        window alike as (partition by outcome.subject_seq, outcome.subject_version,
                                      scorer_kind, scorer, scorer_version)) waiting
       where place = 1 and not is_led) chosen
     where outcome.subject_seq = chosen.subject_seq
       and outcome.subject_version = chosen.subject_version and outcome.use_no = chosen.use_no
"""
ANY_PENDING = """
    select exists (select from unnest(%s::bigint[]) as subject(seq)
                     join outcome on outcome.subject_seq = subject.seq
                      and outcome.state = 'pending')
"""
LOCK = """
    select head.* from unnest(%s::bigint[]) as asked(seq)
     cross join lateral (
       select seq, content_xact, trigger_xact, computed_scores, computed_by from span_head
        where object_no = %s and span_head.seq = asked.seq and deleted_at is null
          for no key update) head
"""
WRITE_COMPUTED = """
    update span_head set computed_scores = fresh.scores::jsonb, computed_by = fresh.by::jsonb,
                         xact = %s
      from unnest(%s::bigint[], %s::text[], %s::text[]) as fresh(seq, scores, by)
     where span_head.object_no = %s and span_head.seq = fresh.seq
"""

SCORE_SPAN_COLUMNS = (
    "object_no", "has_base", "is_root", "scored_use", "seq", "id", "span_id", "root_span_id",
    "scored_seq", "scored_xact", "scored_version", "input", "context",
)
SCORE_HEAD_COLUMNS = ("object_no", "xact", "content_xact", "seq", "created", "computed_scores")
_SPAN_LIST, _HEAD_LIST = ", ".join(SCORE_SPAN_COLUMNS), ", ".join(SCORE_HEAD_COLUMNS)
COPY_SCORE_SPANS = f"copy span ({_SPAN_LIST}) from stdin"
COPY_SCORE_HEADS = f"copy span_head ({_HEAD_LIST}) from stdin"
STAGE_SCORE_SPANS = f"copy span_staged ({_SPAN_LIST}) from stdin"
STAGE_SCORE_HEADS = f"copy span_head_staged ({_HEAD_LIST}) from stdin"
OLD_SCORE_SPANS = """
    select span.scored_seq, span.scored_use, span.seq from unnest(%s::bigint[]) as scored(seq)
      join span on span.scored_seq = scored.seq
"""
# What a client wrote over a score span goes with the outcome that it was written about.
REPLACE_SCORE_SPANS = """
    update span
       set scored_use = staged.scored_use, scored_xact = staged.scored_xact,
           scored_version = staged.scored_version, input = staged.input,
           context = staged.context, created_by = null, span_parents = null, output = null,
           expected = null, error = null, logged_scores = null, metadata = null, metrics = null,
           tags = null, span_attributes = null, origin = null, facets = null,
           classifications = null, extra = null, scoring_state = null, has_base = true
      from span_staged staged
     where span.object_no = staged.object_no and span.seq = staged.seq
"""
REPLACE_SCORE_HEADS = """
    update span_head
       set xact = staged.xact, content_xact = staged.content_xact, created = staged.created,
           computed_scores = staged.computed_scores, computed_by = null, deleted_at = null
      from span_head_staged staged
     where span_head.object_no = staged.object_no and span_head.seq = staged.seq
"""

OutcomeNo = tuple[RowSeq, Xact, int]
"""An outcome's key in the table: (subject_seq, subject_version, use_no)."""


@dataclass(slots=True)
class LockedRow:
    """The versions and computed scores of a row while this transaction holds its lock.

    `scores` has the values by score name. `by` says for each of them which outcome computed
    it: the number of its use, the content that it scored, and its generation. Changes are
    written by `write_computed`.
    """

    object_no: int
    content_xact: Xact
    trigger_xact: Xact | None
    scores: dict[str, Json]
    by: dict[str, dict[str, int]]
    is_changed: bool = False

    def clear(self, use_nos: Collection[int]) -> None:
        """Remove the scores that outcomes of these uses computed."""
        for name in [name for name, who in self.by.items() if who["use"] in use_nos]:
            self.scores.pop(name, None)
            del self.by[name]
            self.is_changed = True

    def show(self, use: ScorerUse, verdict: Verdict, numbers: Numbers) -> None:
        """Replace the earlier scores of the origin and scorer by those of the verdict.

        A score of the same name that another origin computed is replaced too, unless that
        origin's generation is newer.
        """
        if self.by:
            self.clear([
                who["use"] for who in self.by.values() if _is_same_slot(numbers, who, use)
            ])
        generation = use.origin.generation
        for score in verdict_scores(verdict):
            present = self.by.get(score.name)
            if score.value is None or (present and present["generation"] > generation):
                continue
            self.scores[score.name] = score.value
            self.by[score.name] = {
                "use": numbers.use_no(use), "version": self.content_xact,
                "generation": generation,
            }
            self.is_changed = True


Locked = dict[RowSeq, LockedRow]


def _is_same_slot(numbers: Numbers, who: dict[str, int], use: ScorerUse) -> bool:
    other = numbers.use_of(who["use"])
    return (other.origin.id, other.scorer.name) == (use.origin.id, use.scorer.name)


def lock_rows(cursor: Cursor, numbers: Numbers, subjects: Iterable[Subject]) -> Locked:
    """Lock the heads of the rows in the order of their objects and places.

    Deleted rows are missing from the result.
    """
    locked: Locked = {}
    wanted: dict[int, set[RowSeq]] = {}
    for subject in subjects:
        wanted.setdefault(numbers.object_no(subject.key.object), set()).add(subject.seq)
    for object_no, seqs in sorted(wanted.items()):
        cursor.execute(LOCK, (sorted(seqs), object_no))
        for seq, content_xact, trigger_xact, scores, by in cursor:
            locked[seq] = LockedRow(
                object_no, content_xact, trigger_xact, scores or {}, by or {}
            )
    return locked


def record(
    cursor: Cursor,
    numbers: Numbers,
    locked: Locked,
    executions: Sequence[Execution],
    deferred: Sequence[Deferred],
    *,
    now: datetime,
    counts: Counts,
    is_new: bool = False,
) -> int:
    """Write the outcomes of `executions`, with their scores, and `deferred` ones as pending.

    Returns how many outcomes were added, or got their result. Safe to repeat: an outcome that
    has a result keeps it.

    `is_new`: copy the outcomes straight into their table, which is faster. Raises
    UniqueViolation if one of them exists already.
    """
    at = now.isoformat().encode()
    shared = _SharedCells(numbers)
    later_seqs = {later.assignment.subject.seq for later in deferred}
    must_choose = not is_new or is_any_pending(cursor, later_seqs)
    lines = [
        line for execution in executions
        for line in _outcome_lines(execution, locked, shared, at)
    ]
    lines += [
        line for later in deferred
        for line in _pending_lines(later, locked, shared, leads=not must_choose)
    ]
    fresh = _insert_outcomes(cursor, lines, is_new=is_new)
    if must_choose:
        supersede_other_versions(
            cursor,
            [
                later.assignment for later in deferred if _is_current(later.assignment, locked)
            ],
        )
        ensure_leads(cursor, later_seqs)
    written = [
        (execution, [asked for asked in execution.assignment.asked
                     if fresh is None or _outcome_no(execution, asked, numbers) in fresh])
        for execution in executions if execution.assignment.subject.seq in locked
    ]
    count_executions(
        written,
        {
            execution.assignment.subject.seq for execution, _ in written
            if not _is_current(execution.assignment, locked)
        },
        now=now, counts=counts,
    )
    _write_scores(cursor, numbers, locked, written, is_new=is_new)
    return len(lines) if fresh is None else len(fresh)


def is_any_pending(cursor: Cursor, seqs: Collection[RowSeq]) -> bool:
    """Whether these locked rows have pending outcomes, one of which may lead the new ones."""
    if not seqs:
        return False
    cursor.execute(ANY_PENDING, (list(seqs),))
    return cursor.fetchone() == (True,)


def ensure_leads(cursor: Cursor, seqs: Collection[RowSeq]) -> None:
    """Make one outcome the lead wherever pending outcomes of these rows have no lead.

    Only leads are claimed, so outcomes without one would wait for ever.
    """
    if seqs:
        cursor.execute(LEAD, (list(seqs),))


def write_computed(cursor: Cursor, locked: Locked, xact: Xact) -> None:
    """Write the computed scores of the locked rows that changed, and set version `xact`."""
    changed = sorted(
        ((row.object_no, seq, row) for seq, row in locked.items() if row.is_changed),
        key=lambda one: one[:2],
    )
    for object_no, group in groupby(changed, key=lambda one: one[0]):
        rows = list(group)
        cursor.execute(
            WRITE_COMPUTED,
            (
                xact,
                [seq for _, seq, _ in rows],
                [_json_or_null(row.scores) for _, _, row in rows],
                [_json_or_null(row.by) for _, _, row in rows],
                object_no,
            ),
        )


def _json_or_null(values: dict[str, Json] | dict[str, dict[str, int]]) -> str | None:
    return orjson.dumps(values).decode() if values else None


class _SharedCells:
    """The cells that the outcomes of one request have in common, made once for a batch."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._made: dict[
            tuple[ObjectRef, OutcomeRequest, str, Priority, str | None], bytes
        ] = {}

    def of(
        self, assignment: Assignment, asked: OutcomeRequest, queue: str, priority: Priority
    ) -> bytes:
        """The cells of SHARED_COLUMNS, each with the tab that follows it."""
        where = assignment.subject.key.object
        key = where, asked, queue, priority, assignment.label
        cells = self._made.get(key)
        if cells is None:
            cells = self._made[key] = b"".join(
                cell + b"\t" for cell in (
                    b"%d" % self._numbers.object_no(where),
                    b"%d" % self._numbers.use_no(asked.use),
                    NULL if asked.rules_revision is None else b"%d" % asked.rules_revision,
                    TRUE if asked.skip_logging else FALSE,
                    asked.use.role.encode(),
                    queue.encode(),
                    b"%d" % priority,
                    escaped(assignment.label) if assignment.label else NULL,
                )
            )
        return cells


def _insert_outcomes(
    cursor: Cursor, lines: Sequence[bytes], *, is_new: bool
) -> set[OutcomeNo] | None:
    """Insert outcomes, or complete pending ones. Returns the keys of those that it wrote; None
    stands for all."""
    if not lines:
        return set()
    if is_new:
        copy_lines(cursor, COPY_OUTCOMES, lines)
        return None
    copy_lines(cursor, STAGE_OUTCOMES, lines)
    cursor.execute(UPSERT_OUTCOMES)
    return set(cursor.fetchall())


_PENDING = b"\t".join(
    [OutcomeState.PENDING.encode(), *[NULL] * 4, b"0", *[NULL] * 8, FALSE]
) + b"\n"


def _pending_lines(
    later: Deferred, locked: Locked, shared: _SharedCells, *, leads: bool
) -> list[bytes]:
    """The COPY lines of pending outcomes.

    If `leads` is true, the first outcome of the assignment is the lead. Otherwise the caller
    must call `ensure_leads` afterwards, which chooses the lead.
    """
    assignment = later.assignment
    subject = assignment.subject
    if subject.seq not in locked:
        return []
    return [
        b"%b%d\t%d\t%b\t%b" % (
            shared.of(assignment, asked, later.queue, later.priority), subject.seq,
            subject.content_xact, TRUE if leads and index == 0 else FALSE, _PENDING,
        )
        for index, asked in enumerate(assignment.asked)
    ]


def _outcome_no(execution: Execution, asked: OutcomeRequest, numbers: Numbers) -> OutcomeNo:
    subject = execution.assignment.subject
    return subject.seq, subject.content_xact, numbers.use_no(asked.use)


def _is_current(assignment: Assignment, locked: Locked) -> bool:
    row = locked.get(assignment.subject.seq)
    return row is not None and row.content_xact == assignment.subject.content_xact


def _outcome_lines(
    execution: Execution, locked: Locked, shared: _SharedCells, at: bytes
) -> list[bytes]:
    assignment, verdict = execution.assignment, execution.verdict
    subject = assignment.subject
    row = locked.get(subject.seq)
    if row is None:
        return []   # the row was deleted meanwhile, with its outcomes
    is_current = row.content_xact == subject.content_xact
    state = verdict.state if is_current else OutcomeState.SUPERSEDED
    started_at = _instant(verdict.started_at)
    if isinstance(verdict, Errored):
        result = (
            state.encode(), escaped(verdict.failure.error_class),
            escaped(verdict.failure.message.replace("\0", "\ufffd")), NULL, NULL,
        )
        usage = _NO_USAGE
    else:
        names = argument_names(subject, verdict.result.arguments)
        result = (
            state.encode(), NULL, NULL,
            json_cell([
                {"name": score.name, "score": score.value, "metadata": score.metadata}
                for score in verdict.result.scores
            ]),
            NULL if names is None else escaped(names),
        )
        usage = _usage_cells(verdict.result.usage)
    cells = b"%b\t%d\t%b\t%b\t%f\t%b\t%b" % (
        b"\t".join(result), execution.attempts, started_at, at, verdict.run_ms,
        escaped(verdict.log) if verdict.log else NULL, usage,
    )
    return [
        b"%b%d\t%d\t%b\t%b" % (
            shared.of(assignment, asked, execution.queue, Priority.LIVE), subject.seq,
            subject.content_xact, TRUE if index == 0 else FALSE, cells,
        )
        for index, asked in enumerate(assignment.asked)
    ]


_NO_USAGE = b"\t".join([NULL] * 4 + [FALSE]) + b"\n"


@lru_cache(maxsize=64)
def _usage_cells(usage: Usage) -> bytes:
    """The cells from `calls` on; cached, since scorers without a judge all have the same."""
    return b"%d\t%d\t%d\t%b\t%b\n" % (
        usage.calls, usage.prompt_tokens, usage.completion_tokens,
        escaped(usage.model) if usage.model else NULL, TRUE if usage.is_cached else FALSE,
    )


def _instant(unix_s: float) -> bytes:
    """A time as COPY reads it, to the microsecond."""
    second, micros = divmod(round(unix_s * 1_000_000), 1_000_000)
    return b"%b.%06d+00" % (_second(second), micros)


@lru_cache(maxsize=8)
def _second(unix_s: int) -> bytes:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScoreSpan:
    """A score span that is to be written."""

    object_no: int
    use_no: int
    use: ScorerUse
    execution: Execution

    def lines(self, seq: RowSeq, xact: Xact) -> tuple[bytes, bytes]:
        """The lines of its body and of its head."""
        subject, verdict = self.execution.assignment.subject, self.execution.verdict
        context = score_span_context(verdict)
        arguments = scores = NULL
        if not isinstance(verdict, Errored):
            result = verdict.result
            if argument_names(subject, result.arguments) is None:
                arguments = json_cell(result.arguments)
            scores = json_cell({score.name: score.value for score in result.scores})
        body = b"%d\tt\tf\t%d\t%d\t%b\t%b\t%b\t%d\t%d\t%d\t%b\t%b\n" % (
            self.object_no, self.use_no, seq,
            str(score_span_id(subject.seq, self.use)).encode(),
            score_span_span_id(subject.seq, self.use).encode(),
            escaped(subject.root_span_id), subject.seq, subject.xact, subject.content_xact,
            arguments, NULL if context is None else json_cell(context),
        )
        head = b"%d\t%d\t%d\t%d\t%b\t%b\n" % (
            self.object_no, xact, xact, seq, _instant(verdict.started_at), scores,
        )
        return body, head


Written = tuple[Execution, Sequence[OutcomeRequest]]
"""An execution, and those of its requests whose outcomes this transaction wrote."""


def _write_scores(
    cursor: Cursor,
    numbers: Numbers,
    locked: Locked,
    written: Sequence[Written],
    *,
    is_new: bool,
) -> None:
    """Write the score spans, and the scores of the rows, as one new version."""
    spans: list[_ScoreSpan] = []
    for execution, requests in written:
        row = locked[execution.assignment.subject.seq]
        if row.content_xact != execution.assignment.subject.content_xact:
            continue
        for asked in requests:
            if asked.use.role is Role.LIVE:
                row.show(asked.use, execution.verdict, numbers)
                if not asked.skip_logging:
                    spans.append(
                        _ScoreSpan(
                            object_no=row.object_no, use_no=numbers.use_no(asked.use),
                            use=asked.use, execution=execution,
                        )
                    )
    if not spans and not any(row.is_changed for row in locked.values()):
        return
    old = {} if is_new else _old_score_spans(cursor, numbers, spans)
    (xact,), seqs = draw_versions(cursor, 1, new_rows=len(spans))
    fresh: list[tuple[bytes, bytes]] = []
    replaced: list[tuple[bytes, bytes]] = []
    for one, seq in zip(spans, seqs, strict=True):
        present = old.get((one.execution.assignment.subject.seq, one.use.slot))
        lines = one.lines(seq if present is None else present, xact)
        (fresh if present is None else replaced).append(lines)
    if fresh:
        copy_lines(cursor, COPY_SCORE_SPANS, [body for body, _ in fresh])
        copy_lines(cursor, COPY_SCORE_HEADS, [head for _, head in fresh])
    if replaced:
        copy_lines(cursor, STAGE_SCORE_SPANS, [body for body, _ in replaced])
        copy_lines(cursor, STAGE_SCORE_HEADS, [head for _, head in replaced])
        cursor.execute(REPLACE_SCORE_HEADS)
        cursor.execute(REPLACE_SCORE_SPANS)
    write_computed(cursor, locked, xact)


def _old_score_spans(
    cursor: Cursor, numbers: Numbers, spans: Sequence[_ScoreSpan]
) -> dict[tuple[RowSeq, bytes], RowSeq]:
    """The score spans that exist already, by the scored row and the slot.

    This stays true for the transaction: only the holder of a scored row's lock writes its score
    spans.
    """
    if not spans:
        return {}
    scored = {one.execution.assignment.subject.seq for one in spans}
    cursor.execute(OLD_SCORE_SPANS, (list(scored),))
    rows = cursor.fetchall()
    numbers.load_uses(use_no for _, use_no, _ in rows)
    return {(scored_seq, numbers.use_of(use_no).slot): seq for scored_seq, use_no, seq in rows}
