"""Claims on PostgreSQL while very much waits: who is served, and how much a claim reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pytest

from spans.queues import JUDGE
from spans.work import Priority
from store.postgres.database import Cursor, Database
from store.scoring import entry_turns
from store.scoring.entry_turns import EntryTurns
from store.scoring.outcome_turns import CLAIM, CLAIM_SUSPECTS, LOOK, OutcomeTurns

pytestmark = pytest.mark.every_postgres

LIMIT = 16
BATCH_ROWS = 500
ANALYZE = "explain (analyze, buffers, format json) "
MUCH = 30_000
"""Enough that a scan of all that waits reads hundreds of blocks."""


@pytest.fixture
def database(fresh_database_url: str) -> Iterator[Database]:
    opened = Database(fresh_database_url)
    yield opened
    opened.close()


def wait_for_runs(
    cursor: Cursor, backlogs: Mapping[int, int], *, priority: Priority = Priority.LIVE,
    in_s: int = 0,
) -> None:
    """Adds as many waiting outcomes to each object, due `in_s` seconds from now."""
    for object_no, count in backlogs.items():
        cursor.execute(
            """insert into outcome (subject_seq, subject_version, use_no, object_no, role,
                                    state, queue, priority, next_attempt_at)
               select nextval('span_seq'), 1, 1, %s, 'live', 'pending', %s, %s,
                      now() + make_interval(secs => %s)
                 from generate_series(1, %s)""",
            (object_no, JUDGE, priority, in_s, count),
        )


def claim(database: Database, turns: OutcomeTurns, limit: int = LIMIT) -> list[int]:
    """The objects of the claimed outcomes."""
    with database.cursor() as cursor:
        return [row[0] for row in claim_in(cursor, turns, limit)]


def claim_in(cursor: Cursor, turns: OutcomeTurns, limit: int = LIMIT) -> list[tuple]:
    return turns.claim(cursor, JUDGE, limit, owner="me", lease_s=60.0)


def jain(amounts: Iterable[int]) -> float:
    """Jain's index of fairness: 1 if all got alike much, 1/n if one got all."""
    each = list(amounts)
    return sum(each) ** 2 / (len(each) * sum(one * one for one in each))


def test_every_object_that_waits_gets_its_share_of_every_few_claims(
    database: Database,
) -> None:
    backlogs = {1: 5_000, 2: 200, 3: 1_000, 4: 200, 5: 200, 6: 300, 7: 200, 8: 200, 9: 200,
                10: 200, 11: 200}
    with database.cursor() as cursor:
        wait_for_runs(cursor, backlogs)
    turns = OutcomeTurns()

    for _ in range(8):
        got = Counter(one for _ in range(11) for one in claim(database, turns))
        assert got.keys() == backlogs.keys()
        assert jain(got.values()) >= 0.95


def test_a_hundred_objects_with_one_outcome_each_wait_for_no_long_line(
    database: Database,
) -> None:
    with database.cursor() as cursor:
        wait_for_runs(cursor, {50: MUCH, **{100 + number: 1 for number in range(100)}})
    turns = OutcomeTurns()

    got = Counter(one for _ in range(8) for one in claim(database, turns))

    assert sum(got.values()) == 8 * LIMIT
    assert [got[100 + number] for number in range(100)] == [1] * 100


def test_objects_that_keep_getting_a_little_do_not_starve_those_behind_them(
    database: Database,
) -> None:
    turns = OutcomeTurns()
    with database.cursor() as cursor:
        wait_for_runs(cursor, {1_000: 10})
    got: Counter[int] = Counter()
    for _ in range(40):
        with database.cursor() as cursor:
            wait_for_runs(cursor, dict.fromkeys(range(1, 11), 1))
        got.update(claim(database, turns, limit=4))

    assert got[1_000] == 10


def test_a_live_outcome_is_claimed_at_once_however_much_bulk_waits(database: Database) -> None:
    with database.cursor() as cursor:
        wait_for_runs(cursor, {1: MUCH}, priority=Priority.BULK)
    turns = OutcomeTurns()
    assert claim(database, turns) == [1] * LIMIT
    with database.cursor() as cursor:
        wait_for_runs(cursor, {2: 1})

    assert Counter(claim(database, turns)) == {2: 1, 1: LIMIT - 1}


def test_claimers_at_the_same_time_neither_wait_for_each_other_nor_share_a_claim(
    database: Database,
) -> None:
    with database.cursor() as cursor:
        wait_for_runs(cursor, {1: 40, 2: 40})

    with database.cursor() as one, database.cursor() as other:
        one.execute("set local lock_timeout = '5s'")
        other.execute("set local lock_timeout = '5s'")
        first, second = claim_in(one, OutcomeTurns()), claim_in(other, OutcomeTurns())

    assert len({row[1] for row in (*first, *second)}) == 2 * LIMIT


def test_a_queue_in_which_all_is_postponed_or_held_has_nothing_due(database: Database) -> None:
    turns = OutcomeTurns()
    with database.cursor() as cursor:
        wait_for_runs(cursor, {1: 3})
        assert turns.is_waiting(cursor, JUDGE)
        assert len(claim_in(cursor, turns)) == 3
        wait_for_runs(cursor, {2: 3}, in_s=60)

        assert not turns.is_waiting(cursor, JUDGE)
        assert claim_in(cursor, turns) == []


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_a_claim_reads_no_more_where_much_is_postponed_or_waits_elsewhere(
    database: Database, is_analyzed: bool
) -> None:
    with database.cursor() as cursor:
        wait_for_runs(cursor, {1: 100, 2: 100})
        small = blocks_of_a_claim(cursor)
        wait_for_runs(cursor, {3: MUCH}, in_s=3600)
        wait_for_runs(cursor, {1: MUCH}, priority=Priority.BULK)
        if is_analyzed:
            cursor.execute("analyze outcome")

        assert blocks_of_a_claim(cursor) < 2 * small + 50


