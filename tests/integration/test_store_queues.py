"""The depth of each queue, and what waits to be tried again, read from PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spans.errors import JudgeUnavailable
from spans.queues import QUEUES, Holds, Queue, Worker
from store.postgres.database import Database
from store.scoring.circuits import Circuits
from store.scoring.queues import COUNTED_MAX, read_queue_depths, read_waiting

pytestmark = pytest.mark.every_postgres

EXAMPLE = Queue(
    name="example", task="tallyard.example", worker=Worker(name="example"), holds=Holds.OUTCOMES
)


@pytest.fixture
def database(fresh_database_url: str) -> Iterator[Database]:
    opened = Database(fresh_database_url)
    yield opened
    opened.close()


def depths(database: Database) -> dict[str, int]:
    return {one.queue: one.depth for one in read_queue_depths(database, (*QUEUES, EXAMPLE))}


def test_a_queue_in_which_nothing_waits_is_empty(database: Database) -> None:
    found = read_queue_depths(database)
    assert {(one.depth, one.oldest_s) for one in found} == {(0, 0.0)}
    assert [one.queue for one in found] == ["match", "heavy", "judge", "sandbox"]


def test_rows_of_the_outbox_and_leading_outcomes_are_counted_by_queue(
    database: Database,
) -> None:
    with database.cursor() as cursor:
        cursor.execute(
            """insert into outbox (object_no, xact, row_seqs, rescored)
               values (1, 1, '{1,2}', false), (2, 2, '{3}', false)"""
        )
        cursor.execute(
            """insert into outcome (subject_seq, subject_version, use_no, object_no, role,
                                    state, queue, is_lead)
               values (1, 1, 1, 1, 'live', 'pending', 'example', true),
                      (2, 1, 1, 1, 'live', 'pending', 'example', true),
                      (1, 1, 2, 1, 'live', 'pending', 'judge', true),
                      (1, 1, 3, 1, 'live', 'pending', 'judge', false),
                      (1, 1, 4, 1, 'live', 'completed', 'heavy', true)"""
        )
    assert depths(database) == {
        "match": 3, "heavy": 0, "judge": 1, "sandbox": 0, "example": 2,
    }


def test_a_deep_queue_is_counted_up_to_a_limit_and_tells_the_age_of_its_oldest(
    database: Database,
) -> None:
    with database.cursor() as cursor:
        cursor.execute(
            """insert into outcome (subject_seq, subject_version, use_no, object_no, role,
                                    state, queue, created)
               select number, 1, 1, 1, 'live', 'pending', 'judge',
                      now() - make_interval(mins => case number when %s then 90 else 1 end)
                 from generate_series(1, %s) number""",
            (COUNTED_MAX, COUNTED_MAX + 50),
        )

    (judge,) = (one for one in read_queue_depths(database) if one.queue == "judge")

    assert judge.depth == COUNTED_MAX
    assert 90 * 60 <= judge.oldest_s < 180 * 60


def test_nothing_waits_to_be_tried_again_in_a_new_store(database: Database) -> None:
    found = read_waiting(database)
    assert (found.retrying, found.down) == ((), ())


def test_what_waits_is_told_with_its_last_error_the_next_try_and_what_a_circuit_holds(
    database: Database,
) -> None:
    circuit = Circuits(database, budget_s=60, wait_max_s=60).open(
        "default", JudgeUnavailable("503: no upstream"), wait_s=60
    )
    with database.cursor() as cursor:
        cursor.execute(
            """insert into outcome (subject_seq, subject_version, use_no, object_no, role,
                                    state, queue, error_class, error_message,
                                    next_attempt_at)
               values (1, 1, 1, 1, 'live', 'pending', 'judge', 'timeout', 'late', '2030-01-02'),
                      (2, 1, 1, 1, 'live', 'pending', 'judge', 'timeout', 'soon', '2030-01-01'),
                      (3, 1, 1, 1, 'live', 'pending', 'judge', null, null, now()),
                      (4, 1, 1, 1, 'live', 'pending', 'sandbox', 'infra_error', 'x', now()),
                      (5, 1, 1, 1, 'live', 'errored', 'judge', 'timeout', 'over', now()),
                      (6, 1, 1, 1, 'live', 'pending', 'held:default', null, null, now()),
                      (7, 1, 1, 1, 'live', 'pending', 'held:default', null, null, now())"""
        )

    found = read_waiting(database)

    told = [(one.queue, one.error_class, one.count, one.reason) for one in found.retrying]
    assert told == [("judge", "timeout", 2, "soon"), ("sandbox", "infra_error", 1, "x")]
    assert found.retrying[0].next_at.year == 2030
    (down,) = found.down
    assert (down.endpoint, down.reason, down.held) == ("default", "503: no upstream", 2)
    assert (down.opened_at, down.probe_at) == (circuit.opened_at, circuit.probe_at)
