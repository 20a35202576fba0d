"""Reads what the latest outcomes of a scorer took, and the names of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rules.rescore.estimate import Moments, PastOutcomes
from rules.rescore.model import JobScorer
from spans.ids import ProjectId
from spans.row import ObjectRef
from spans.scoring import OutcomeState, Role
from store.postgres.database import Cursor, Database, follow_indexes

OUTCOMES_MAX = 1000
"""Outcomes whose calls are looked at."""

HEADS_MAX = 2000
"""The newest rows of an object whose scores are looked at for their names."""

_MEASURED = ("calls", "prompt_tokens", "completion_tokens", "cached_tokens", "run_ms")
_MOMENTS = ", ".join(
    f"coalesce(avg({name}), 0)::float8, coalesce(stddev_samp({name}), 0)::float8"
    for name in _MEASURED
)
# The uses are those of the project's own rules and jobs. The latest outcomes of each are found
# by an index of those that asked a judge.
TAKEN = f"""
    select count(*), (array_agg(model order by finished_at desc))[1], {_MOMENTS}
      from (
        select one.* from scorer_use used
         cross join lateral (
           select finished_at, model, calls, coalesce(prompt_tokens, 0) as prompt_tokens,
                  coalesce(completion_tokens, 0) as completion_tokens,
                  coalesce(cached_tokens, 0) as cached_tokens, run_ms
             from outcome
            where outcome.use_no = used.use_no and calls > 0
              and state in ('{OutcomeState.COMPLETED}', '{OutcomeState.SKIPPED}')
            order by finished_at desc limit {OUTCOMES_MAX}) one
         where used.scorer = %(scorer)s and used.scorer_kind = %(kind)s
           and used.role = '{Role.LIVE}'
           and (exists (select from project_score rule
                         where rule.id = used.origin_id and rule.project_id = %(project)s)
                or exists (select from rescore_job job
                            where job.id = used.origin_id and job.project_id = %(project)s))
         order by one.finished_at desc limit {OUTCOMES_MAX}) latest
"""
# Each score of a row says the use of the scorer that gave it.
NAMES = f"""
    select distinct given.name
      from (select computed_by from span_head
             where object_no = %s and created > '-infinity'
             order by created desc limit {HEADS_MAX}) head
     cross join lateral jsonb_each(head.computed_by) as given(name, by)
     cross join lateral (
       select scorer, scorer_kind from scorer_use
        where scorer_use.use_no = (given.by ->> 'use')::integer offset 0) used
     where used.scorer = %s and used.scorer_kind = %s
"""


class StoredPastOutcomes:
    """Implements flows.rescore.plan.PastOutcomeSource."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def past(
        self, project_id: ProjectId, objects: Sequence[ObjectRef], scorers: Sequence[JobScorer]
    ) -> list[PastOutcomes]:
        numbers = self._database.numbers
        object_nos = [
            number for where in objects if (number := numbers.find_object(where)) is not None
        ]
        with self._database.cursor() as cursor:
            follow_indexes(cursor)
            return [_past(cursor, project_id, object_nos, one) for one in scorers]


def _past(
    cursor: Cursor, project_id: ProjectId, object_nos: Sequence[int], one: JobScorer
) -> PastOutcomes:
    scorer = one.scorer
    names = {one.shown_as}
    for object_no in object_nos:
        cursor.execute(NAMES, (object_no, scorer.name, scorer.kind))
        names.update(name for (name,) in cursor)
    cursor.execute(
        TAKEN, {"scorer": scorer.name, "kind": scorer.kind, "project": project_id}
    )
    row: Any = cursor.fetchone()
    outcomes, model, *values = row
    moments = dict(zip(_MEASURED, map(_moments, values[::2], values[1::2]), strict=True))
    return PastOutcomes(outcomes=outcomes, model=model, names=frozenset(names), **moments)


def _moments(mean: float, deviation: float) -> Moments:
    return Moments(mean=mean, deviation=deviation)