def blocks_of_a_claim(cursor: Cursor) -> int:
    """The blocks that the statements of a claim read of tables and indexes."""
    values = {
        "queue": JUDGE, "room": LIMIT, "first": Priority.LIVE, "after_first": 0,
        "second": Priority.BULK, "after_second": 0,
    }
    cursor.execute(LOOK, values)
    lines = cursor.fetchall()
    cursor.execute(ANALYZE + LOOK, values)
    blocks = blocks_read(cursor)
    cursor.execute("savepoint before")
    cursor.execute(ANALYZE + CLAIM, {
        "queue": JUDGE, "owner": "me", "lease": 60.0, "priority": Priority.LIVE,
        "share": LIMIT // 2, "room": LIMIT,
        "objects": [line[2] for line in lines], "since": [line[3] for line in lines],
    })
    blocks += blocks_read(cursor)
    cursor.execute("rollback to before")
    return blocks


def blocks_read(cursor: Cursor) -> int:
    ((report,),) = cursor.fetchall()
    plan = report[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("statement", [LOOK, CLAIM, CLAIM_SUSPECTS])
def test_a_claim_of_outcomes_follows_its_own_indexes_when_nothing_is_known_of_the_table(
    database: Database, statement: str
) -> None:
    with database.cursor() as cursor:
        cursor.execute("explain (format json) " + statement, {
            "queue": JUDGE, "owner": "me", "lease": 60.0, "priority": Priority.LIVE,
            "share": 1, "room": 1, "objects": [1], "since": ["2026-01-01"], "deaths": 1,
            "first": Priority.LIVE, "after_first": 0, "second": Priority.BULK,
            "after_second": 0,
        })
        ((report,),) = cursor.fetchall()

    assert set(indexes(report[0]["Plan"])) <= {
        "outcome_due", "outcome_suspect", "outcome_pkey"
    }
    assert "Seq Scan" not in str(report)


def indexes(plan: dict) -> Iterator[str]:
    if "Index Name" in plan:
        yield plan["Index Name"]
    for part in plan.get("Plans", []):
        yield from indexes(part)


# --- entries


@pytest.fixture
def objects(database: Database) -> list[int]:
    """The numbers of a dozen objects, each of a project of its own."""
    with database.cursor() as cursor:
        cursor.execute(
            """with org as (insert into organization (id, name)
                            values (gen_random_uuid(), 'acme') returning id),
                    made as (insert into project (id, org_id, name)
                             select gen_random_uuid(), org.id, 'p' || number
                               from org, generate_series(1, 12) number returning id)
               insert into object (project_id, object_type, object_id)
               select id, 'project_logs', id from made returning object_no"""
        )
        return sorted(object_no for (object_no,) in cursor)


def log(cursor: Cursor, object_no: int, entries: int, rows: int) -> None:
    cursor.execute(
        """insert into outbox (object_no, xact, row_seqs, rescored)
           select %s, nextval('xact_seq'), array(select generate_series(1, %s)), false
             from generate_series(1, %s)""",
        (object_no, rows, entries),
    )


def match(database: Database, turns: EntryTurns) -> Counter[int]:
    """How many rows of each object were claimed."""
    got: Counter[int] = Counter()
    with database.cursor() as cursor:
        for one in turns.claim(cursor, BATCH_ROWS, owner="me", lease_s=60.0):
            got[one.object_no] += len(one.row_seqs)
    return got


def test_a_project_that_logs_much_delays_another_by_no_more_than_one_claim(
    database: Database, objects: list[int]
) -> None:
    with database.cursor() as cursor:
        log(cursor, objects[0], entries=3_000, rows=100)
        log(cursor, objects[1], entries=1, rows=1)

    got = match(database, EntryTurns())

    assert got == {objects[1]: 1, objects[0]: 500}


def test_projects_get_alike_many_rows_whatever_the_size_of_their_requests(
    database: Database, objects: list[int]
) -> None:
    with database.cursor() as cursor:
        for object_no, rows in zip(objects, [1000, 400, 100, 50, 20, 10, 5] + [4] * 5,
                                   strict=True):
            log(cursor, object_no, entries=-(-8_000 // rows), rows=rows)
    turns = EntryTurns()

    got: Counter[int] = Counter()
    for _ in range(100):
        got += match(database, turns)

    assert got.keys() == set(objects)
    assert jain(got.values()) >= 0.95


def test_a_claim_of_entries_reads_no_more_where_much_waits(
    database: Database, objects: list[int]
) -> None:
    values = {
        "rows": 500, "after": 0, "served": [], "ahead": [], "owner": "me", "lease": 60.0,
    }

    def blocks(cursor: Cursor) -> int:
        cursor.execute("savepoint before")
        cursor.execute(ANALYZE + entry_turns.CLAIM, values)
        read = blocks_read(cursor)
        cursor.execute("rollback to before")
        return read

    with database.cursor() as cursor:
        for object_no in objects[:2]:
            log(cursor, object_no, entries=20, rows=10)
        small = blocks(cursor)
        log(cursor, objects[0], entries=MUCH, rows=10)

        assert blocks(cursor) < 2 * small + 50
