"""Sums up errored outcomes, and makes them pending again."""

from __future__ import annotations

import orjson

from flows.outcomes.retry import ErrorSummary, RetryRequest
from scorers import catalog
from scorers.functions.queue import queue_of_global
from spans.ids import ProjectId
from spans.outcome import OriginKind
from spans.queues import HEAVY
from spans.work import Priority
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
                     select outcome.subject_seq, outcome.subject_version, outcome.use_no,
                            row_number() over (
                              partition by outcome.subject_seq, outcome.subject_version,
                                           scorer_kind, scorer, scorer_version
                              order by outcome.use_no) as place,
                            case when scorer_kind = 'function' then present.queue
                                 else coalesce(%s::jsonb ->> scorer, %s) end as queue
                       from outcome
                       join object on object.object_no = outcome.object_no
                       join scorer_use uses on uses.use_no = outcome.use_no
                       join span_head on span_head.object_no = outcome.object_no
                        and span_head.seq = outcome.subject_seq
                        and span_head.content_xact = outcome.subject_version
                       left join function on scorer_kind = 'function'
                        and function.id::text = scorer and function.deleted_at is null
                       left join function_version present on present.function_id = function.id
                        and present.version::text = scorer_version
                      where object.project_id = %s and outcome.state = 'errored'
                        and origin_id in (select id from project_score
                                           where project_score.project_id = %s)
                        and not exists (
                          select from scorer_use other join outcome later
                              on later.subject_seq = outcome.subject_seq
                             and later.subject_version = outcome.subject_version
                             and later.use_no = other.use_no
                           where other.origin_id = uses.origin_id
                             and other.scorer_kind = uses.scorer_kind
                             and other.scorer = uses.scorer and other.role = uses.role
                             and other.scorer_version <> uses.scorer_version
                             and later.state <> 'superseded'
                             and later.created > outcome.created)
                        and (%s::text is null or error_class = %s)
                        and (%s::interval is null or finished_at > now() - %s::interval)
                        and (%s::uuid is null or origin_id = %s))
                   update outcome
                      set state = 'pending', attempts = 0, deaths = 0, next_attempt_at = now(),
                          failing_since = null, finished_at = null, {RELEASED},
                          is_lead = chosen.place = 1,
                          priority = {Priority.BULK}, queue = chosen.queue
                     from chosen
                    where outcome.subject_seq = chosen.subject_seq
                      and outcome.subject_version = chosen.subject_version
                      and outcome.use_no = chosen.use_no and chosen.queue is not null""",
                (
                    orjson.dumps(queues).decode(), HEAVY, project_id, project_id,
                    request.error_class, request.error_class,
                    request.since, request.since, request.rule_id, request.rule_id,
                ),
            )
            return cursor.rowcount

    def errors(self, project_id: ProjectId) -> list[ErrorSummary]:
        """The project's errored outcomes, counted by rule or job, scorer, role and error
        class. The highest count comes first."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """with errored as materialized (
                     select origin_kind, origin_id, scorer,
                            coalesce(label, scorer) as shown, outcome.role,
                            error_class, error_message, finished_at
                       from object
                       join outcome on outcome.object_no = object.object_no
                        and state = 'errored'
                       join scorer_use uses on uses.use_no = outcome.use_no
                      where object.project_id = %s)
                   select kind.origin_kind, kind.origin_id, kind.shown, kind.role,
                          kind.error_class, kind.number,
                          kind.message, kind.last_at, project_score.name
                     from (select origin_kind, origin_id, max(shown) as shown, role,
                                  error_class,
                                  count(*) as number, max(finished_at) as last_at,
                                  (array_agg(error_message order by finished_at desc))[1]
                                    as message
                             from errored
                            group by origin_kind, origin_id, scorer, role, error_class) kind
                     left join project_score on project_score.id = kind.origin_id
                    order by number desc""",
                (project_id,),
            )
            return [
                ErrorSummary(
                    rule_id=str(origin_id) if origin == OriginKind.RULE else None,
                    rule_name=name,
                    rescore_job_id=str(origin_id) if origin == OriginKind.RESCORE else None,
                    scorer=scorer, role=role, error_class=error_class, count=count,
                    last_message=message, last_at=last_at.isoformat(),
                )
                for (
                    origin, origin_id, scorer, role, error_class, count, message, last_at, name,
                ) in cursor
            ]
