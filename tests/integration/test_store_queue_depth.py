"""The depth of each queue, read from PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spans.queues import QUEUES, Holds, Queue, Worker
from store.postgres.database import Database
from store.scoring.queue_depth import read_queue_depths

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
            """insert into outbox (project_id, object_type, object_id, xact, row_ids, rescored)
               values (gen_random_uuid(), 'project_logs', gen_random_uuid(), 1, '{a,b}', false),
                      (gen_random_uuid(), 'project_logs', gen_random_uuid(), 2, '{c}', false)"""
        )
        cursor.execute(
            """insert into outcome (id, project_id, object_type, object_id, subject_kind,
                                    subject_id, subject_version, origin_kind, origin_id, role,
                                    scorer_kind, scorer, scorer_version, state, queue, is_lead,
                                    score_span_id)
               select gen_random_uuid(), gen_random_uuid(), 'project_logs', gen_random_uuid(),
                      'span', 'a', 1, 'rule', gen_random_uuid(), 'live', 'global',
                      'Levenshtein', '1', state, queue, is_lead, gen_random_uuid()
                 from (values ('pending', 'example', true), ('pending', 'example', true),
                              ('pending', 'judge', true), ('pending', 'judge', false),
                              ('completed', 'heavy', true)) as given(state, queue, is_lead)"""
        )
    assert depths(database) == {
        "match": 3, "heavy": 0, "judge": 1, "sandbox": 0, "example": 2,
    }
