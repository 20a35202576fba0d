"""Records verdicts: the outcome, the score span, and the score in the row's head.

Everything happens in the caller's transaction. The caller first locks the heads of the scored
rows with `lock_rows`, in the order in which the rows came, as ingest does; the new version is
drawn after that. If the content of a row changed while its scorer ran, the outcome is stored as
`superseded` and no score is written: a late result for old content never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import orjson

from spans.ids import RowSeq, Xact
from spans.json import Json
from spans.outcome import Errored, ScorerUse, Verdict, verdict_scores
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
from store.postgres.leases import RELEASED, by_key
from store.postgres.numbers import Numbers
from store.postgres.score_index import COPY_SCORES, changing_scores, entry_lines
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
LEAD = f"""
    update outcome set is_lead = true from (
      select subject_seq, subject_version, use_no from (
        select outcome.subject_seq, outcome.subject_version, outcome.use_no,
               row_number() over (alike order by outcome.use_no) as place,
               bool_or(outcome.is_lead) over alike as is_led
          from unnest(%s::bigint[]) as subject(seq)
          join outcome on outcome.subject_seq = subject.seq
           and {by_key("outcome.state = 'pending'")}
         cross join lateral (
           select scorer_kind, scorer, scorer_version from scorer_use
            where scorer_use.use_no = outcome.use_no offset 0) scorer_use
        window alike as (partition by outcome.subject_seq, outcome.subject_version,
                                      scorer_kind, scorer, scorer_version)) waiting
       where place = 1 and not is_led) chosen
     where outcome.subject_seq = chosen.subject_seq
       and outcome.subject_version = chosen.subject_version and outcome.use_no = chosen.use_no
"""
ANY_PENDING = f"""
    select exists (select from unnest(%s::bigint[]) as subject(seq)
                     join outcome on outcome.subject_seq = subject.seq
                      and {by_key("outcome.state = 'pending'")})
"""
LOCK = """
    select head.* from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
     cross join lateral (
       select seq, object_no, xact, content_xact, trigger_xact, computed_scores, computed_by
         from span_head
        where span_head.object_no = asked.object_no and span_head.seq = asked.seq
          and deleted_at is null
          for no key update) head
"""
WRITE_COMPUTED = """
    update span_head set computed_scores = fresh.scores, computed_by = fresh.by, xact = %s
      from json_to_recordset(%s::json)
           as fresh(object_no integer, seq bigint, scores jsonb, by jsonb)
     where span_head.object_no = fresh.object_no and span_head.seq = fresh.seq
"""

SCORE_SPAN_COLUMNS = (
    "object_no", "has_base", "is_root", "scored_use", "seq", "id", "span_id", "root_span_id",
    "scored_seq", "scored_xact", "scored_version", "input", "context",
)
SCORE_HEAD_COLUMNS = (
    "object_no", "xact", "first_xact", "content_xact", "seq", "created", "computed_scores",
)
_SPAN_LIST, _HEAD_LIST = ", ".join(SCORE_SPAN_COLUMNS), ", ".join(SCORE_HEAD_COLUMNS)
COPY_SCORE_SPANS = f"copy span ({_SPAN_LIST}) from stdin"
COPY_SCORE_HEADS = f"copy span_head ({_HEAD_LIST}) from stdin"
STAGE_SCORE_SPANS = f"copy span_staged ({_SPAN_LIST}) from stdin"
STAGE_SCORE_HEADS = f"copy span_head_staged ({_HEAD_LIST}) from stdin"
TRACES = """
    select span.seq, root_span_id from unnest(%s::bigint[]) as asked(seq)
      join span on span.seq = asked.seq
"""
# By the scored row; and by id, since a client may have logged a row with the id of a score span
# that is not there: feedback on one that was withdrawn meanwhile.
OLD_SCORE_SPANS = """
    select scored.seq, score_span.scored_use, null, score_span.seq
      from unnest(%s::bigint[]) as scored(seq)
     cross join lateral (
       select scored_use, seq from span where span.scored_seq = scored.seq offset 0) score_span
    union all
    select null, null, asked.id, span.seq
      from unnest(%s::integer[], %s::text[]) as asked(object_no, id)
      join span on span.object_no = asked.object_no and span.id = asked.id
