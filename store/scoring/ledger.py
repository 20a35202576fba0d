"""Claims pending outcomes for the workers of a queue, and writes what became of them.

The table `outcome` is the ledger and also the queue of work. Of several outcomes that want the
same scorer on the same content, only one is claimed and run: the lead. The others, its
followers, get the lead's result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from psycopg import DataError, IntegrityError

from scorers.results import storable
from spans.clock import Clock
from spans.columns import SCORER_ARGUMENTS
from spans.errors import BudgetSpent
from spans.ids import RowSeq, Xact
from spans.outcome import BUG, POISONED, Errored, Failure, OutcomeKey
from spans.queues import budget_queues, held_queue
from spans.row import is_made_by_scorer
from spans.scoring import ScorerRef
from spans.work import (
    DEATHS_MAX,
    Assignment,
    BudgetHold,
    Claim,
    ColumnsOf,
    Execution,
    Hold,
    OutcomeRequest,
    Priority,
    PutOff,
    Retry,
    RunnableClaim,
    StaleClaim,
)
from store.postgres.counters import Counts
from store.postgres.database import Cursor, Database
from store.postgres.leases import OUTCOMES, RELEASED, by_key
from store.postgres.row_views import read_subjects
from store.scoring.locked_rows import OutcomeNo, lock_rows
from store.scoring.outcome_turns import OutcomeTurns
from store.scoring.record import ensure_leads, record
from store.scoring.supersede import SUPERSEDED

logger = logging.getLogger(__name__)

FOLLOWERS = f"""
    select follower.* from unnest(%s::bigint[]) as scored(seq)
     cross join lateral (
       select subject_seq, subject_version, use_no, rules_revision, skip_logging from outcome
        where outcome.subject_seq = scored.seq and {by_key("state = 'pending'")}
          and not is_lead
        order by subject_version, use_no for update) follower
"""
STILL_HELD = f"""
    select still.* from {OUTCOMES.claims()}
     cross join lateral (
       select subject_seq, subject_version, use_no from outcome where {OUTCOMES.held("held")}
          for update) still
"""
POSTPONE = f"""
    update outcome set error_class = held.class, error_message = held.message,
                       failing_since = coalesce(failing_since, now()),
                       next_attempt_at = now() + make_interval(secs => held.wait), {RELEASED}
      from {OUTCOMES.claims("wait float8", "class text", "message text")}
     where {OUTCOMES.held("held")}
"""
HOLD = f"""
    update outcome set queue = held.to_queue, attempts = attempts - 1,
                       failing_since = coalesce(failing_since, now()),
                       next_attempt_at = now() + make_interval(secs => held.wait), {RELEASED}
      from {OUTCOMES.claims("wait float8", "to_queue text")}
     where {OUTCOMES.held("held")}
"""
# What is held for a budget has not failed: the time for which it is tried begins anew.
HOLD_FOR_BUDGET = f"""
    update outcome set queue = held.queues || case priority when {Priority.LIVE} then 'live'
                               else 'bulk' end || ':' || queue,
                       attempts = attempts - 1, failing_since = null, next_attempt_at = now(),
                       error_class = '{BudgetSpent.error_class()}',
                       error_message = held.reason, {RELEASED}
      from {OUTCOMES.claims("queues text", "reason text")}
     where {OUTCOMES.held("held")}
"""
PUT_OFF = f"""
    update outcome set attempts = attempts - 1,
                       next_attempt_at = now() + make_interval(secs => held.wait), {RELEASED}
      from {OUTCOMES.claims("wait float8")}
     where {OUTCOMES.held("held")}
"""
CLOSE = f"""
    update outcome set state = 'errored', error_class = %s, error_message = %s,
                       finished_at = now(), {RELEASED}
      from {OUTCOMES.claims()} where {OUTCOMES.held("held")}
