"""What upkeep deletes, what it leaves, and how few rows it reads for that."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from store_behaviours.scoring import CHEAP, NOTHING_IS_CHEAP, RESELECT, ended, record
from stored_world import StoredWorld, opened_world

from spans.clock import system_clock
from spans.errors import StoreUnavailable
from spans.json import JsonObject
from spans.row import RowKey, RowWrite
from store.logs.expiry import LogExpiry
from store.postgres.database import Cursor, Database
from store.retention import DAYS_AHEAD, SLOW_EVERY_S, Retention, Upkeep

pytestmark = pytest.mark.every_postgres

KEEP: dict[str, Any] = {
    "match_record_days": 30, "rejected_row_days": 14, "resend_minutes": 60,
    "invocation_days": 1, "judge_cache_days": 7,
}
OF_ROWS = ("span", "span_head", "span_score", "outcome", "former_content", "match_record",
           "row_at_end", "comment", "audit_entry")
LONG_AGO = "2025-01-01T00:00:00Z"


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[StoredWorld]:
    with opened_world(fresh_database_url) as world:
        yield world


def upkeep(world: StoredWorld, **more: Any) -> Upkeep:
    return Upkeep(world.database, Retention(**{**KEEP, **more}), system_clock)


def count(world: StoredWorld, table: str) -> int:
    ((number,),) = world.rows(f"select count(*) from {table}")
    return int(number)


def run(world: StoredWorld, statement: str, *values: object) -> None:
    with world.database.cursor() as cursor:
        cursor.execute(statement.encode(), values)


@pytest.mark.parametrize(("columns", "kept_days"), [
    ("rejected_row (org_id, reason, excerpt, created) values (%(id)s, '', '', %(at)s)", 14),
    ("ingest_request (key_id, name, body_hash, tries, answer, created)"
     " values (%(id)s, '', '', 0, '{}', %(at)s)", 1 / 24),
    ("evaluation (object_no, looked_at, until, from_xact, upto_xact, rows_read, automations)"
     " values (1, now(), %(at)s, 0, 0, 0, 0)", 7),
    ("delivery (id, project_id, is_test, state, time_start, time_end, matches, body, created)"
     " values (gen_random_uuid(), %(id)s, true, 'failed', now(), now(), 1, '', %(at)s)", 30),
    ("scorer_tokens (scorer_id, day, tokens) values (%(id)s, %(at)s, 1)", 2),
    ("judge_answer (request_sha256, answer, created)"
     " values (sha256(%(id)s::text::bytea), '{}', %(at)s)", 7),
    ("match_record_rest (xact, created, matched_at, object_no, rules_revision, attempts,"
     " row_seqs, reasons) values (1, now(), %(at)s, 1, 1, 1, '{1}', '')", 30),
])
def test_what_is_past_its_time_goes_and_no_more(
    world: StoredWorld, columns: str, kept_days: float
) -> None:
    table = columns.split(maxsplit=1)[0]
    for age in (kept_days * 0.4, kept_days * 1.6):
        with world.database.cursor() as cursor:
            cursor.execute(
                f"insert into {columns}".encode(),
                {"id": uuid.uuid4(), "at": datetime.now(UTC) - timedelta(days=age)},
            )
    upkeep(world).drop_expired()
    assert count(world, table) == 1


def test_a_delivery_that_is_still_to_be_sent_stays_however_old(world: StoredWorld) -> None:
    run(world, """insert into delivery (id, project_id, is_test, state, time_start, time_end,
                                        matches, body, created)
                  values (gen_random_uuid(), gen_random_uuid(), false, 'pending', now(), now(),
                          1, '', now() - interval '90 days')""")
    upkeep(world).drop_expired()
    assert count(world, "delivery") == 1


def test_the_attempts_of_a_delivery_go_with_it(world: StoredWorld) -> None:
    run(world, """with old as (
                    insert into delivery (id, project_id, is_test, state, time_start, time_end,
                                          matches, body, created)
                    values (gen_random_uuid(), gen_random_uuid(), false, 'delivered', now(),
                            now(), 1, '', now() - interval '31 days') returning id, project_id)
                  insert into delivery_attempt (delivery_id, attempt_no, project_id, endpoint)
                  select id, 1, project_id, '' from old""")
    upkeep(world).drop_expired()
    assert count(world, "delivery_attempt") == 0



def test_a_deleted_row_keeps_its_key_for_a_day(world: StoredWorld) -> None:
    world.write(ended("a"), ended("b"))
    world.send(RowWrite(key=RowKey(world.where, "a"), fields={}, is_delete=True))
    upkeep(world).drop_expired()
    assert count(world, "span_head") == 2
    run(world, "update span_head set deleted_at = now() - interval '25 hours'"
               " where deleted_at is not null")
    assert upkeep(world).drop_expired() == 1
    assert (count(world, "span_head"), count(world, "span")) == (1, 1)


# --- former content


def test_former_content_goes_once_no_score_span_shows_it(world: StoredWorld) -> None:
    world.rule()
    world.write(ended("seen"), ended("unseen"))
    world.match()
    for row_id in ("seen", "unseen"):
        world.feedback(row_id, {"expected": "another"})
    assert count(world, "former_content") == 2
    world.write(ended("unseen", output="of late"))
    world.match()   # its score span shows the new content now
    run(world, "update former_content set created = now() - interval '2 days'")

    upkeep(world).drop_expired()

    ((kept,),) = world.rows("select seq from former_content")
    assert kept == world.place("seen")
    (span,) = (
        one for one in world.score_spans() if dict_of(one["origin"])["id"] == "seen"
    )
    assert dict_of(span["input"])["expected"] == "kitten"


def test_of_the_contents_that_a_row_had_only_the_one_that_was_scored_is_kept(
    world: StoredWorld
) -> None:
    world.rule()
    world.write(ended("a"))
    for number in range(4):
        world.feedback("a", {"expected": f"before {number}"})
    world.match()
    for number in range(4):
        world.feedback("a", {"expected": f"after {number}"})
    before = world.score_spans()
    assert count(world, "former_content") == 8
    run(world, "update former_content set created = now() - interval '2 days'")

    upkeep(world).drop_expired()

    assert count(world, "former_content") == 1
    assert world.score_spans() == before
    assert dict_of(before[0]["input"])["expected"] == "before 3"


def test_former_content_that_a_running_scorer_may_have_read_stays(world: StoredWorld) -> None:
    world.write(ended("a"))
    world.feedback("a", {"expected": "another"})
    upkeep(world).drop_expired()
    assert count(world, "former_content") == 1


def test_nothing_is_kept_of_the_content_of_a_deleted_row(world: StoredWorld) -> None:
    world.rule()
    world.write(ended("a"))
    world.match()
    world.feedback("a", {"expected": "another"})
    assert count(world, "former_content") == 1
    world.send(RowWrite(key=RowKey(world.where, "a"), fields={}, is_delete=True))
    assert count(world, "former_content") == 0


def dict_of(value: object) -> JsonObject:
    assert isinstance(value, dict)
    return value


# --- deleted projects


def scored(world: StoredWorld, *events: JsonObject) -> None:
    """Rows with all that can hang on a row."""
    world.write(*events)
    world.match(CHEAP)
    for event in events:
        world.feedback(str(event["id"]), {"expected": "another"})
        world.send(RowWrite(
            key=RowKey(world.where, str(event["id"])), fields={}, comment={"text": "well"},
            comment_id=str(uuid.uuid4()), is_feedback=True,
        ))


def test_of_a_deleted_project_nothing_is_left_after_a_day(
    world: StoredWorld, fresh_database_url: str
) -> None:
    other = StoredWorld(fresh_database_url, project="other")
    for each in (world, other):
        each.rule()
        scored(each, ended("a"), ended("b"))
        each.defer("waits")
    for each in (world, other):
        each.write(ended("c"))
        each.write({"id": "c", "_is_merge": True, "tags": ["t"]})
    before = {table: count(world, table) for table in OF_ROWS}
    assert all(before.values()), before
    world.delete_project()

    assert upkeep(world).drop_expired() > 0
    assert {table: count(world, table) * 2 for table in OF_ROWS} == before
    assert count(world, "outbox") == 1
    assert count(world, "project") == 2
    run(world, "update project set deleted_at = deleted_at - interval '1 day'")
    upkeep(world).drop_expired()
    assert (count(world, "project"), count(world, "object")) == (1, 1)
    assert len(other.shown()) == 6
    other.close()


# --- old logs


def test_old_traces_go_with_all_that_is_kept_of_them(world: StoredWorld) -> None:
    world.rule()
    scored(world, ended("old", created=LONG_AGO), ended("old too", created=LONG_AGO))
    scored(world, ended("new"))
    per_row = {table: count(world, table) for table in OF_ROWS}

    assert upkeep(world).drop_expired() == 0, "logs are kept unless a time is set"
    assert upkeep(world, log_days=30).drop_expired() == 4
    assert world.rows("select value from counter where name = 'expired_rows'") == [(4,)]

    left = {table: count(world, table) for table in OF_ROWS if table != "row_at_end"}
    assert left == {table: per_row[table] // 3 or 1 for table in left}
    assert set(world.shown()) == {"new", *(str(one["id"]) for one in world.score_spans())}
    assert world.scores("new") == {"Levenshtein": pytest.approx(4 / 7, abs=0.01)}


def test_a_match_record_stays_while_one_of_its_rows_does(world: StoredWorld) -> None:
    world.rule()
    world.write(ended("old", created=LONG_AGO), ended("new"))
    world.match()
    upkeep(world, log_days=30).drop_expired()
    assert count(world, "match_record") == 1
    run(world, "update span_head set created = %s", LONG_AGO)
    upkeep(world, log_days=30).drop_expired()
    assert count(world, "match_record") == 0


def test_scoring_an_old_trace_again_does_not_keep_it(world: StoredWorld) -> None:
    world.write(ended("old", created=LONG_AGO))
    world.rule()
    world.write({"id": "old", **RESELECT})
    world.match()
    assert len(world.shown()) == 2
    upkeep(world, log_days=30).drop_expired()
    assert world.shown() == {}


def test_a_row_that_expires_while_it_is_scored_leaves_nothing(world: StoredWorld) -> None:
    world.rule()
    world.write(ended("old", created=LONG_AGO))
    world.match(NOTHING_IS_CHEAP)
    claims = world.claim()
    upkeep(world, log_days=30).drop_expired()
    record(world.worker, *claims)
    assert [count(world, table) for table in ("span", "span_head", "outcome")] == [0, 0, 0]


class Meanwhile(Database):
    """A database in which somebody does something after the first transaction."""

    def __init__(self, url: str, then: Callable[[], object]) -> None:
        super().__init__(url)
        self.then: Callable[[], object] | None = then

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        with super().cursor() as cursor:
            yield cursor
            is_of_interest = self.then is not None and "root" in str(cursor.description)
        if is_of_interest and (then := self.then):
            self.then = None
            then()


def test_a_trace_that_gets_a_row_just_before_it_would_be_deleted_stays(
    world: StoredWorld
) -> None:
    world.write(
        ended("old", created=LONG_AGO, root_span_id="t"),
        ended("other", created=LONG_AGO, root_span_id="u"),
    )
    database = Meanwhile(world.url, lambda: world.write(ended("new", root_span_id="t")))

    gone = LogExpiry(database).expire(
        world.where, datetime.now(UTC) - timedelta(days=30), is_dry_run=False
    )
    database.close()

    assert (gone.traces, gone.rows) == (1, 1)
    assert set(world.shown()) == {"old", "new"}


def test_a_trace_that_expires_while_a_score_is_written_leaves_no_score_span(
    world: StoredWorld
) -> None:
    world.rule()
    world.write(ended("old", created=LONG_AGO))
    world.match(NOTHING_IS_CHEAP)
    claims = world.claim()
    other = StoredWorld(world.url, project="other")
    with ThreadPoolExecutor(2) as beside, world.database.cursor() as cursor:
        cursor.execute("select from outcome for update")   # the recorder waits for it
        recorded = beside.submit(record, world.worker, *claims)
        other.await_locks(1)
        expired = beside.submit(upkeep(world, log_days=30).drop_expired)
        other.await_locks(2)
        cursor.connection.commit()
        assert (recorded.result(), expired.result()) == (None, 2)
    other.close()

    assert [count(world, table) for table in ("span", "span_head", "outcome")] == [0, 0, 0]


def test_logs_are_looked_through_once_an_hour(world: StoredWorld) -> None:
    now_s = 0.0
    keeper = Upkeep(
        world.database, Retention(**KEEP, log_days=30), system_clock, seconds=lambda: now_s
    )
    assert keeper.drop_expired() == 0
    world.write(ended("old", created=LONG_AGO))
    assert keeper.drop_expired() == 0
    now_s = SLOW_EVERY_S
    assert keeper.drop_expired() == 1


# --- how much it reads


def test_upkeep_reads_hardly_more_rows_than_it_deletes(world: StoredWorld) -> None:
    """Whether a statement follows an index shows in the rows that it reads: 2 000 are there
    that no statement has to look at."""
    world.rule()
    for number in range(4):
        world.write(*(ended(f"{number} {row}") for row in range(500)))
    world.match()
    world.write(*(ended(f"old {row}", created=LONG_AGO) for row in range(20)))
    world.match()
    keeper = upkeep(world, log_days=30)
    before = rows_read(world)

    assert keeper.drop_expired() == 40

    read = {table: number - before[table] for table, number in rows_read(world).items()}
    assert {table: number for table, number in read.items() if number > 1000} == {}


def rows_read(world: StoredWorld) -> dict[str, int]:
    """The rows that statements have fetched so far, by table."""
    with world.database.cursor() as cursor:
        cursor.execute("select pg_stat_force_next_flush()")
    return {
        table: int(number) for table, number in world.rows(
            """select relname, seq_tup_read + coalesce(idx_tup_fetch, 0)
                 from pg_stat_user_tables"""
        )
    }


# --- the days of match records


def partitions(world: StoredWorld) -> set[str]:
    return {name for (name,) in world.rows(
        """select relname from pg_class join pg_inherits on inhrelid = pg_class.oid
            where inhparent = 'match_record'::regclass"""
    )}


def day(ahead: int) -> str:
    return f"match_record_{datetime.now(UTC) + timedelta(days=ahead):%Y%m%d}"


def at(world: StoredWorld, now: datetime, **more: Any) -> Upkeep:
    return Upkeep(world.database, Retention(**{**KEEP, **more}), lambda: now)


def test_match_records_have_a_partition_for_each_day_of_the_next_week(
    world: StoredWorld
) -> None:
    week = {day(ahead) for ahead in range(DAYS_AHEAD + 1)}
    assert week <= partitions(world), "a new database has those of its first week"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for _ in range(2):
        at(world, tomorrow).drop_expired()
    assert week | {day(DAYS_AHEAD + 1)} <= partitions(world)
    world.rule()
    world.defer("a")
    assert count(world, "match_record_rest") == 0
    assert count(world, day(0)) == 1


def test_a_day_of_match_records_is_dropped_whole_when_all_of_it_is_old(
    world: StoredWorld
) -> None:
    world.rule()
    world.defer("a")
    today = datetime.now(UTC)
    at(world, today + timedelta(days=2), match_record_days=2).drop_expired()
    assert count(world, "match_record") == 1
    at(world, today + timedelta(days=3), match_record_days=2).drop_expired()
    assert count(world, "match_record") == 0
    assert day(0) not in partitions(world)
    assert day(1) in partitions(world)


def test_records_outside_of_the_days_keep_no_other_day_from_getting_its_partition(
    world: StoredWorld
) -> None:
    then = datetime.now(UTC) + timedelta(days=100)
    run(
        world,
        """insert into match_record (xact, created, matched_at, object_no, rules_revision,
                                     attempts, row_seqs, reasons)
           values (1, now(), %s, 1, 1, 1, '{}', '')""",
        then,
    )
    assert count(world, "match_record_rest") == 1
    at(world, then, match_record_days=1000).drop_expired()
    assert day(100) not in partitions(world)
    assert {day(101), day(107)} <= partitions(world)


def test_upkeep_does_not_wait_long_for_the_lock_of_match_records(world: StoredWorld) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    with world.database.cursor() as cursor:
        cursor.execute("lock table only match_record in share update exclusive mode")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            at(world, later).drop_expired()
    at(world, later).drop_expired()


def test_the_statements_for_one_project_work_where_nothing_is_stored(
    world: StoredWorld
) -> None:
    gone = LogExpiry(world.database).expire(world.where, datetime.now(UTC), is_dry_run=True)
    assert (gone.traces, gone.rows) == (0, 0)
