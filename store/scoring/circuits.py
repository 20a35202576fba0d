"""Keeps which judge endpoints are down, and brings back the outcomes that wait for them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flows.scoring.circuit import Circuit
from scorers.results import storable
from spans.errors import TransientError
from spans.queues import HELD, HELD_BY_BUDGET, HELD_BY_JOB, JUDGE, held_queue
from store.postgres.database import Cursor, Database

BROUGHT_BACK = 2000
"""Outcomes that are brought back at once, which takes 60 ms. A process does so every second,
and starts fewer calls than that in it."""

PROBE_CHOICE = 100
"""Held outcomes of which one is chosen for a probe, which reads as many rows."""

FORGOTTEN_S = 180.0
"""How long the probe of an endpoint that this process does not know must be overdue until its
circuit is closed, seconds: three times the longest wait. Another process may still know it, as
while workers are restarted one by one."""

DELETE_FORGOTTEN = """
    delete from circuit
     where not endpoint = any(%s) and probe_at < now() - make_interval(secs => %s)
"""
COLUMNS = """endpoint, opened_at, probe_at,
    greatest(extract(epoch from probe_at - now()), 0)::float8, probes, error_class, reason"""
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
    select waiting.queue, circuit.endpoint is null, probe_at <= now(), probes,
           opened_at <= now() - make_interval(secs => %(budget)s)
      from waiting
      left join circuit on circuit.endpoint = substr(waiting.queue, {len(HELD) + 1})
     where starts_with(waiting.queue, '{HELD}')
       and not starts_with(waiting.queue, '{HELD_BY_JOB}')
       and not starts_with(waiting.queue, '{HELD_BY_BUDGET}')
"""
_BRING_BACK = """
    update outcome set queue = %(queue)s, next_attempt_at = now() {wait}
      from back
     where outcome.subject_seq = back.subject_seq and outcome.use_no = back.use_no
       and outcome.subject_version = back.subject_version
"""
_AT_ONCE = _BRING_BACK.format(wait="")
# Those that have failed themselves wait as after an error. If they fail for reasons of their
# own, they must not open the circuit again before the others have had their turn.
_IN_TURN = _BRING_BACK.format(wait="""
    + case attempts when 0 then '0'::interval
           else make_interval(secs => least(2 ^ least(attempts, 30), %(wait)s)) end""")
_HELD = "queue = %(held)s and state = 'pending' and is_lead"
BRING_BACK = f"""
    with back as (
      select subject_seq, subject_version, use_no from outcome where {_HELD}
       order by created limit {BROUGHT_BACK} for update skip locked)
    {_IN_TURN}
"""
BRING_BACK_DUE = f"""
    with back as (
      select subject_seq, subject_version, use_no from outcome
       where {_HELD} and created <= now() - make_interval(secs => %(budget)s)
         and next_attempt_at <= now()
       order by created limit {BROUGHT_BACK} for update skip locked)
    {_AT_ONCE}
"""
# A probe by an outcome that fails for a reason of its own would keep the circuit open. So the
# probe is one that was tried least, by turns of the oldest that are held and of the newest.
BRING_BACK_PROBE = f"""
    with oldest as materialized (
      select subject_seq, subject_version, use_no, attempts from outcome
       where {_HELD} and %(probes)s %% 2 = 0 order by created limit {PROBE_CHOICE}),
    newest as materialized (
      select subject_seq, subject_version, use_no, attempts from outcome
       where {_HELD} and %(probes)s %% 2 = 1 order by created desc limit {PROBE_CHOICE}),
    chosen as (
      select * from (select * from oldest union all select * from newest) few
       order by attempts limit 1),
    back as (
      select outcome.subject_seq, outcome.subject_version, outcome.use_no
        from chosen join outcome on outcome.subject_seq = chosen.subject_seq
         and outcome.subject_version = chosen.subject_version
         and outcome.use_no = chosen.use_no
       where queue = %(held)s for update of outcome skip locked)
    {_AT_ONCE}
"""


class Circuits:
    """Implements flows.scoring.circuit.CircuitStore.

    `budget_s` is for how long an outcome is tried: after that it is brought back though its
    circuit is open. `wait_max_s` is the longest wait after an error.
    """

    def __init__(self, database: Database, *, budget_s: float, wait_max_s: float) -> None:
        self._database = database
        self._budget_s = budget_s
        self._wait_max_s = wait_max_s

    def tend(self, endpoints: Collection[str]) -> list[Circuit]:
        with self._database.cursor() as cursor:
            present = open_circuits(cursor)
            known = [one for one in present if one.endpoint in endpoints]
            if len(known) < len(present):
                cursor.execute(DELETE_FORGOTTEN, (list(endpoints), FORGOTTEN_S))
            cursor.execute(HELD_QUEUES, {"budget": self._budget_s})
            for held, is_closed, is_due, probes, is_old in cursor.fetchall():
                if is_closed:
                    self._bring_back(cursor, BRING_BACK, held)
                    continue
                if is_due:
                    self._bring_back(cursor, BRING_BACK_PROBE, held, probes=probes)
                if is_old:
                    self._bring_back(cursor, BRING_BACK_DUE, held)
            return known

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
                    storable(str(error)),
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

    def put_back_probe(self, endpoint: str) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(
                "update circuit set probe_at = now() where endpoint = %s", (endpoint,)
            )

    def close(self, endpoint: str) -> None:
        with self._database.cursor() as cursor:
            cursor.execute("delete from circuit where endpoint = %s", (endpoint,))
            self._bring_back(cursor, BRING_BACK, held_queue(endpoint))

    def _bring_back(
        self, cursor: Cursor, statement: str, held: str, *, probes: int = 0
    ) -> None:
        """Move outcomes of a held queue back to the queue of judges."""
        cursor.execute(
            statement,
            {
                "held": held, "queue": JUDGE, "probes": probes, "wait": self._wait_max_s,
                "budget": self._budget_s,
            },
        )


def open_circuits(cursor: Cursor) -> list[Circuit]:
    """The open circuits, by the names of their endpoints."""
    cursor.execute(f"select {COLUMNS} from circuit order by endpoint")
    return [_circuit(row) for row in cursor.fetchall()]


def _circuit(row: tuple[Any, ...]) -> Circuit:
    endpoint, opened_at, probe_at, probe_in_s, probes, error_class, reason = row
    return Circuit(
        endpoint=endpoint, opened_at=opened_at, probe_at=probe_at, probe_in_s=probe_in_s,
        probes=probes, error_class=error_class, reason=reason,
    )