"""
SUPERSEDE = f"""
    update outcome set {SUPERSEDED}
      from unnest(%s::bigint[], %s::bigint[]) as old(seq, version)
     where outcome.subject_seq = old.seq and outcome.subject_version = old.version
       and {by_key(OUTCOMES.waiting)}
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
        self._numbers = database.numbers
        self._clock = clock
        self._lease_s = lease_s
        self._time_limits_s = time_limits_s
        self._turns = OutcomeTurns()

    def claim(
        self, queue: str, limit: int, columns: ColumnsOf | None = None
    ) -> list[Claim]:
        """Claim due outcomes of the queue, at most `limit`, with the rows that they score.

        The claims and their attempts are committed before the rows are read, so that a death
        of this process is counted from then on.
        """
        with self._database.cursor() as cursor:
            leads = self._turns.claim(
                cursor, queue, limit, owner=self._database.owner, lease_s=self._lease_of(queue)
            )
        leads.sort(key=itemgetter(slice(0, 4)))
        self._numbers.load_uses(row[3] for row in leads)
        claims: list[Claim] = []
        for object_no, group in groupby(leads, key=itemgetter(0)):
            claims += self._with_subjects(queue, object_no, list(group), columns)
        return claims

    def _with_subjects(
        self, queue: str, object_no: int, leads: list[tuple[Any, ...]],
        columns: ColumnsOf | None,
    ) -> list[Claim]:
        where = self._numbers.object_of(object_no)
        read = frozenset(SCORER_ARGUMENTS)
        if columns is not None:
            scorers = {self._numbers.use_of(row[3]).scorer for row in leads}
            read = frozenset().union(*map(columns, scorers))
        seqs = list({row[1] for row in leads})
        with self._database.cursor() as cursor:
            subjects = read_subjects(cursor, where, object_no, seqs, read)
        claims: list[Claim] = []
        poisoned: list[RunnableClaim] = []
        for _, seq, version, use_no, revision, skip_logging, label, fence, *tries in leads:
            attempts, deaths, failing_s, error_class, message = tries
            use = self._numbers.use_of(use_no)
            subject = subjects.get(seq)
            key = OutcomeKey(
                object=where, subject_id=subject.key.id if subject else "",
                subject_version=Xact(version), use=use,
            )
            if (
                subject is None
                or subject.content_xact != version
                or is_made_by_scorer(subject.view)
            ):
                claims.append(StaleClaim(lead=key, subject_seq=seq))
                continue
            lead = OutcomeRequest(
                use=use, rules_revision=revision, skip_logging=skip_logging
            )
            claim = RunnableClaim(
                lead=key, fence=fence, attempts=attempts, deaths=deaths, failing_s=failing_s,
                last_failure=error_class
                and Failure(error_class=error_class, message=message or ""),
                assignment=Assignment(
                    subject=subject, scorer=use.scorer, asked=(lead,), label=label
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
        executions = [
            (claim, Execution(assignment=claim.assignment, verdict=verdict, queue=queue,
                              attempts=claim.attempts))
            for claim in claims
        ]
        try:
            self.record(executions)
        except IntegrityError:
            # Perhaps it was recording that ended the workers. Without its score span the
            # outcome can be closed: it would otherwise be claimed for ever, before all others.
            logger.exception("%s: poisoned outcomes cannot be recorded whole", queue)
            self._close(claims, failure)

    def _close(self, claims: Sequence[RunnableClaim], failure: Failure) -> None:
        """Make the outcomes errored, and write nothing else of them."""
        with self._database.cursor() as cursor:
            cursor.execute(
                CLOSE,
                (
                    failure.error_class, storable(failure.message),
                    *OUTCOMES.arrays(map(self._key, claims)),
                    [claim.fence for claim in claims],
                ),
            )
            ensure_leads(cursor, {claim.assignment.subject.seq for claim in claims})

    def _lease_of(self, queue: str) -> float:
        return self._lease_s + self._time_limits_s.get(queue, 0.0)

    def is_waiting(self, queue: str) -> bool:
        """Whether an outcome of the queue is due and no process holds it."""
        with self._database.cursor() as cursor:
            return self._turns.is_waiting(cursor, queue)

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
                cursor, self._numbers,
                [execution.assignment.subject for _, execution in executions],
            )
            held = self._still_held(cursor, [claim for claim, _ in executions])
            counts.add("stale_fences", {}, len(executions) - len(held))
            kept = [done for claim, done in executions if self._key(claim) in held]
            record(
                cursor, self._numbers, locked, self._with_followers(cursor, kept), (), now=now,
                counts=counts,
            )
            counts.write(cursor)

    def give_back(self, claims: Sequence[RunnableClaim]) -> None:
        with self._database.cursor() as cursor:
            OUTCOMES.release(cursor, {self._key(claim): claim.fence for claim in claims})

    def postpone(self, retries: Sequence[Retry]) -> None:
        if not retries:
            return
        counts = Counts()
        with self._database.cursor() as cursor:
            cursor.execute(
                POSTPONE,
                (
                    *OUTCOMES.arrays(self._key(retry.claim) for retry in retries),
                    [retry.claim.fence for retry in retries],
                    [retry.wait_s for retry in retries],
                    [retry.error_class for retry in retries],
                    [storable(retry.message) for retry in retries],
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

    def hold(self, holds: Sequence[Hold]) -> None:
        if not holds:
            return
        with self._database.cursor() as cursor:
            cursor.execute(
                HOLD,
                (
                    *OUTCOMES.arrays(self._key(hold.claim) for hold in holds),
                    [hold.claim.fence for hold in holds],
                    [hold.wait_s for hold in holds],
                    [held_queue(hold.endpoint) for hold in holds],
                ),
            )

    def hold_for_budget(self, holds: Sequence[BudgetHold]) -> None:
        if not holds:
            return
        subjects = [hold.claim.assignment.subject for hold in holds]
        with self._database.cursor() as cursor:
            lock_rows(cursor, self._numbers, subjects)
            cursor.execute(
                HOLD_FOR_BUDGET,
                (
                    *OUTCOMES.arrays(self._key(hold.claim) for hold in holds),
                    [hold.claim.fence for hold in holds],
                    [budget_queues(hold.budget_no) for hold in holds],
                    [storable(hold.reason) for hold in holds],
                ),
            )
            ensure_leads(cursor, {subject.seq for subject in subjects})

    def put_off(self, later: Sequence[PutOff]) -> None:
        if not later:
            return
        with self._database.cursor() as cursor:
            cursor.execute(
                PUT_OFF,
                (
                    *OUTCOMES.arrays(self._key(one.claim) for one in later),
                    [one.claim.fence for one in later],
                    [one.wait_s for one in later],
                ),
            )

    def supersede(self, claims: Sequence[StaleClaim]) -> None:
        if not claims:
            return
        with self._database.cursor() as cursor:
            cursor.execute(
                SUPERSEDE,
                (
                    [claim.subject_seq for claim in claims],
                    [claim.lead.subject_version for claim in claims],
                ),
            )

    def _key(self, claim: RunnableClaim) -> OutcomeNo:
        subject = claim.assignment.subject
        return subject.seq, claim.lead.subject_version, self._numbers.use_no(claim.lead.use)

    def _still_held(
        self, cursor: Cursor, claims: Sequence[RunnableClaim]
    ) -> set[OutcomeNo]:
        in_order = sorted(claims, key=self._key)
        cursor.execute(
            STILL_HELD,
            (*OUTCOMES.arrays(map(self._key, in_order)), [one.fence for one in in_order]),
        )
        return set(cursor.fetchall())

    def _with_followers(
        self, cursor: Cursor, executions: Sequence[Execution]
    ) -> list[Execution]:
        """The executions, with their followers added to the outcomes that each one answers.

        The caller holds the locks of the scored rows. Whoever adds a follower holds them too,
        so none is missed.
        """
        seqs = sorted({execution.assignment.subject.seq for execution in executions})
        cursor.execute(FOLLOWERS, (seqs,))
        rows = cursor.fetchall()
        if not rows:
            return list(executions)
        self._numbers.load_uses(row[2] for row in rows)
        followers: dict[tuple[RowSeq, Xact, ScorerRef], list[OutcomeRequest]] = {}
        for seq, version, use_no, revision, skip_logging in rows:
            use = self._numbers.use_of(use_no)
            followers.setdefault((seq, version, use.scorer), []).append(
                OutcomeRequest(use=use, rules_revision=revision, skip_logging=skip_logging)
            )

        def joined(assignment: Assignment) -> Assignment:
            subject = assignment.subject
            key = subject.seq, subject.content_xact, assignment.scorer
            return replace(assignment, asked=(*assignment.asked, *followers.get(key, ())))

        return [
            replace(execution, assignment=joined(execution.assignment))
            for execution in executions
        ]


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
