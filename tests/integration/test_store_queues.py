"""The depth of each queue, read from PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spans.queues import QUEUES, Holds, Queue, Worker
from store.postgres.database import Database
from store.scoring.queues import COUNTED_MAX, read_queue_depths

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
