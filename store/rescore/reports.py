"""Reads what a re-score job's report counts, step by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rules.rescore.model import RescoreJob
from rules.rescore.report import JobOutcome, JobRecord
from scorers.functions.version import FUNCTION
from spans.ids import RowSeq
from spans.scoring import OutcomeState, within_0_and_1
from store.postgres.database import Cursor, Database
from store.postgres.numbers import Numbers

STEP = """
    select object_no, seqs, versions, wants from rescore_step
     where job_no = %s and step_no = %s
"""
OUTCOMES = """
    select outcome.subject_seq, outcome.use_no, state, error_class, scores, calls,
           prompt_tokens, completion_tokens, cost, is_cached, run_ms
      from unnest(%s::bigint[], %s::bigint[], %s::integer[]) as asked(seq, version, use_no)
     cross join lateral (
       select * from outcome
        where outcome.subject_seq = asked.seq and outcome.subject_version = asked.version
          and outcome.use_no = asked.use_no offset 0) outcome
"""
ROWS = """
    select asked.seq, body.id, body.logged
      from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
     cross join lateral (
       select deleted_at from span_head
        where span_head.object_no = asked.object_no and span_head.seq = asked.seq
       offset 0) head
     cross join lateral (
       select id,
              array(select key from jsonb_each(
                      case when jsonb_typeof(logged_scores) = 'object' then logged_scores end)
                     where jsonb_typeof(value) <> 'null') as logged
         from span where span.seq = asked.seq offset 0) body
     where head.deleted_at is null
"""
REPLACED = """
    select asked.seq, name, score, (by ->> 'use')::integer
      from unnest(%s::bigint[]) as asked(seq)
     cross join lateral (
       select name, score, by from replaced_score
        where replaced_score.subject_seq = asked.seq and replaced_score.job_no = %s
       offset 0) replaced
"""
THRESHOLDS = """
    select asked.place, version.metadata -> '__pass_threshold'
      from unnest(%s::integer[], %s::text[], %s::text[]) as asked(place, id, version)
     cross join lateral (
       select metadata from function_version
        where function_id = asked.id::uuid
          and function_version.version = asked.version::bigint offset 0) version
"""


class JobRecords:
    """Implements flows.rescore.report.JobRecordStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def thresholds(self, job: RescoreJob) -> Sequence[float | None]:
        functions = [
            (place, one.scorer.name, one.scorer.version)
            for place, one in enumerate(job.scorers) if one.scorer.kind == FUNCTION
        ]
        found: dict[int, float | None] = {}
        if functions:
            with self._database.cursor() as cursor:
                cursor.execute(THRESHOLDS, tuple(map(list, zip(*functions, strict=True))))
                found = {place: _share(value) for place, value in cursor}
        return [found.get(place) for place in range(len(job.scorers))]

    def pages(self, job: RescoreJob) -> Iterator[Sequence[JobRecord]]:
        """The records of one step after the other, each read in a transaction of its own."""
        numbers = self._database.numbers
        use_nos = [numbers.use_no(request.use) for request in job.requests()]
        step_no = 0
        while True:
            with self._database.cursor() as cursor:
                cursor.execute(STEP, (job.no, step_no))
                step = cursor.fetchone()
                if step is None:
                    return
                page = _records(cursor, numbers, job, use_nos, step)
            yield page
            step_no += 1


class _Asked(NamedTuple):
    """A row and a scorer of it, by the scorer's place."""

    seq: RowSeq
    version: int
    scorer: int


def _records(
    cursor: Cursor, numbers: Numbers, job: RescoreJob, use_nos: Sequence[int],
    step: Sequence[Any],
) -> list[JobRecord]:
    object_no, seqs, versions, wants = step
    masks = wants or [(1 << len(use_nos)) - 1] * len(seqs)
    asked = [
        _Asked(seq, version, scorer)
        for seq, version, mask in zip(seqs, versions, masks, strict=True)
        for scorer in range(len(use_nos)) if mask >> scorer & 1
    ]
    # A row that goes while this reads has no outcome then, and counts as deleted.
    cursor.execute(OUTCOMES, (
        [one.seq for one in asked], [one.version for one in asked],
        [use_nos[one.scorer] for one in asked],
    ))
    outcomes = {(seq, use_no): _outcome(of_run) for seq, use_no, *of_run in cursor}
    cursor.execute(ROWS, ([object_no] * len(seqs), seqs))
    rows = {seq: (row_id, frozenset(logged)) for seq, row_id, logged in cursor}
    replaced = _replaced(cursor, numbers, job, seqs)
    records = []
    for seq, _, scorer in asked:
        row_id, logged = rows.get(seq, (None, frozenset[str]()))
        outcome = outcomes.get((seq, use_nos[scorer]))
        records.append(JobRecord(
            row_id=row_id, scorer=scorer, outcome=outcome, logged=logged,
            before=_before(job, scorer, outcome, replaced.get(seq, {})),
        ))
    return records


def _outcome(row: Sequence[Any]) -> JobOutcome:
    """The outcome in the columns of OUTCOMES behind its key."""
    (
        state, error_class, scores, calls, prompt_tokens, completion_tokens, cost, is_cached,
        run_ms,
    ) = row
    return JobOutcome(
        state=OutcomeState(state), error_class=error_class,
        values={
            score["name"]: score["score"] for score in scores or ()
            if score["score"] is not None
        },
        calls=calls or 0, prompt_tokens=prompt_tokens or 0,
        completion_tokens=completion_tokens or 0,
        cost=None if cost is None else float(cost), is_cached=is_cached, run_ms=run_ms or 0.0,
    )


_Scorer = tuple[str, str]


def _replaced(
    cursor: Cursor, numbers: Numbers, job: RescoreJob, seqs: Sequence[RowSeq]
) -> dict[RowSeq, dict[str, tuple[float, _Scorer]]]:
    """What the job replaced on these rows: by name, the value and whose it was."""
    cursor.execute(REPLACED, (seqs, job.no))
    found = cursor.fetchall()
    numbers.load_uses({use_no for *_, use_no in found})
    replaced: dict[RowSeq, dict[str, tuple[float, _Scorer]]] = defaultdict(dict)
    for seq, name, score, use_no in found:
        scorer = numbers.use_of(use_no).scorer
        replaced[seq][name] = float(score), (scorer.kind, scorer.name)
    return replaced


def _before(
    job: RescoreJob, place: int, outcome: JobOutcome | None,
    replaced: Mapping[str, tuple[float, _Scorer]],
) -> dict[str, float]:
    """What the scorer's run replaced: the scores of its names, and others that it gave before
    and gives no more."""
    if outcome is None or not replaced:
        return {}
    scorer = job.scorers[place].scorer
    own = scorer.kind, scorer.name
    return {
        name: value for name, (value, whose) in replaced.items()
        if name in outcome.values or whose == own
    }


def _share(value: object) -> float | None:
    """A threshold as a number, 0..1. An author may have written anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return within_0_and_1(float(value))