"""
# What a client wrote over a score span goes with the outcome that it was written about.
REPLACE_SCORE_SPANS = """
    update span
       set scored_seq = staged.scored_seq, scored_use = staged.scored_use,
           scored_xact = staged.scored_xact, scored_version = staged.scored_version,
           span_id = staged.span_id, root_span_id = staged.root_span_id,
           is_root = staged.is_root, input = staged.input, context = staged.context,
           created_by = null, span_parents = null, output = null,
           expected = null, error = null, logged_scores = null, metadata = null, metrics = null,
           tags = null, span_attributes = null, origin = null, facets = null,
           classifications = null, extra = null, scoring_state = null, has_base = true
      from span_staged staged
     where span.seq = staged.seq
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
    written by `write_computed`. `stored` has the scores before that: those that have entries.
    """

    object_no: int
    xact: Xact
    content_xact: Xact
    trigger_xact: Xact | None
    scores: dict[str, Json]
    by: dict[str, dict[str, int]]
    stored: Mapping[str, Json]
    is_changed: bool = False

    @property
    def loses_scores(self) -> bool:
        """Whether a stored score is to be replaced or removed."""
        return any(self.scores.get(name) != value for name, value in self.stored.items())

    @property
    def new_scores(self) -> dict[str, Json]:
        """The scores by names that are not stored."""
        return {
            name: value for name, value in self.scores.items() if name not in self.stored
        }

    def clear(self, use_nos: Collection[int]) -> None:
        """Remove the scores that outcomes of these uses computed."""
        for name in [name for name, who in self.by.items() if who["use"] in use_nos]:
            self.scores.pop(name, None)
            del self.by[name]
            self.is_changed = True

    def show(
        self, use: ScorerUse, use_no: int, verdict: Verdict, numbers: Numbers
    ) -> None:
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
                "use": use_no, "version": self.content_xact, "generation": generation,
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
    wanted = sorted({
        (object_no, subject.seq)
        for where, group in groupby(subjects, key=lambda subject: subject.key.object)
        for object_no in [numbers.object_no(where)]
        for subject in group
    })
    if not wanted:
        return {}
    cursor.execute(LOCK, tuple(map(list, zip(*wanted, strict=True))))
    return {
        seq: LockedRow(
            object_no, xact, content_xact, trigger_xact, dict(scores or {}), by or {},
            stored=scores or {},
        )
        for seq, object_no, xact, content_xact, trigger_xact, scores, by in cursor.fetchall()
    }


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
    # Rows that are not locked were deleted meanwhile, with their outcomes.
    runs = [
        _Run(execution, row, _arguments(execution)) for execution in executions
        if (row := locked.get(execution.assignment.subject.seq)) is not None
    ]
    lines = [line for run in runs for line in _outcome_lines(run, shared, at)]
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
    written = runs if fresh is None else [run.reduced_to(fresh, numbers) for run in runs]
    count_executions(
        [(run.execution, run.is_current) for run in written], now=now, counts=counts
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
    """Write the computed scores of the locked rows that changed, and set version `xact`.

    The entries of rows that only get new scores are the caller's to write.
    """
    rescored = [
        (row.object_no, seq) for seq, row in locked.items()
        if row.is_changed and row.loses_scores
    ]
    fresh = [
        {
            "object_no": row.object_no, "seq": seq, "scores": row.scores or None,
            "by": row.by or None,
        }
        for seq, row in locked.items() if row.is_changed
    ]
    if fresh:
        with changing_scores(cursor, rescored):
            cursor.execute(WRITE_COMPUTED, (xact, orjson.dumps(fresh).decode()))


class _Run(NamedTuple):
    """An execution on a row that is locked, and the names of the arguments that the scorer took
    from it (see `argument_names`)."""

    execution: Execution
    row: LockedRow
    arguments: str | None

    @property
    def is_current(self) -> bool:
        """Whether the row still has the content that was scored."""
        return self.row.content_xact == self.execution.assignment.subject.content_xact

    def reduced_to(self, outcomes: Collection[OutcomeNo], numbers: Numbers) -> _Run:
        """The run with only those of its requests whose outcomes are among `outcomes`."""
        assignment = self.execution.assignment
        subject = assignment.subject
        asked = tuple(
            one for one in assignment.asked
            if (subject.seq, subject.content_xact, numbers.use_no(one.use)) in outcomes
        )
        reduced = replace(self.execution, assignment=replace(assignment, asked=asked))
        return self._replace(execution=reduced)


def _arguments(execution: Execution) -> str | None:
    if isinstance(execution.verdict, Errored):
        return None
    return argument_names(execution.assignment.subject, execution.verdict.result.arguments)


class _SharedCells:
    """The cells that the outcomes of one request have in common, made once for a batch."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        # By the request's address, which is quicker than its hash. Keeping the request keeps
        # its address from being given to another.
        self._made: dict[
            tuple[int, int, str, Priority, str | None], tuple[bytes, OutcomeRequest]
        ] = {}

    def of(
        self, object_no: int, asked: OutcomeRequest, queue: str, priority: Priority,
        label: str | None,
    ) -> bytes:
        """The cells of SHARED_COLUMNS, each with the tab that follows it."""
        key = object_no, id(asked), queue, priority, label
        made = self._made.get(key)
        if made is not None:
            return made[0]
        cells = b"".join(
            cell + b"\t" for cell in (
                b"%d" % object_no,
                b"%d" % self._numbers.use_no(asked.use),
                NULL if asked.rules_revision is None else b"%d" % asked.rules_revision,
                TRUE if asked.skip_logging else FALSE,
                asked.use.role.encode(),
                queue.encode(),
                b"%d" % priority,
                escaped(label) if label else NULL,
            )
        )
        self._made[key] = cells, asked
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
    row = locked.get(subject.seq)
    if row is None:
        return []
    return [
        b"%b%d\t%d\t%b\t%b" % (
            shared.of(row.object_no, asked, later.queue, later.priority, assignment.label),
            subject.seq, subject.content_xact,
            TRUE if leads and index == 0 else FALSE, _PENDING,
        )
        for index, asked in enumerate(assignment.asked)
    ]


