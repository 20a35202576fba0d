"""Records verdicts: the outcome, the score span, and the score in the row's head.

Everything happens in the caller's transaction, which holds the locks of the scored rows. If the
content of a row changed while its scorer ran, the outcome is stored as `superseded` and no
score is written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from spans.ids import RowSeq
from spans.outcome import Errored
from spans.queues import HELD_BY_BUDGET, HELD_BY_JOB
from spans.score_span import argument_names
from spans.work import Assignment, Deferred, Execution
from store.postgres.copy import copy_lines
from store.postgres.counters import Counts
from store.postgres.database import Cursor
from store.postgres.leases import RELEASED, by_key
from store.postgres.numbers import Numbers
from store.scoring.execution_metrics import count_executions
from store.scoring.locked_rows import Locked, OutcomeNo, Run
from store.scoring.outcome_lines import (
    COPY_OUTCOMES,
    OUTCOME_LIST,
    RESULT_COLUMNS,
    STAGE_OUTCOMES,
    SharedCells,
    outcome_lines,
    pending_lines,
)
from store.scoring.score_spans import write_scores
from store.scoring.supersede import supersede_other_versions

# A pending outcome gets its result. An outcome that has a result keeps it. A superseded outcome
# becomes pending again if it is asked for again, such as when a rule returns to the version of
# its scorer, as if nobody had tried it. Outcomes that are neither inserted nor updated are not
# returned, and the caller then writes no score for them.
IS_HELD_BACK = " or ".join(
    f"starts_with(outcome.queue, '{prefix}')" for prefix in (HELD_BY_JOB, HELD_BY_BUDGET)
)
"""Whether an outcome waits for a paused job or a spent budget, and not for an endpoint."""

UPSERT_OUTCOMES = f"""
    insert into outcome ({OUTCOME_LIST}) select {OUTCOME_LIST} from outcome_staged
        order by subject_seq, subject_version, use_no
    on conflict (subject_seq, subject_version, use_no) do update
       set {", ".join(f"{name} = excluded.{name}" for name in RESULT_COLUMNS)},
           {RELEASED},
           is_lead = outcome.is_lead and outcome.state = 'pending',
           priority = excluded.priority,
           failing_since =
             case outcome.state when 'superseded' then null else outcome.failing_since end,
           deaths = case outcome.state when 'superseded' then 0 else outcome.deaths end,
           next_attempt_at =
             case outcome.state when 'superseded' then now() else outcome.next_attempt_at end
     where outcome.state = 'pending' and excluded.state <> 'pending'
        or outcome.state = 'superseded' and excluded.state = 'pending'
    returning subject_seq, subject_version, use_no
"""

# Of the pending outcomes that share a scorer and content, one is the lead. What a worker runs
# stays the lead. Otherwise it is one that no job or budget holds back, and a live one rather
# than one of bulk work, so that a live outcome never waits for what may wait. A lead that a
# worker has claimed since this looked stays one beside the new lead: both run then.
LEAD = f"""
    update outcome set is_lead = chosen.leads from (
      select subject_seq, subject_version, use_no, place = 1 as leads from (
        select outcome.subject_seq, outcome.subject_version, outcome.use_no, outcome.is_lead,
               row_number() over (
                 partition by outcome.subject_seq, outcome.subject_version,
                              scorer_kind, scorer, scorer_version
                 order by outcome.owner is null, {IS_HELD_BACK}, outcome.priority,
                          not outcome.is_lead, outcome.use_no) as place
          from unnest(%s::bigint[]) as subject(seq)
          join outcome on outcome.subject_seq = subject.seq
           and {by_key("outcome.state = 'pending'")}
         cross join lateral (
           select scorer_kind, scorer, scorer_version from scorer_use
            where scorer_use.use_no = outcome.use_no offset 0) scorer_use) waiting
       where is_lead <> (place = 1)) chosen
     where outcome.subject_seq = chosen.subject_seq
       and outcome.subject_version = chosen.subject_version and outcome.use_no = chosen.use_no
       and (chosen.leads or outcome.owner is null)
"""
ANY_PENDING = f"""
    select exists (select from unnest(%s::bigint[]) as subject(seq)
                     join outcome on outcome.subject_seq = subject.seq
                      and {by_key("outcome.state = 'pending'")})
"""


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
    shared = SharedCells(numbers)
    later_seqs = {later.assignment.subject.seq for later in deferred}
    must_choose = not is_new or is_any_pending(cursor, later_seqs)
    # Rows that are not locked were deleted meanwhile, with their outcomes.
    runs = [
        Run(execution, row, _arguments(execution), row.content_xact == subject.content_xact)
        for execution in executions for subject in [execution.assignment.subject]
        if (row := locked.get(subject.seq)) is not None
    ]
    lines = [line for run in runs for line in outcome_lines(run, shared, at)]
    lines += [
        line for later in deferred
        for line in pending_lines(later, locked, shared, at, leads=not must_choose)
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
    write_scores(cursor, numbers, locked, written, is_new=is_new)
    return len(lines) if fresh is None else len(fresh)


def is_any_pending(cursor: Cursor, seqs: Collection[RowSeq]) -> bool:
    """Whether these locked rows have pending outcomes, one of which may lead the new ones."""
    if not seqs:
        return False
    cursor.execute(ANY_PENDING, (list(seqs),))
    return cursor.fetchone() == (True,)


def ensure_leads(cursor: Cursor, seqs: Collection[RowSeq]) -> None:
    """Make one outcome the lead wherever pending outcomes of these rows have no lead, or have
    one that waits longer than another would.

    Only leads are claimed, so outcomes without one would wait for ever. The caller holds the
    rows' locks, since who adds an outcome holds them too.
    """
    if seqs:
        cursor.execute(LEAD, (list(seqs),))


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


def _arguments(execution: Execution) -> str | None:
    if isinstance(execution.verdict, Errored):
        return None
    return argument_names(execution.assignment.subject, execution.verdict.result.arguments)


def _is_current(assignment: Assignment, locked: Locked) -> bool:
    row = locked.get(assignment.subject.seq)
    return row is not None and row.content_xact == assignment.subject.content_xact
