"""Errored outcomes: summed up, and put back among the pending ones."""

from __future__ import annotations

from flows.outcomes import ErrorSummary, RetryRequest
from scorers import catalog
from scorers.catalog import Kind
from spans.ids import ProjectId
from store.database import Database


class Outcomes:
    """Implements flows.outcomes.OutcomeStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def retry(self, project_id: ProjectId, request: RetryRequest) -> int:
        """See OutcomeStore. Of those that share an execution one leads, as before."""
        judged = [
            name for name in catalog.names() if catalog.resolve(name).kind is Kind.JUDGED
        ]
        with self._database.cursor() as cursor:
            cursor.execute(
                """with chosen as (
                     select id, row_number() over (
                              partition by object_id, subject_id, subject_version, scorer_kind,
                                           scorer, scorer_version order by id) as place
                       from outcome
                      where project_id = %s and state = 'errored'
                        and (%s::text is null or error_class = %s)
                        and (%s::interval is null or finished_at > now() - %s::interval)
                        and (%s::uuid is null or origin_id = %s))
                   update outcome
                      set state = 'pending', attempts = 0, deaths = 0, next_attempt_at = null,
                          finished_at = null, owner = null, lease_until = null,
                          is_lead = chosen.place = 1,
                          queue = case when scorer = any(%s) then 'judge' else 'heavy' end
                     from chosen where outcome.id = chosen.id""",
                (
                    project_id, request.error_class, request.error_class, request.since,
                    request.since, request.rule_id, request.rule_id, judged,
                ),
            )
            return cursor.rowcount

    def errors(self, project_id: ProjectId) -> list[ErrorSummary]:
        """See OutcomeStore. The most numerous first."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """select origin_id::text, scorer, error_class, count(*),
                          (array_agg(error_message order by finished_at desc))[1],
                          max(finished_at)
                     from outcome where project_id = %s and state = 'errored'
                    group by 1, 2, 3 order by 4 desc""",
                (project_id,),
            )
            return [
                ErrorSummary(
                    rule_id=rule_id, scorer=scorer, error_class=error_class, count=count,
                    last_message=message, last_at=last_at.isoformat(),
                )
                for rule_id, scorer, error_class, count, message, last_at in cursor
            ]
