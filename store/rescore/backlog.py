"""Holds back, releases and closes the pending outcomes of re-score jobs.

Each function locks the rows that the outcomes are about, as everybody does who adds outcomes to
a row. So where one of them was the lead of others, another can be made the lead: a live outcome
does not wait for a job that is paused, and none waits for one that is closed.
"""

from __future__ import annotations

from collections.abc import Mapping

from spans.ids import RowSeq
from spans.outcome import CANCELLED
from spans.queues import HELD_BY_JOB, held_by_job
from spans.scoring import OutcomeState
from store.postgres.database import Cursor
from store.postgres.leases import OUTCOMES, by_key
from store.postgres.row_locks import lock_heads
from store.scoring.record import ensure_leads
from store.scoring.supersede import SUPERSEDED

# The state is a parameter, so that no index of all pending outcomes fits: that of jobs does.
_OF_JOB = "outcome.job_no = %(job_no)s and outcome.state = %(pending)s"
WAITING = f"""
    select object_no, subject_seq from outcome
     where {_OF_JOB} and owner is null and not starts_with(queue, '{HELD_BY_JOB}')
"""
ANY_ELSEWHERE = f"""
    select exists (
      select from outcome where {_OF_JOB} and not starts_with(queue, '{HELD_BY_JOB}'))
"""
HOLD = f"""
    update outcome set queue = %(held)s
      from unnest(%(seqs)s::bigint[]) as chosen(seq)
     where outcome.subject_seq = chosen.seq and outcome.job_no = %(job_no)s
       and {by_key(OUTCOMES.waiting)} and outcome.owner is null
"""
RELEASE = f"""
    update outcome set queue = scorer.queue
      from unnest(%(use_nos)s::integer[], %(queues)s::text[]) as scorer(use_no, queue)
     where {_OF_JOB} and outcome.queue = %(held)s and outcome.use_no = scorer.use_no
"""
PENDING = f"""
    select object_no, subject_seq from outcome where {_OF_JOB} limit %(limit)s
"""
CLOSE = f"""
    update outcome set {SUPERSEDED}, error_class = '{CANCELLED}',
                       error_message = 'the job was cancelled, or failed, before its turn'
      from unnest(%(seqs)s::bigint[]) as chosen(seq)
     where outcome.subject_seq = chosen.seq and outcome.job_no = %(job_no)s
       and {by_key(OUTCOMES.waiting)}
"""


def hold_pending(cursor: Cursor, job_no: int) -> bool:
    """Keep the job's pending outcomes from being claimed. Whether others are not held yet.

    What a worker has claimed goes on, and its result counts; if it comes back to its queue
    instead, another call holds it. The caller has locked the job, so that none is added.
    """
    values = _values(job_no, held=held_by_job(job_no))
    cursor.execute(WAITING, values)
    seqs = _lock_rows(cursor)
    if seqs:
        cursor.execute(HOLD, {**values, "seqs": seqs})
        ensure_leads(cursor, seqs)
    # By one look: one that a worker gives back meanwhile would be missed by two.
    cursor.execute(ANY_ELSEWHERE, values)
    return cursor.fetchone() == (True,)


def release_pending(cursor: Cursor, job_no: int, queues: Mapping[int, str]) -> int:
    """Bring what `hold_pending` held back to its queues; gives how many outcomes that was.

    `queues` has the queue of each use of a scorer, by the number of the use.
    """
    cursor.execute(RELEASE, {
        **_values(job_no, held=held_by_job(job_no)),
        "use_nos": list(queues), "queues": list(queues.values()),
    })
    return cursor.rowcount


def close_pending(cursor: Cursor, job_no: int, limit: int) -> bool:
    """Supersede the job's pending outcomes on about `limit` rows, also those that workers hold,
    whose results are refused from then on. Whether there were any, so that more may be left.
    """
    values = _values(job_no)
    cursor.execute(PENDING, {**values, "limit": limit})
    seqs = _lock_rows(cursor)
    if seqs:
        cursor.execute(CLOSE, {**values, "seqs": seqs})
        ensure_leads(cursor, seqs)
    return bool(seqs)


def _values(job_no: int, **more: object) -> dict[str, object]:
    return {"job_no": job_no, "pending": OutcomeState.PENDING.value, **more}


def _lock_rows(cursor: Cursor) -> list[RowSeq]:
    """Lock the rows that the cursor gives, and return their places in order."""
    rows = {(object_no, seq) for object_no, seq in cursor.fetchall()}
    lock_heads(cursor, rows)
    return sorted({seq for _, seq in rows})
