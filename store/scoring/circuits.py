"""Keeps which judge endpoints are down, and brings back the outcomes that wait for them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flows.scoring.circuit import Circuit
from spans.errors import TransientError
from spans.queues import HELD, JUDGE, held_queue
from store.postgres.database import Cursor, Database

BROUGHT_BACK = 2000
"""Outcomes that are brought back at once, which takes 60 ms. A process does so every second,
and starts fewer calls than that in it."""

COLUMNS = "endpoint, opened_at, probe_at, probes, error_class, reason"
# The queues in which outcomes wait, with one look into the index for each, and of those the
# ones that hold outcomes back.
HELD_QUEUES = f"""
    with recursive waiting as (
      (select queue from outcome where state = 'pending' and is_lead order by queue limit 1)
      union all
      select next.queue from waiting cross join lateral (
        select queue from outcome
         where state = 'pending' and is_lead and queue > waiting.queue
         order by queue limit 1) next)
    select waiting.queue, circuit.endpoint is null, probe_at <= now(),
           opened_at <= now() - make_interval(secs => %(budget)s)
      from waiting
      left join circuit on circuit.endpoint = substr(waiting.queue, {len(HELD) + 1})
     where starts_with(waiting.queue, '{HELD}')
"""
BRING_BACK = """
    with back as (
      select subject_seq, subject_version, use_no from outcome
       where queue = %(held)s and state = 'pending' and is_lead {condition}
       order by created limit %(limit)s for update skip locked)
    update outcome set queue = %(queue)s, next_attempt_at = now()
      from back
     where outcome.subject_seq = back.subject_seq and outcome.use_no = back.use_no
       and outcome.subject_version = back.subject_version
"""
BRING_BACK_ANY = BRING_BACK.format(condition="")
BRING_BACK_DUE = BRING_BACK.format(condition="and next_attempt_at <= now()")


class Circuits:
    """Implements flows.scoring.circuit.CircuitStore.

    `budget_s` is for how long an outcome is tried: after that it is brought back though its
    circuit is open.
    """

    def __init__(self, database: Database, *, budget_s: float) -> None:
        self._database = database
        self._budget_s = budget_s

    def tend(self, endpoints: Collection[str]) -> list[Circuit]:
        with self._database.cursor() as cursor:
            present = open_circuits(cursor)
            gone = [one.endpoint for one in present if one.endpoint not in endpoints]
            if gone:
                cursor.execute("delete from circuit where endpoint = any(%s)", (gone,))
            cursor.execute(HELD_QUEUES, {"budget": self._budget_s})
            for held, is_closed, is_due, is_old in cursor.fetchall():
                if is_closed:
                    _bring_back(cursor, held, BROUGHT_BACK)
                    continue
                if is_due:
                    _bring_back(cursor, held, 1)
                if is_old:
                    _bring_back(cursor, held, BROUGHT_BACK, statement=BRING_BACK_DUE)
            return [one for one in present if one.endpoint not in gone]

    def open(self, endpoint: str, error: TransientError, *, wait_s: float) -> Circuit:
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""insert into circuit (endpoint, probe_at, error_class, reason)
                    values (%s, now() + make_interval(secs => %s), %s, %s)
                    on conflict (endpoint) do update
                       set error_class = excluded.error_class, reason = excluded.reason,
                           probe_at = greatest(circuit.probe_at, excluded.probe_at)
                    returning {COLUMNS}""",
                (
                    endpoint, wait_s, error.error_class(),
                    str(error).replace("\0", "\ufffd"),
                ),
            )
            (row,) = cursor.fetchall()
        return _circuit(row)

    def begin_probe(self, endpoint: str, *, wait_s: float) -> bool:
        with self._database.cursor() as cursor:
            cursor.execute(
                """update circuit
                      set probe_at = now() + make_interval(secs => %s), probes = probes + 1
                    where endpoint = %s and probe_at <= now()""",
                (wait_s, endpoint),
            )
            return cursor.rowcount > 0

    def close(self, endpoint: str) -> None:
        with self._database.cursor() as cursor:
            cursor.execute("delete from circuit where endpoint = %s", (endpoint,))
            _bring_back(cursor, held_queue(endpoint), BROUGHT_BACK)


def open_circuits(cursor: Cursor) -> list[Circuit]:
    """The open circuits, by the names of their endpoints."""
    cursor.execute(f"select {COLUMNS} from circuit order by endpoint")
    return [_circuit(row) for row in cursor.fetchall()]


def _circuit(row: tuple[Any, ...]) -> Circuit:
    endpoint, opened_at, probe_at, probes, error_class, reason = row
    return Circuit(
        endpoint=endpoint, opened_at=opened_at, probe_at=probe_at, probes=probes,
        error_class=error_class, reason=reason,
    )


def _bring_back(
    cursor: Cursor, held: str, limit: int, *, statement: str = BRING_BACK_ANY
) -> None:
    """Move outcomes of a held queue back to the queue of judges, the oldest first."""
    cursor.execute(statement, {"held": held, "limit": limit, "queue": JUDGE})
