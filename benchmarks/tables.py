"""All statements of the benchmarks over Tallyard's tables, but those of `history` and `naive`.

They read what is committed, as anybody could, and take no part in what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg

# The number of a project's log.
OBJECT = "(select object_no from object where project_id = %(project)s)"

WAITING_ROWS: LiteralString = """
    select coalesce(sum(cardinality(row_seqs)), 0) from outbox join object using (object_no)
     where project_id = %s
"""
"""Rows of a project that are stored and not yet matched."""

UNREAD_CHANGES: LiteralString = """
    select count(*) from automation_project project
      join span_head head on head.object_no = project.object_no
       and (head.xact, head.seq) > (project.read_xact, project.read_seq)
     where project_id = %s and active > 0
"""
"""Changed rows that the automations of a project have not looked at yet."""

NOTIFICATIONS: LiteralString = """
    select count(*) from delivery where project_id = %s and not is_test
"""
COMPLETED: LiteralString = """
    select count(*) from outcome join object using (object_no)
     where project_id = %s and state = 'completed'
"""
PENDING: LiteralString = """
    select count(*) from outcome join object using (object_no)
     where project_id = %s and state = 'pending'
"""
SCORED_AFTER: LiteralString = """
    select id, xact from span_head join span using (object_no, seq)
     where object_no = (select object_no from object where project_id = %s)
       and xact > %s and computed_by is not null
"""
"""Rows with a score, of versions above one. Score spans have scores that nobody computed."""

LAST_VERSION: LiteralString = "select last_value from xact_seq"

ROW_COUNT = f"select count(*) from span_head where object_no = {OBJECT}"

BY_KEYS = f"""
    select row.* from unnest(%(ids)s::text[]) as wanted(id) cross join lateral (
      select span.*, head.*, outcome.scores, outcome.started_at, outcome.run_ms, scored.span_id,
             scored.input, scored.output, scored.expected
        from span join span_head head using (object_no, seq)
        left join span scored
          on scored.object_no = span.object_no and scored.seq = span.scored_seq
        left join outcome on outcome.subject_seq = span.scored_seq
         and outcome.subject_version = span.scored_version
         and outcome.use_no = span.scored_use
       where span.object_no = {OBJECT} and span.id = wanted.id limit 1) row
"""
"""Rows by their keys, and what score spans refer to: what an answer with these rows costs at
the least. Without the limit, the planner may join the whole project with the keys."""

IN_VERSIONS = f"""
    select count(*) from span_head head join span using (object_no, seq)
     where object_no = {OBJECT} and head.xact > %(first)s and head.xact <= %(last)s
       and metadata ->> 'user' = %(user)s
"""
IN_TIME = f"""
    select count(*) from span_head head join span using (object_no, seq)
     where object_no = {OBJECT} and head.created > %(first)s and head.created <= %(last)s
       and metadata ->> 'user' = %(user)s
"""
EXPLAINED = f"""
    select span.*, head.*, outcome.*, match_record.*
      from span join span_head head using (object_no, seq)
      left join outcome on outcome.subject_seq = span.seq
      left join match_record on match_record.object_no = span.object_no
       and match_record.xact = head.trigger_xact and match_record.row_seqs @> array[span.seq]
     where span.object_no = {OBJECT} and span.id = %(id)s
"""
"""A row with its outcomes and its match record."""

NEWEST = f"""
    select min(xact), max(xact), min(created), max(created) from (
      select xact, created from span_head where object_no = {OBJECT}
       order by xact desc limit %(rows)s) newest
"""
EDGES = f"select min(seq), max(seq) from span_head where object_no = {OBJECT}"
LOGGED_AT = f"""
    select span.seq, span.id, span.root_span_id, head.xact
      from span join span_head head using (object_no, seq)
     where object_no = {OBJECT} and span.seq <= %(seq)s and span.is_root
     order by span.seq desc limit 1
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
    first, last, since, until = _one(reader, NEWEST, {"project": project_id, "rows": rows})
    return Newest(xacts=(first, last), created=(since, until))


def place(reader: psycopg.Connection, project_id: str, share: float) -> Place:
    """The logged row at `share` of the project's rows: 0 is the oldest, 1 the newest."""
    least, most = _one(reader, EDGES, {"project": project_id})
    seq = least + round((most - least) * share)
    found = _one(reader, LOGGED_AT, {"project": project_id, "seq": seq})
    return Place(seq=found[0], id=found[1], root_span_id=found[2], xact=found[3])


def last_version(reader: psycopg.Connection) -> int:
    """The last version that was given to any row."""
    return int(_one(reader, LAST_VERSION, None)[0])


def row_count(reader: psycopg.Connection, project_id: str) -> int:
    """Rows of the project, score spans among them."""
    return int(_one(reader, ROW_COUNT, {"project": project_id})[0])


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
