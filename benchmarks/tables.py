"""All statements of the benchmarks over Tallyard's tables, but those of `history` and `naive`.

They read what is committed, as anybody could, and take no part in what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg

WAITING_ROWS: LiteralString = """
    select coalesce(sum(cardinality(row_ids)), 0) from outbox
     where project_id = %s and matched_at is null
"""
"""Rows of a project that are stored and not yet matched."""

COMPLETED: LiteralString = """
    select count(*) from outcome where project_id = %s and state = 'completed'
"""
PENDING: LiteralString = """
    select count(*) from outcome where project_id = %s and state = 'pending'
"""
SCORED_AFTER: LiteralString = """
    select id, xact from span
     where project_id = %s and xact > %s and computed_scores is not null
"""
"""Rows with a score, of versions above one."""

LAST_VERSION: LiteralString = "select last_value from xact_seq"

ROW_COUNT: LiteralString = "select count(*) from span where project_id = %s"

BY_KEYS: LiteralString = """
    select span.* from unnest(%(ids)s::text[]) as wanted(id) cross join lateral (
      select * from span
       where project_id = %(project)s and object_type = 'project_logs'
         and object_id = %(project)s and span.id = wanted.id limit 1) span
"""
"""Rows by their keys: what an answer with these rows costs at the least. Without the limit, the
planner may join the whole project with the keys."""

IN_VERSIONS: LiteralString = """
    select count(*) from span
     where project_id = %s and xact > %s and xact <= %s and metadata ->> 'user' = %s
"""
IN_TIME: LiteralString = """
    select count(*) from span
     where project_id = %s and created > %s and created <= %s and metadata ->> 'user' = %s
"""
EXPLAINED: LiteralString = """
    select span.*, outcome.*, outbox.* from span
      left join outcome on outcome.project_id = span.project_id
       and outcome.object_id = span.object_id and outcome.subject_id = span.id
      left join outbox on outbox.project_id = span.project_id
       and outbox.xact = span.trigger_xact and outbox.row_ids @> array[span.id]
     where span.project_id = %s and span.object_type = 'project_logs' and span.object_id = %s
       and span.id = %s
"""
"""A row with its outcomes and its match record."""

NEWEST: LiteralString = """
    select min(xact), max(xact), min(created), max(created) from (
      select xact, created from span where project_id = %s and xact > 0
       order by xact desc limit %s) newest
"""
EDGES: LiteralString = """
    select (select seq from span where project_id = %(project)s and object_id = %(project)s
               and seq > 0 order by seq limit 1),
           (select seq from span where project_id = %(project)s and object_id = %(project)s
               and seq > 0 order by seq desc limit 1)
"""
LOGGED_AT: LiteralString = """
    select seq, id, root_span_id, xact from span
     where project_id = %(project)s and object_id = %(project)s and seq <= %(seq)s and is_root
     order by seq desc limit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A logged row, from which on a page starts."""

    seq: int
    id: str
    root_span_id: str
    xact: int

    @property
    def cursor(self) -> str:
        """The cursor of the page of older rows, as the API spells it."""
        return f"s{self.seq}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The bounds of a project's newest rows: above the first, and up to the last."""

    xacts: tuple[int, int]
    created: tuple[datetime, datetime]


def newest(reader: psycopg.Connection, project_id: str, rows: int) -> Newest:
    """The bounds of the newest `rows` rows."""
    first, last, since, until = _one(reader, NEWEST, (project_id, rows))
    return Newest(xacts=(first, last), created=(since, until))


def place(reader: psycopg.Connection, project_id: str, share: float) -> Place:
    """The logged row at `share` of the project's rows: 0 is the oldest, 1 the newest."""
    # Since a connection without settings plans as it likes: a sort would read the project.
    with reader.transaction():
        reader.execute("set local enable_sort = off")
        least, most = _one(reader, EDGES, {"project": project_id})
        seq = least + round((most - least) * share)
        found = _one(reader, LOGGED_AT, {"project": project_id, "seq": seq})
    return Place(seq=found[0], id=found[1], root_span_id=found[2], xact=found[3])


def last_version(reader: psycopg.Connection) -> int:
    """The last version that was given to any row."""
    return int(_one(reader, LAST_VERSION, None)[0])


def row_count(reader: psycopg.Connection, project_id: str) -> int:
    """Rows of the project, score spans among them."""
    return int(_one(reader, ROW_COUNT, (project_id,))[0])


def scored_after(reader: psycopg.Connection, project_id: str, version: int) -> int:
    """How many rows have a score and a version above `version`."""
    return len(reader.execute(SCORED_AFTER, (project_id, version)).fetchall())


def _one(
    reader: psycopg.Connection, statement: LiteralString,
    parameters: tuple[Any, ...] | dict[str, Any] | None,
) -> tuple[Any, ...]:
    found: tuple[Any, ...] | None = reader.execute(statement, parameters).fetchone()
    assert found is not None
    return found
