"""Records verdicts: the outcome, the score span, and the score on the row.

Everything happens in the caller's transaction. The caller first locks the scored rows with
`lock_rows`, in the order of their ids, as ingest does; the new version is drawn after that. If
the content of a row changed while its scorer ran, the outcome is stored as `superseded` and
no score is written: a late result for old content never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID

import orjson

from spans.ids import Xact
from spans.json import Json
from spans.outcome import SPAN, Errored, OutcomeKey, Verdict, verdict_scores
from spans.row import Row, RowKey
from spans.score_span import score_span
from spans.scoring import OutcomeState, Role, Score
from spans.work import Assignment, Deferred, Execution, OutcomeRequest
from store.postgres.copy import (
    COPY_NEW,
    COPY_STAGED,
    FALSE,
    NULL,
    TRUE,
    UPSERT_FROM_STAGED,
    copy_lines,
    escaped,
    json_cell,
    span_line,
    uuid_cell,
)
from store.postgres.counters import Counts
from store.postgres.database import Cursor
from store.postgres.leases import RELEASED
from store.postgres.versions import draw_versions
from store.scoring.execution_metrics import count_executions
from store.scoring.supersede import supersede_other_versions

OUTCOME_COLUMNS = (
    "id", "project_id", "object_type", "object_id", "subject_kind", "subject_id",
    "subject_version", "origin_kind", "origin_id", "role", "scorer_kind", "scorer",
    "scorer_version", "rules_revision", "queue", "is_lead", "skip_logging", "score_span_id",
    "label", "state", "error_class", "error_message", "scores", "attempts", "started_at",
    "finished_at", "run_ms", "calls", "prompt_tokens", "completion_tokens", "model",
    "log", "is_cached",
)
_LIST = ", ".join(OUTCOME_COLUMNS)
_RESULT = OUTCOME_COLUMNS[OUTCOME_COLUMNS.index("state"):]
COPY_NEW_OUTCOMES = f"copy outcome ({_LIST}) from stdin"
COPY_OUTCOMES = f"copy outcome_staged ({_LIST}) from stdin"
# A pending outcome gets its result. An outcome that has a result keeps it. A superseded outcome
# becomes pending again if it is asked for again, such as when a rule returns to the version of
# its scorer. Outcomes that are neither inserted nor updated are not returned, and the caller
# then writes no score for them.
UPSERT_OUTCOMES = f"""
    insert into outcome ({_LIST}) select {_LIST} from outcome_staged order by id
    on conflict (id) do update
       set {", ".join(f"{name} = excluded.{name}" for name in _RESULT)},
           {RELEASED},
           is_lead = outcome.is_lead and outcome.state = 'pending'
     where outcome.state = 'pending' and excluded.state <> 'pending'
        or outcome.state = 'superseded' and excluded.state = 'pending'
    returning id
"""

# Makes one outcome the lead where pending outcomes share a scorer and content and have none.
# That happens if the former lead got its result before they were added, or if its rule was
# deleted.
LEAD = """
    update outcome set is_lead = true where id in (
      select id from (
        select id, row_number() over (alike order by id) as place,
               bool_or(is_lead) over alike as is_led
          from outcome
         where project_id = %s and object_id = %s and subject_id = any(%s)
           and state = 'pending'
        window alike as (partition by subject_id, subject_version, scorer_kind, scorer,
                                      scorer_version)) waiting
       where place = 1 and not is_led)
"""
ANY_THERE = """
    select exists (select from span
                    where project_id = %s and object_type = %s and object_id = %s
                      and id = any(%s))
"""
ANY_PENDING = """
    select exists (select from outcome
                    where project_id = %s and object_id = %s and subject_id = any(%s)
                      and state = 'pending')
