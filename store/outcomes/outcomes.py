"""Sums up errored outcomes, and makes them pending again."""

from __future__ import annotations

import orjson

from flows.outcomes.retry import ErrorSummary, RetryRequest
from scorers import catalog
from scorers.functions.queue import queue_of_global
from spans.ids import ProjectId
from spans.queues import HEAVY
from store.postgres.database import Database
from store.postgres.leases import RELEASED


class StoredOutcomes:
    """Implements flows.outcomes.retry.OutcomeStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def retry(self, project_id: ProjectId, request: RetryRequest) -> int:
        """Make errored outcomes pending again, without attempts. Returns how many.

        Left out are outcomes whose rule or function was deleted, whose row has other content
        by now, and those that an outcome of another version of the scorer has followed. Of
        outcomes with the same scorer and content, one becomes the lead.
        """
        queues = {name: queue_of_global(name) for name in catalog.names()}
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""with chosen as (
                     select outcome.id, row_number() over (
                              partition by outcome.object_id, subject_id, subject_version,
                                           scorer_kind, scorer, scorer_version
                              order by outcome.id) as place,
                            case when scorer_kind = 'function' then present.queue
                                 else coalesce(%s::jsonb ->> scorer, %s) end as queue
                       from outcome
                       join span on span.project_id = outcome.project_id
                        and span.object_type = outcome.object_type
                        and span.object_id = outcome.object_id
                        and span.id = subject_id and span.content_xact = subject_version
                       left join function on scorer_kind = 'function'
                        and function.id::text = scorer and function.deleted_at is null
                       left join function_version present on present.function_id = function.id
                        and present.version::text = scorer_version
                      where outcome.project_id = %s and state = 'errored'
                        and origin_id in (select id from project_score where project_id = %s)
                        and not exists (
                          select from outcome later
                           where later.project_id = outcome.project_id
                             and later.object_id = outcome.object_id
                             and later.subject_id = outcome.subject_id
                             and later.subject_version = outcome.subject_version
                             and later.origin_id = outcome.origin_id
                             and later.scorer_kind = outcome.scorer_kind
                             and later.scorer = outcome.scorer
                             and later.scorer_version <> outcome.scorer_version
                             and later.role = outcome.role
                             and later.state <> 'superseded'
                             and later.created > outcome.created)
                        and (%s::text is null or error_class = %s)
                        and (%s::interval is null or finished_at > now() - %s::interval)
                        and (%s::uuid is null or origin_id = %s))
                   update outcome
                      set state = 'pending', attempts = 0, deaths = 0, next_attempt_at = now(),
                          finished_at = null, {RELEASED},
                          is_lead = chosen.place = 1,
                          queue = chosen.queue
                     from chosen where outcome.id = chosen.id and chosen.queue is not null""",
                (
                    orjson.dumps(queues).decode(), HEAVY, project_id, project_id,
                    request.error_class, request.error_class,
                    request.since, request.since, request.rule_id, request.rule_id,
                ),
            )
            return cursor.rowcount

    def errors(self, project_id: ProjectId) -> list[ErrorSummary]:
        """The project's errored outcomes, counted by rule, scorer, role and error class. The
        highest count comes first."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """select kind.origin_id, kind.shown, kind.role, kind.error_class, kind.number,
                          latest.error_message, latest.finished_at,
                          project_score.name
                     from (select origin_id, scorer, max(coalesce(label, scorer)) as shown,
                                  role, error_class, count(*) as number
                             from outcome where project_id = %s and state = 'errored'
                            group by origin_id, scorer, role, error_class) kind
                     join lateral (
                       select error_message, finished_at from outcome
                        where project_id = %s and state = 'errored'
                          and origin_id = kind.origin_id and scorer = kind.scorer
                          and role = kind.role and error_class = kind.error_class
                        order by finished_at desc limit 1) latest on true
                     left join project_score on project_score.id = kind.origin_id
                    order by number desc""",
                (project_id, project_id),
            )
            return [
                ErrorSummary(
                    rule_id=str(rule_id), rule_name=name, scorer=scorer, role=role,
                    error_class=error_class, count=count, last_message=message,
                    last_at=last_at.isoformat(),
                )
                for rule_id, scorer, role, error_class, count, message, last_at, name in cursor
            ]
