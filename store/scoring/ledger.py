"""Claims pending outcomes for the workers of a queue, and writes what became of them.

The table `outcome` is the ledger and also the queue of work. Of several outcomes that want the
same scorer on the same content, only one is claimed and run: the lead. The others, its
followers, get the lead's result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any
from uuid import UUID

from psycopg import DataError

from spans.clock import Clock
from spans.columns import SCORER_ARGUMENTS
from spans.ids import ObjectId, ProjectId, Xact
from spans.outcome import BUG, POISONED, Errored, Failure, OriginKind, OutcomeKey, origin_of
from spans.row import ObjectRef, ObjectType, is_made_by_scorer
from spans.scoring import Role, ScorerRef
from spans.work import (
    DEATHS_MAX,
    Assignment,
    Claim,
    ColumnsOf,
    Execution,
    OutcomeRequest,
    Retry,
    RunnableClaim,
    StaleClaim,
    batch_size,
)
from store.postgres.counters import Counts
from store.postgres.database import Cursor, Database
from store.postgres.leases import CLAIMED, OUTCOMES, RELEASED
from store.postgres.row_views import read_subjects
from store.scoring.record import lock_rows, record
from store.scoring.supersede import SUPERSEDED

KEY = """outcome.id, outcome.project_id, outcome.object_type, outcome.object_id, subject_id,
         subject_version, origin_kind, origin_id, role, scorer_kind, scorer, scorer_version,
         outcome.rules_revision, skip_logging, label, fence, attempts, deaths"""

# Outcomes whose worker died are claimed before all others, most deaths first. They are never
# claimed together with outcomes of another number of deaths, and the more deaths, the fewer
# at once: `limits` has the size of a batch by its number of deaths.
CLAIM = f"""
    with first as (
      select deaths from outcome
       where queue = %(queue)s and {OUTCOMES.waiting} and is_lead and {OUTCOMES.free}
         and next_attempt_at <= now()
       order by deaths desc limit 1),
    due as (
      select id from outcome
       where queue = %(queue)s and {OUTCOMES.waiting} and is_lead and {OUTCOMES.free}
         and next_attempt_at <= now()
         and deaths = (select deaths from first)
       order by next_attempt_at
       limit (%(limits)s::integer[])[least((select deaths from first) + 1, %(deaths_max)s)]
         for update skip locked)
    update outcome set {CLAIMED}, started_at = now()
      from due where outcome.id = due.id
    returning {KEY}
"""
FOLLOWERS = f"""
    select {KEY} from outcome
     where project_id = %s and object_id = %s and subject_id = any(%s)
       and state = 'pending' and not is_lead
     order by id for update