"""

UUID_DIGITS = 32

Slot = tuple[str, str]
"""(origin id, scorer name): a row shows the scores of only one outcome for each slot."""


@dataclass(slots=True)
class LockedRow:
    """The versions and computed scores of a row while this transaction holds its lock.

    `scores` has the values by score name; `by` says for each of them which outcome computed
    it. Changes are written by `write_computed`.
    """

    content_xact: Xact
    trigger_xact: Xact | None
    scores: dict[str, Json]
    by: dict[str, dict[str, Json]]
    is_changed: bool = False

    def clear(self, slot: Slot) -> None:
        """Remove the scores that this origin and scorer computed before."""
        for name in [
            name for name, who in self.by.items() if (who["rule"], who["scorer"]) == slot
        ]:
            self.scores.pop(name, None)
            del self.by[name]
            self.is_changed = True

    def show(self, outcome: OutcomeKey, verdict: Verdict) -> None:
        """Replace the earlier scores of the outcome's origin and scorer by the verdict's."""
        self.clear((str(outcome.origin.id), outcome.scorer.name))
        for score in verdict_scores(verdict):
            if score.value is not None:
                self._put(score, outcome)

    def _put(self, score: Score, outcome: OutcomeKey) -> None:
        """Set one score. It replaces one of the same name that another rule computed."""
        self.scores[score.name] = score.value
        self.by[score.name] = {
            "outcome": str(outcome.id),
            "rule": str(outcome.origin.id),   # the origin's id, also if it is not a rule
            "scorer": outcome.scorer.name,
            "generation": outcome.origin.generation,
        }
        self.is_changed = True


Locked = dict[RowKey, LockedRow]


def lock_rows(cursor: Cursor, keys: Iterable[RowKey]) -> Locked:
    """Lock the rows in the order of their keys. Deleted rows are missing from the result."""
    locked: Locked = {}
    for where, group in groupby(sorted(set(keys)), key=lambda key: key.object):
        cursor.execute(
            """select id, content_xact, trigger_xact, computed_scores, computed_by from span
                where project_id = %s and object_type = %s and object_id = %s
                  and id = any(%s) and deleted_at is null
                order by id for update""",
            (*where, [key.id for key in group]),
        )
        for row_id, content_xact, trigger_xact, scores, by in cursor:
            locked[RowKey(where, row_id)] = LockedRow(
                content_xact, trigger_xact, scores or {}, by or {}
            )
    return locked


def record(
    cursor: Cursor,
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
    lines = [line for execution in executions for line in _outcome_lines(execution, locked, at)]
    later_keys = [later.assignment.subject.key for later in deferred]
    must_choose = not is_new or is_any_pending(cursor, later_keys)
    lines += [
        line for later in deferred
        for line in _pending_lines(later, locked, leads=not must_choose)
    ]
    fresh = _insert_outcomes(cursor, lines, is_new=is_new)
    if must_choose:
        supersede_other_versions(
            cursor,
            [
                asked.key for later in deferred for asked in later.assignment.asked
                if _is_current(later.assignment, locked)
            ],
        )
        ensure_leads(cursor, later_keys)
    superseded = {
        subject.key
        for subject in (one.assignment.subject for one in executions)
        if subject.key in locked and locked[subject.key].content_xact != subject.content_xact
    }
    count_executions(executions, fresh, superseded, now=now, counts=counts)
    _write_scores(cursor, locked, executions, fresh, at, is_new=is_new)
    return len(fresh)


def is_any_pending(cursor: Cursor, keys: Iterable[RowKey]) -> bool:
    """Whether these locked rows have pending outcomes, one of which may lead the new ones."""
    for where, group in groupby(sorted(set(keys)), key=lambda key: key.object):
        ids = [key.id for key in group]
        cursor.execute(ANY_PENDING, (where.project_id, where.object_id, ids))
        found = cursor.fetchone()
        if found and found[0]:
            return True
    return False


def ensure_leads(cursor: Cursor, keys: Iterable[RowKey]) -> None:
    """Make one outcome the lead wherever pending outcomes of these rows have no lead.

    Only leads are claimed, so outcomes without one would wait for ever.
    """
    for where, group in groupby(sorted(set(keys)), key=lambda key: key.object):
        ids = [key.id for key in group]
        cursor.execute(LEAD, (where.project_id, where.object_id, ids))


def write_computed(cursor: Cursor, locked: Locked, xact: Xact) -> None:
    """Write the computed scores of the locked rows that changed, and set version `xact`."""
    changed = sorted(key for key, row in locked.items() if row.is_changed)
    for where, group in groupby(changed, key=lambda key: key.object):
        keys = list(group)
        cursor.execute(
            """update span set computed_scores = %(fresh)s::jsonb -> id -> 'scores',
                               computed_by = %(fresh)s::jsonb -> id -> 'by', xact = %(xact)s
                where project_id = %(project)s and object_type = %(type)s
                  and object_id = %(object)s and id = any(%(ids)s)""",
            {
                "fresh": orjson.dumps(
                    {key.id: _shown(locked[key]) for key in keys}
                ).decode(),
                "xact": xact,
                "project": where.project_id,
                "type": where.object_type,
                "object": where.object_id,
                "ids": [key.id for key in keys],
            },
        )


def _shown(row: LockedRow) -> dict[str, object]:
    """The row's computed scores and their origins. Empty without scores: stored as SQL null."""
    return {"scores": row.scores, "by": row.by} if row.scores else {}


def _insert_outcomes(cursor: Cursor, lines: Sequence[bytes], *, is_new: bool) -> set[UUID]:
    """Insert outcomes, or complete pending ones. Returns the ids of those that it wrote."""
    if not lines:
        return set()
    if is_new:
        copy_lines(cursor, COPY_NEW_OUTCOMES, lines)
        return {UUID(hex=line[:UUID_DIGITS].decode()) for line in lines}
    copy_lines(cursor, COPY_OUTCOMES, lines)
    cursor.execute(UPSERT_OUTCOMES)
    return {outcome_id for (outcome_id,) in cursor}


def _pending_lines(later: Deferred, locked: Locked, *, leads: bool) -> list[bytes]:
    """The COPY lines of pending outcomes.

    If `leads` is true, the first outcome of the assignment is the lead. Otherwise the caller
    must call `ensure_leads` afterwards, which chooses the lead.
    """
    if later.assignment.subject.key not in locked:
        return []
    nothing = [OutcomeState.PENDING.encode(), NULL, NULL, NULL, b"0", *[NULL] * 8, FALSE]
    label = _label(later.assignment)
    return [
        _line(asked, later.queue, label, is_lead=leads and index == 0, result=nothing)
        for index, asked in enumerate(later.assignment.asked)
    ]