def _is_current(assignment: Assignment, locked: Locked) -> bool:
    row = locked.get(assignment.subject.seq)
    return row is not None and row.content_xact == assignment.subject.content_xact


def _outcome_lines(run: _Run, shared: _SharedCells, at: bytes) -> list[bytes]:
    execution, row, arguments = run
    assignment, verdict = execution.assignment, execution.verdict
    subject = assignment.subject
    state = (verdict.state if run.is_current else OutcomeState.SUPERSEDED).encode()
    if isinstance(verdict, Errored):
        failure = verdict.failure
        result = b"%b\t%b\t%b\t\\N\t\\N" % (
            state, escaped(failure.error_class),
            escaped(failure.message.replace("\0", "\ufffd")),
        )
        usage = _NO_USAGE
    else:
        scores: list[Json] = [
            {"name": score.name, "score": score.value, "metadata": score.metadata}
            for score in verdict.result.scores
        ]
        result = b"%b\t\\N\t\\N\t%b\t%b" % (
            state, json_cell(scores), NULL if arguments is None else escaped(arguments)
        )
        usage = _usage_cells(verdict.result.usage)
    cells = b"%b\t%d\t%b\t%b\t%f\t%b\t%b" % (
        result, execution.attempts, _instant(verdict.started_at), at, verdict.run_ms,
        escaped(verdict.log) if verdict.log else NULL, usage,
    )
    return [
        b"%b%d\t%d\t%b\t%b" % (
            shared.of(row.object_no, asked, execution.queue, Priority.LIVE, assignment.label),
            subject.seq, subject.content_xact, TRUE if index == 0 else FALSE, cells,
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


class _ScoreSpan(NamedTuple):
    """A score span that is to be written, in the trace of the row that it is about."""

    run: _Run
    use: ScorerUse
    use_no: int
    root_span_id: str

    @property
    def scored_seq(self) -> RowSeq:
        """The place of the row that it is about."""
        return self.run.execution.assignment.subject.seq

    @property
    def scores(self) -> dict[str, Json]:
        """The values of its scores by their names."""
        verdict = self.run.execution.verdict
        if isinstance(verdict, Errored):
            return {}
        return {score.name: score.value for score in verdict.result.scores}

    @property
    def id(self) -> str:
        """The id of its row, if that is new."""
        return score_span_id(self.scored_seq, self.use)

    def lines(self, seq: RowSeq, xact: Xact) -> tuple[bytes, bytes]:
        """The lines of its body and of its head."""
        execution, row, names = self.run
        subject, verdict = execution.assignment.subject, execution.verdict
        context = score_span_context(verdict)
        arguments = scores = NULL
        if not isinstance(verdict, Errored):
            if names is None:
                arguments = json_cell(verdict.result.arguments)
            scores = json_cell(self.scores)
        body = b"%d\tt\tf\t%d\t%d\t%b\t%b\t%b\t%d\t%d\t%d\t%b\t%b\n" % (
            row.object_no, self.use_no, seq,
            self.id.encode(),
            score_span_span_id(subject.seq, self.use).encode(),
            escaped(self.root_span_id), subject.seq, subject.xact, subject.content_xact,
            arguments, NULL if context is None else json_cell(context),
        )
        head = b"%d\t%d\t%d\t%d\t%d\t%b\t%b\n" % (
            row.object_no, xact, xact, xact, seq, _instant(verdict.started_at), scores,
        )
        return body, head


def _write_scores(
    cursor: Cursor, numbers: Numbers, locked: Locked, written: Sequence[_Run], *, is_new: bool
) -> None:
    """Write the score spans, and the scores of the rows, as one new version."""
    moved = _moved_traces(cursor, written)
    spans = [span for run in written for span in _shown(run, numbers, moved)]
    if not spans and not any(row.is_changed for row in locked.values()):
        return
    old = {} if is_new else _old_score_spans(cursor, numbers, spans)
    (xact,), seqs = draw_versions(cursor, 1, new_rows=len(spans))
    fresh: list[tuple[bytes, bytes]] = []
    replaced: list[tuple[bytes, bytes]] = []
    places: list[tuple[int, RowSeq]] = []
    entries: list[bytes] = []
    for one, seq in zip(spans, seqs, strict=True):
        present = old.get((one.scored_seq, one.use.slot)) if old else None
        if present is None:
            fresh.append(one.lines(seq, xact))
            entries += entry_lines(one.scores, object_no=one.run.row.object_no, seq=seq)
        else:
            replaced.append(one.lines(present, xact))
            places.append((one.run.row.object_no, present))
    for scored_seq, row in locked.items():
        if row.is_changed and not row.loses_scores:
            entries += entry_lines(row.new_scores, object_no=row.object_no, seq=scored_seq)
    if entries:
        copy_lines(cursor, COPY_SCORES, entries)
    if fresh:
        copy_lines(cursor, COPY_SCORE_SPANS, [body for body, _ in fresh])
        copy_lines(cursor, COPY_SCORE_HEADS, [head for _, head in fresh])
    if replaced:
        copy_lines(cursor, STAGE_SCORE_SPANS, [body for body, _ in replaced])
        copy_lines(cursor, STAGE_SCORE_HEADS, [head for _, head in replaced])
        with changing_scores(cursor, places):
            cursor.execute(REPLACE_SCORE_HEADS)
            cursor.execute(REPLACE_SCORE_SPANS)
    write_computed(cursor, locked, xact)


def _moved_traces(cursor: Cursor, written: Iterable[_Run]) -> dict[RowSeq, str]:
    """The traces (root span ids) of rows that were written since they were read.

    Such a write can move a row into another trace and leave its content alone, so that what was
    scored still holds. From now on the locks of the rows keep them where they are.
    """
    later = {
        subject.seq for execution, row, _ in written
        for subject in [execution.assignment.subject] if row.xact != subject.xact
    }
    if not later:
        return {}
    cursor.execute(TRACES, (list(later),))
    return dict(cursor.fetchall())


def _shown(
    run: _Run, numbers: Numbers, moved: Mapping[RowSeq, str]
) -> list[_ScoreSpan]:
    """Show the run's scores on its row. Returns the score spans to write."""
    if not run.is_current:
        return []
    subject = run.execution.assignment.subject
    root = moved.get(subject.seq, subject.root_span_id)
    spans: list[_ScoreSpan] = []
    for asked in run.execution.assignment.asked:
        if asked.use.role is Role.LIVE:
            use_no = numbers.use_no(asked.use)
            run.row.show(asked.use, use_no, run.execution.verdict, numbers)
            if not asked.skip_logging:
                spans.append(_ScoreSpan(run, asked.use, use_no, root))
    return spans


def _old_score_spans(
    cursor: Cursor, numbers: Numbers, spans: Sequence[_ScoreSpan]
) -> dict[tuple[RowSeq, str], RowSeq]:
    """The rows that these score spans replace, by the scored row and the slot.

    Those that are score spans stay so for the transaction: only the holder of a scored row's
    lock writes its score spans.
    """
    if not spans:
        return {}
    cursor.execute(
        OLD_SCORE_SPANS,
        (
            list({one.scored_seq for one in spans}),
            [one.run.row.object_no for one in spans], [one.id for one in spans],
        ),
    )
    rows = cursor.fetchall()
    numbers.load_uses(use_no for _, use_no, _, _ in rows if use_no is not None)
    by_id = {row_id: seq for _, _, row_id, seq in rows if row_id is not None}
    return {
        (one.scored_seq, one.use.slot): by_id[one.id] for one in spans if one.id in by_id
    } | {
        (scored_seq, numbers.use_of(use_no).slot): seq
        for scored_seq, use_no, _, seq in rows if scored_seq is not None
    }