"""


class Ledger:
    """Implements `flows.scoring.claims.ClaimStore`.

    A claim gets a lease of `lease_s` seconds, which its worker renews while the scorer runs.
    A queue whose processes are killed after a time limit runs scorers that hold the
    interpreter: its worker cannot renew while one of them runs. So the leases of such a queue
    are longer by its limit. `time_limits_s` has the limit of each such queue in seconds, by
    the queue's name.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        lease_s: float,
        time_limits_s: Mapping[str, float],
    ) -> None:
        self._database = database
        self._clock = clock
        self._lease_s = lease_s
        self._time_limits_s = time_limits_s

    def claim(
        self, queue: str, limit: int, columns: ColumnsOf | None = None
    ) -> list[Claim]:
        """Claim due outcomes of the queue, at most `limit`, with the rows that they score.

        The claims and their attempts are committed before the rows are read, so that a death
        of this process is counted from then on.
        """
        with self._database.cursor() as cursor:
            cursor.execute(
                CLAIM,
                {
                    "queue": queue,
                    "limits": [batch_size(limit, deaths) for deaths in range(DEATHS_MAX)],
                    "deaths_max": DEATHS_MAX,
                    "owner": self._database.owner,
                    "lease": self._lease_of(queue),
                },
            )
            leads = sorted(cursor.fetchall(), key=lambda row: row[1:5])
        claims: list[Claim] = []
        for where, group in groupby(leads, key=_object_of):
            with self._database.cursor() as cursor:
                claims += self._with_subjects(cursor, queue, where, list(group), columns)
        return claims

    def _with_subjects(
        self, cursor: Cursor, queue: str, where: ObjectRef, leads: list[tuple[Any, ...]],
        columns: ColumnsOf | None,
    ) -> list[Claim]:
        read = frozenset(SCORER_ARGUMENTS)
        if columns is not None:
            scorers = {ScorerRef(kind=row[9], name=row[10], version=row[11]) for row in leads}
            read = frozenset().union(*map(columns, scorers))
        subjects = read_subjects(cursor, where, [row[4] for row in leads], read)
        claims: list[Claim] = []
        poisoned: list[RunnableClaim] = []
        for row in leads:
            lead = _request_of(where, row)
            subject = subjects.get(lead.key.subject_id)
            *_, label, fence, attempts, deaths = row
            if (
                subject is None
                or subject.content_xact != lead.key.subject_version
                or is_made_by_scorer(subject.view)
            ):
                claims.append(StaleClaim(lead=lead.key))
                continue
            claim = RunnableClaim(
                lead=lead.key, fence=fence, attempts=attempts, deaths=deaths,
                assignment=Assignment(
                    subject=subject, scorer=lead.key.scorer, asked=(lead,), label=label
                ),
            )
            if deaths >= DEATHS_MAX:
                poisoned.append(claim)
            else:
                claims.append(claim)
        if poisoned:
            self._poison(queue, poisoned)
        return claims

    def _poison(self, queue: str, claims: Sequence[RunnableClaim]) -> None:
        failure = Failure(
            error_class=POISONED,
            message=f"{DEATHS_MAX} workers died while they ran this; look at the span, then "
            "run it again with `tallyard outcomes retry`",
        )
        now_s = self._clock().timestamp()
        verdict = Errored(failure=failure, started_at=now_s, run_ms=0.0)
        self.record([
            (claim, Execution(assignment=claim.assignment, verdict=verdict, queue=queue,
                              attempts=claim.attempts))
            for claim in claims
        ])

    def _lease_of(self, queue: str) -> float:
        return self._lease_s + self._time_limits_s.get(queue, 0.0)

    def is_waiting(self, queue: str) -> bool:
        """Whether an outcome of the queue is due and no process holds it."""
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""select exists (select from outcome
                    where queue = %s and {OUTCOMES.waiting} and is_lead and {OUTCOMES.free}
                      and next_attempt_at <= now())""",
                (queue,),
            )
            row = cursor.fetchone()
        return bool(row and row[0])

    def renew(self, queue: str) -> None:
        """Extend the leases of all outcomes of the queue that this process holds."""
        with self._database.cursor() as cursor:
            OUTCOMES.renew(
                cursor, owner=self._database.owner, queue=queue, lease_s=self._lease_of(queue)
            )

    def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
        """Write the verdicts of claims that still hold, in one transaction; drop the others.

        Safe to repeat: a recorded claim no longer holds. If PostgreSQL cannot store one of the
        results, each is written in a transaction of its own, and that one as errored (`bug`).
        """
        try:
            self._record(executions)
        except DataError as error:
            if len(executions) > 1:
                for one in executions:
                    self.record([one])
            else:
                self._record([_unstorable(*one, error) for one in executions])

    def _record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
        if not executions:
            return
        now = self._clock()
        counts = Counts()
        with self._database.cursor() as cursor:
            locked = lock_rows(
                cursor, [execution.assignment.subject.key for _, execution in executions]
            )
            held = _still_held(cursor, [claim for claim, _ in executions])
            counts.add("stale_fences", {}, len(executions) - len(held))
            kept = [done for claim, done in executions if claim.lead.id in held]
            record(
                cursor, locked, _with_followers(cursor, kept), (), now=now, counts=counts
            )
            counts.write(cursor)

    def give_back(self, claims: Sequence[RunnableClaim]) -> None:
        with self._database.cursor() as cursor:
            OUTCOMES.release(cursor, {claim.lead.id: claim.fence for claim in claims})

    def postpone(self, retries: Sequence[Retry]) -> None:
        if not retries:
            return
        counts = Counts()
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""update outcome set error_class = again.class, error_message = again.message,
                                      next_attempt_at =
                                        now() + make_interval(secs => again.wait),
                                      {RELEASED}
                     from unnest(%s::uuid[], %s::bigint[], %s::float8[], %s::text[], %s::text[])
                          as again(id, fence, wait, class, message)
                    where {OUTCOMES.held("again")}""",
                (
                    [retry.claim.lead.id for retry in retries],
                    [retry.claim.fence for retry in retries],
                    [retry.wait_s for retry in retries],
                    [retry.error_class for retry in retries],
                    [retry.message.replace("\0", "\ufffd") for retry in retries],
                ),
            )
            for retry in retries:
                counts.add(
                    "retries",
                    {
                        "scorer": retry.claim.assignment.shown_as,
                        "error_class": retry.error_class,
                    },
                    1,
                )
            counts.write(cursor)

    def supersede(self, claims: Sequence[StaleClaim]) -> None:
        if not claims:
            return
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""update outcome set {SUPERSEDED}
                     from unnest(%s::text[], %s::bigint[], %s::uuid[])
                          as old(id, version, object)
                    where outcome.subject_id = old.id and subject_version = old.version
                      and object_id = old.object and project_id = any(%s)
                      and {OUTCOMES.waiting}""",
                (
                    [claim.lead.subject_id for claim in claims],
                    [claim.lead.subject_version for claim in claims],
                    [claim.lead.object.object_id for claim in claims],
                    list({claim.lead.object.project_id for claim in claims}),
                ),
            )


def _unstorable(
    claim: RunnableClaim, execution: Execution, error: DataError
) -> tuple[RunnableClaim, Execution]:
    """The execution, with the error that PostgreSQL cannot store its result."""
    failure = Failure(error_class=BUG, message=f"the result cannot be stored: {error}")
    was = execution.verdict
    verdict = Errored(
        failure=failure, started_at=was.started_at, run_ms=was.run_ms, log=was.log
    )
    return claim, replace(execution, verdict=verdict)


def _with_followers(cursor: Cursor, executions: Sequence[Execution]) -> list[Execution]:
    """The executions, with their followers added to the outcomes that each one answers.

    The caller holds the locks of the scored rows. Whoever adds a follower holds them too, so
    none is missed.
    """
    followers: dict[tuple[ObjectRef, str, int, ScorerRef], list[OutcomeRequest]] = {}
    by_object: dict[ObjectRef, list[str]] = {}
    for execution in executions:
        key = execution.assignment.subject.key
        by_object.setdefault(key.object, []).append(key.id)
    for where, ids in by_object.items():
        cursor.execute(FOLLOWERS, (where.project_id, where.object_id, ids))
        for row in cursor:
            asked = _request_of(where, row)
            followers.setdefault(_execution_key(asked.key), []).append(asked)
    if not followers:
        return list(executions)
    return [
        replace(
            execution,
            assignment=replace(
                execution.assignment,
                asked=(
                    *execution.assignment.asked,
                    *followers.get(_execution_key(execution.assignment.asked[0].key), ()),
                ),
            ),
        )
        for execution in executions
    ]


def _still_held(cursor: Cursor, claims: Sequence[RunnableClaim]) -> set[UUID]:
    cursor.execute(
        f"""select outcome.id from outcome, unnest(%s::uuid[], %s::bigint[]) as held(id, fence)
            where {OUTCOMES.held("held")}
            order by outcome.id for update of outcome""",
        ([claim.lead.id for claim in claims], [claim.fence for claim in claims]),
    )
    return {outcome_id for (outcome_id,) in cursor}


def _object_of(row: tuple[Any, ...]) -> ObjectRef:
    return ObjectRef(ProjectId(row[1]), ObjectType(row[2]), ObjectId(row[3]))


def _request_of(where: ObjectRef, row: tuple[Any, ...]) -> OutcomeRequest:
    (subject_id, version, origin_kind, origin_id, role, scorer_kind, scorer, scorer_version,
     revision, skip_logging, *_) = row[4:]
    return OutcomeRequest(
        key=OutcomeKey(
            object=where, subject_id=subject_id, subject_version=Xact(version),
            origin=origin_of(OriginKind(origin_kind), origin_id), role=Role(role),
            scorer=ScorerRef(kind=scorer_kind, name=scorer, version=scorer_version),
        ),
        rules_revision=revision,
        skip_logging=skip_logging,
    )


def _execution_key(key: OutcomeKey) -> tuple[ObjectRef, str, int, ScorerRef]:
    return key.object, key.subject_id, key.subject_version, key.scorer