def _is_current(assignment: Assignment, locked: Locked) -> bool:
    row = locked.get(assignment.subject.key)
    return row is not None and row.content_xact == assignment.subject.content_xact


def _label(assignment: Assignment) -> bytes:
    return escaped(assignment.label) if assignment.label else NULL


def _outcome_lines(execution: Execution, locked: Locked, at: bytes) -> list[bytes]:
    row = locked.get(execution.assignment.subject.key)
    if row is None:
        return []   # the row was deleted meanwhile, with its outcomes
    verdict = execution.verdict
    failure = verdict.failure if isinstance(verdict, Errored) else None
    usage = None if isinstance(verdict, Errored) else verdict.result.usage
    is_current = row.content_xact == execution.assignment.subject.content_xact
    result = [
        verdict.state.encode() if is_current else OutcomeState.SUPERSEDED.encode(),
        escaped(failure.error_class) if failure else NULL,
        escaped(failure.message.replace("\0", "\ufffd")) if failure else NULL,
        _scores_cell(verdict),
        b"%d" % execution.attempts,
        datetime.fromtimestamp(verdict.started_at, UTC).isoformat().encode(),
        at,
        b"%f" % verdict.run_ms,
        b"%d" % usage.calls if usage else NULL,
        b"%d" % usage.prompt_tokens if usage else NULL,
        b"%d" % usage.completion_tokens if usage else NULL,
        escaped(usage.model) if usage and usage.model else NULL,
        escaped(verdict.log) if verdict.log else NULL,
        TRUE if usage and usage.is_cached else FALSE,
    ]
    label = _label(execution.assignment)
    return [
        _line(asked, execution.queue, label, is_lead=index == 0, result=result)
        for index, asked in enumerate(execution.assignment.asked)
    ]


def _scores_cell(verdict: Verdict) -> bytes:
    if isinstance(verdict, Errored):
        return NULL
    return json_cell(
        [
            {"name": score.name, "score": score.value, "metadata": score.metadata}
            for score in verdict.result.scores
        ]
    )


def _line(
    asked: OutcomeRequest, queue: str, label: bytes, *, is_lead: bool, result: Sequence[bytes]
) -> bytes:
    key = asked.key
    where = key.object
    cells = (
        key.id.hex.encode(),
        uuid_cell(where.project_id),
        where.object_type.encode(),
        uuid_cell(where.object_id),
        SPAN.encode(),
        escaped(key.subject_id),
        b"%d" % key.subject_version,
        key.origin.kind.encode(),
        uuid_cell(key.origin.id),
        key.role.encode(),
        key.scorer.kind.encode(),
        escaped(key.scorer.name),
        escaped(key.scorer.version),
        NULL if asked.rules_revision is None else b"%d" % asked.rules_revision,
        queue.encode(),
        TRUE if is_lead else FALSE,
        TRUE if asked.skip_logging else FALSE,
        key.score_span_id.hex.encode(),
        label,
        *result,
    )
    return b"\t".join(cells) + b"\n"


def _write_scores(
    cursor: Cursor,
    locked: Locked,
    executions: Sequence[Execution],
    fresh: set[UUID],
    at: bytes,
    *,
    is_new: bool,
) -> None:
    """Write the score spans, and the scores on the rows, as one new version."""
    spans: list[Row] = []
    for execution in executions:
        subject = execution.assignment.subject
        row = locked.get(subject.key)
        if row is None or row.content_xact != subject.content_xact:
            continue
        for asked in execution.assignment.asked:
            if asked.key.id in fresh and asked.key.role is Role.LIVE:
                row.show(asked.key, execution.verdict)
                if not asked.skip_logging:
                    spans.append(score_span(execution, asked))
    if not spans and not any(row.is_changed for row in locked.values()):
        return
    (xact,) = draw_versions(cursor, 1)
    if spans:
        now = at.decode()
        spans.sort(key=lambda row: row.key)
        lines = [
            span_line(row, xact=xact, content_xact=xact, trigger_xact=None, now=now)
            for row in spans
        ]
        if is_new or not _is_any_there(cursor, [row.key for row in spans]):
            copy_lines(cursor, COPY_NEW, lines)
        else:
            copy_lines(cursor, COPY_STAGED, lines)
            cursor.execute(UPSERT_FROM_STAGED)
    write_computed(cursor, locked, xact)


def _is_any_there(cursor: Cursor, keys: Sequence[RowKey]) -> bool:
    """Whether any of these score spans exists already.

    The answer stays true for this transaction: only the holder of a scored row's lock writes
    its score spans.
    """
    for where, group in groupby(keys, key=lambda key: key.object):
        cursor.execute(ANY_THERE, (*where, [key.id for key in group]))
        found = cursor.fetchone()
        if found and found[0]:
            return True
    return False
