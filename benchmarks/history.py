"""A project's history: its scored rows copied by SQL with ids, times and versions of their own.

The copies lie before the rows that they are made of, each some minutes before the next, so that
the newest rows are always those that Tallyard itself wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from benchmarks.stack import Stack
from benchmarks.tables import row_count

GAP = "interval '1 minute'"
"""Between two copies: a history of 3 million rows covers some hours."""

FIRST_SEQ = 100_000_000
"""Where the rows that Tallyard writes are to begin, so that there is room before them."""

COPIES_EACH = 5
"""Copies in a transaction: some ten thousand rows."""

SESSIONS = 2
"""Connections that copy at the same time: one keeps one core busy."""

PREPARE = f"select setval('span_seq', {FIRST_SEQ})"

SOURCE: LiteralString = """
    select count(*), min(content_xact), max(xact), min(seq), max(seq) from span
     where project_id = %s
"""

TEXT_ID = "md5(copy || {0})::uuid::text"
UUID_ID = "md5(copy || {0}::text)::uuid"
HEX_16 = "substr(md5(copy || {0}), 1, 16)"
HEX_32 = "md5(copy || {0})"
VERSION = "{0} - copy * %(xacts)s"
TIME = "{0} - copy * " + GAP

# What differs in a copy, by table and column. All other columns are the same.
DIFFERENCES: Mapping[str, Mapping[str, str]] = {
    "span": {
        "id": TEXT_ID, "seq": "seq - copy * %(seqs)s", "xact": VERSION,
        "content_xact": VERSION, "trigger_xact": VERSION, "created": TIME,
        "span_id": HEX_16, "root_span_id": HEX_32,
        "span_parents": "case when span_parents is not null then "
        "(select jsonb_agg(substr(md5(copy || parent), 1, 16))"
        " from jsonb_array_elements_text(span_parents) as parent) end",
        "origin": "case when origin is not null then "
        "jsonb_set(origin, '{{id}}', to_jsonb(md5(copy || (origin ->> 'id'))::uuid)) end",
    },
    "outcome": {
        "id": UUID_ID, "subject_id": TEXT_ID, "subject_version": VERSION,
        "score_span_id": UUID_ID, "created": TIME, "started_at": TIME, "finished_at": TIME,
    },
    "outbox": {
        "xact": VERSION, "created": TIME, "matched_at": TIME,
        "row_ids": "array(select md5(copy || row_id)::uuid::text"
        " from unnest(row_ids) with ordinality as of_row(row_id, place) order by place)",
    },
}
# Which rows of a table the source is, and the order in which they are written.
SOURCES = {
    "span": ("content_xact >= %(first)s and xact <= %(last)s", "seq"),
    "outcome": ("subject_version between %(first)s and %(last)s", "subject_version"),
    "outbox": ("xact between %(first)s and %(last)s", "xact"),
}
COLUMNS: LiteralString = """
    select attname::text from pg_attribute
     where attrelid = %s::regclass and attnum > 0 and not attisdropped
       and attgenerated = '' and attidentity = ''
     order by attnum
"""


@dataclass(slots=True)
class History:
    """Copies the first rows of a project as often as it is asked to."""

    stack: Stack
    project_id: str
    rows: int
    bounds: Mapping[str, int]
    statements: tuple[str, ...]
    copies: int = 0

    def grow_to(self, rows: int) -> None:
        """Copy until the project has about `rows` rows; then VACUUM and ANALYZE all tables."""
        with self.stack.connect() as reader:
            there = row_count(reader, self.project_id)
        wanted = self.copies + max(0, round((rows - there) / self.rows))
        # The oldest first, as if it had been written in this order.
        first = range(wanted, self.copies, -COPIES_EACH)
        chunks = [(max(self.copies + 1, last - COPIES_EACH + 1), last) for last in first]
        with ThreadPoolExecutor(SESSIONS) as sessions:
            for _ in sessions.map(self._copy, chunks):
                pass
        self.copies = wanted
        with self.stack.connect() as connection:
            connection.execute("vacuum (analyze)")

    def _copy(self, chunk: tuple[int, int]) -> None:
        with self.stack.connect() as connection, connection.transaction():
            given = {
                **self.bounds, "project": self.project_id, "oldest": chunk[1],
                "newest": chunk[0],
            }
            for statement in self.statements:
                connection.execute(statement.encode(), given)


def prepare(stack: Stack) -> None:
    """Make room for a history before the first row. Call it while the tables are empty."""
    with stack.connect() as connection:
        connection.execute(PREPARE.encode())


def history_of(stack: Stack, project_id: str) -> History:
    """The history that is made of all rows that the project has now."""
    with stack.connect() as reader:
        found = reader.execute(SOURCE, (project_id,)).fetchone()
        assert found is not None
        rows, first, last, first_seq, last_seq = found
        return History(
            stack=stack, project_id=project_id, rows=rows,
            bounds={
                "xacts": last - first + 1, "seqs": last_seq - first_seq + 1,
                "first": first, "last": last,
            },
            statements=tuple(_copy_of(reader, table) for table in DIFFERENCES),
        )


def _copy_of(reader: psycopg.Connection, table: str) -> str:
    """The statement that copies the source's rows of one table."""
    different = DIFFERENCES[table]
    condition, order = SOURCES[table]
    columns = [name for (name,) in reader.execute(COLUMNS, (table,))]
    values = ", ".join(different.get(name, "{0}").format(name) for name in columns)
    return (
        f"insert into {table} ({', '.join(columns)}) select {values} from {table},"
        " generate_series(%(oldest)s::int, %(newest)s::int, -1) as copy"
        f" where project_id = %(project)s and {condition} order by copy desc, {order}"
    )
