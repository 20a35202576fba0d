"""Deletes rows that are past their retention time, and rows of deleted projects.

Each transaction deletes at most PIECE rows, so that none holds its locks for long.
"""

from __future__ import annotations

from dataclasses import dataclass

from store.postgres.database import Cursor, Database

OBJECT_TABLES = ("outcome", "outbox", "match_record", "row_at_end", "former_content")
PROJECT_TABLES = ("comment", "audit_entry", "rejected_row")
"""The tables whose rows belong to an object or a project, and are deleted with it."""

TOMBSTONE_DAYS = 1.0
"""How long a deleted row keeps its key, days: a merge that comes late leaves it deleted."""

FORMER_CONTENT_DAYS = 1.0
"""How long the former content of a row is kept though no score span shows it, days: a scorer
may have read it, and run so long."""

TOKEN_DAYS = 2.0
"""How long the tokens that scorers spent are kept, days. A budget is for one day (UTC), so the
day before is not needed any more; the second day is a margin."""

PIECE = 5000
"""The most rows that one transaction deletes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each kind of row is kept: days, but minutes for `resend_minutes`.

    `resend_minutes` is how long an ingest request is remembered, so that a resent one is
    recognised.
    """

    match_record_days: float
    rejected_row_days: float
    resend_minutes: float
    invocation_days: float
    judge_cache_days: float


DROP_MATCH_RECORDS = f"""
    delete from match_record where (tableoid, ctid) in (
      select tableoid, ctid from match_record
       where matched_at < now() - make_interval(secs => %s) limit {PIECE})
"""
DROP_TOMBSTONES = f"""
    with gone as (
      delete from span_head where ctid = any(array(
        select ctid from span_head
         where deleted_at < now() - make_interval(secs => %s) limit {PIECE}))
      returning object_no, seq)
    delete from span using gone where span.seq = gone.seq
"""
DROP_ROWS_OF_DELETED_OBJECTS = f"""
    with gone as (
      delete from span_head where ctid = any(array(
        select span_head.ctid from project
          join object on object.project_id = project.id
          join span_head on span_head.object_no = object.object_no
         where project.deleted_at is not null limit {PIECE}))
      returning seq)
    delete from span using gone where span.seq = gone.seq
"""
DROP_UNSEEN_CONTENT = f"""
    delete from former_content where ctid = any(array(
      select former.ctid from former_content former
       where created < now() - make_interval(secs => %s)
         and not exists (
           select from span where span.scored_seq = former.seq
              and span.scored_version is not null and span.scored_xact < former.until_xact)
       limit {PIECE}))
"""


class Upkeep:
    """Deletes expired rows."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._retention = retention

    def drop_expired(self) -> int:
        """Delete all rows that are past their retention time, and those of deleted projects.

        Returns how many rows it deleted. Safe to repeat.
        """
        keep = self._retention
        dropped = self._repeat(DROP_MATCH_RECORDS, (keep.match_record_days * 86400,))
        dropped += self._repeat(DROP_TOMBSTONES, (TOMBSTONE_DAYS * 86400,))
        dropped += self._repeat(DROP_UNSEEN_CONTENT, (FORMER_CONTENT_DAYS * 86400,))
        dropped += self._drop("rejected_row", "id", "created", keep.rejected_row_days * 86400)
        dropped += self._drop("ingest_request", "ctid", "created", keep.resend_minutes * 60)
        dropped += self._drop("invocation", "id", "created", keep.invocation_days * 86400)
        dropped += self._drop("scorer_tokens", "ctid", "day", TOKEN_DAYS * 86400)
        dropped += self._drop(
            "judge_answer", "request_sha256", "created", keep.judge_cache_days * 86400
        )
        dropped += sum(self._drop_of_deleted_objects(table) for table in OBJECT_TABLES)
        dropped += self._repeat(DROP_ROWS_OF_DELETED_OBJECTS, ())
        dropped += sum(self._drop_of_deleted_projects(table) for table in PROJECT_TABLES)
        dropped += self._drop_unused_bundles()
        self._drop_empty_projects()
        return dropped

    def _drop(self, table: str, key: str, clock: str, age_s: float) -> int:
        return self._repeat(
            f"""delete from {table} where {key} = any(array(
                  select {key} from {table}
                   where {clock} < now() - make_interval(secs => %s) limit {PIECE}))""",
            (age_s,),
        )

    def _drop_of_deleted_objects(self, table: str) -> int:
        return self._repeat(
            f"""delete from {table} where (tableoid, ctid) in (
                  select {table}.tableoid, {table}.ctid from project
                    join object on object.project_id = project.id
                    join {table} on {table}.object_no = object.object_no
                   where project.deleted_at is not null limit {PIECE})""",
            (),
        )

    def _drop_of_deleted_projects(self, table: str) -> int:
        return self._repeat(
            f"""delete from {table} where ctid = any(array(
                  select {table}.ctid from {table}
                    join project on project.id = {table}.project_id
                   where project.deleted_at is not null limit {PIECE}))""",
            (),
        )

    def _drop_unused_bundles(self) -> int:
        """Delete bundles that no function uses a day after they were added."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """delete from bundle where created < now() - interval '1 day'
                      and not exists (
                        select from function_version where bundle_id = bundle.id)"""
            )
            return cursor.rowcount

    def _drop_empty_projects(self) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(
                """delete from project where deleted_at < now() - interval '1 day'
                      and not exists (
                        select from object join span_head using (object_no)
                         where object.project_id = project.id)"""
            )
            cursor.execute(
                """delete from object where not exists (
                     select from project where project.id = object.project_id)"""
            )

    def _repeat(self, statement: str, parameters: tuple[float, ...]) -> int:
        dropped = 0
        while True:
            with self._database.cursor() as cursor:
                _execute(cursor, statement, parameters)
                dropped += cursor.rowcount
                if cursor.rowcount < PIECE:
                    return dropped


def _execute(cursor: Cursor, statement: str, parameters: tuple[float, ...]) -> None:
    cursor.execute(statement.encode(), parameters)
