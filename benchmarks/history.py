"""A project's history: its scored rows copied by SQL with ids, times and versions of their own.

The copies lie before the rows that they are made of, each some minutes before the next, so that
the newest rows are always those that Tallyard itself wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from benchmarks.tables import row_count

Connect = Callable[[], psycopg.Connection]
"""Opens a connection that commits each statement."""

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
    select object_no, count(*), min(content_xact), max(xact), min(seq), max(seq)
      from span_head join object using (object_no) where project_id = %s group by object_no
"""

# The ids of score spans begin with the place of the row that they score, those of others are
# random: so they are in a copy, since an index grows differently by each kind.
ROW_ID = (
    "case when scored_seq is null then md5(copy || id)::uuid::text else (lpad(to_hex("
    "scored_seq - copy * %(seqs)s), 16, '0') || right(replace(id, '-', ''), 16))::uuid::text"
    " end"
)
SPAN_ID = (
    "case when scored_seq is null then substr(md5(copy || span_id), 1, 16) else lpad(to_hex("
    "(scored_seq - copy * %(seqs)s) & 4294967295), 8, '0') || right(span_id, 8) end"
)
HEX_32 = "md5(copy || {0})"
SEQ = "{0} - copy * %(seqs)s"
VERSION = "{0} - copy * %(xacts)s"
TIME = "{0} - copy * " + GAP

# What differs in a copy, by table and column. All other columns are the same.
DIFFERENCES: Mapping[str, Mapping[str, str]] = {
    "span": {
        "seq": SEQ, "id": ROW_ID, "span_id": SPAN_ID, "root_span_id": HEX_32,
        "scored_seq": SEQ, "scored_xact": VERSION, "scored_version": VERSION,
    },
    "span_head": {
        "seq": SEQ, "xact": VERSION, "first_xact": VERSION, "content_xact": VERSION,
        "trigger_xact": VERSION, "created": TIME,
        "computed_by": "(select jsonb_object_agg(name, jsonb_set(who, '{{version}}',"
        " to_jsonb((who ->> 'version')::bigint - copy * %(xacts)s)))"
        " from jsonb_each(computed_by) as computed(name, who))",
    },
    "span_score": {"seq": SEQ},
    "outcome": {
        "subject_seq": SEQ, "subject_version": VERSION, "created": TIME, "started_at": TIME,
        "finished_at": TIME, "next_attempt_at": TIME,
    },
    "match_record": {
        "xact": VERSION, "created": TIME, "matched_at": TIME,
        "row_seqs": "array(select row_seq - copy * %(seqs)s"
        " from unnest(row_seqs) with ordinality as of_row(row_seq, place) order by place)",
    },
}
# Which column of a table says where a row belongs in the history, and its bounds in the source.
PLACES = {
    "span": ("seq", "first_seq", "last_seq"),
    "span_head": ("seq", "first_seq", "last_seq"),
    "span_score": ("seq", "first_seq", "last_seq"),
    "outcome": ("subject_seq", "first_seq", "last_seq"),
    "match_record": ("xact", "first_xact", "last_xact"),
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

    connect: Connect
    project_id: str
    rows: int
    bounds: Mapping[str, int]
    statements: tuple[str, ...]
    copies: int = 0

    def grow_to(self, rows: int) -> None:
        """Copy until the project has about `rows` rows; then VACUUM and ANALYZE all tables."""
        with self.connect() as reader:
            there = row_count(reader, self.project_id)
        wanted = self.copies + max(0, round((rows - there) / self.rows))
        # The oldest first, as if it had been written in this order.
        first = range(wanted, self.copies, -COPIES_EACH)
        chunks = [(max(self.copies + 1, last - COPIES_EACH + 1), last) for last in first]
        with ThreadPoolExecutor(SESSIONS) as sessions:
            for _ in sessions.map(self._copy, chunks):
                pass
        self.copies = wanted
        with self.connect() as connection:
            connection.execute("vacuum (analyze)")

    def _copy(self, chunk: tuple[int, int]) -> None:
        with self.connect() as connection, connection.transaction():
            given = {**self.bounds, "oldest": chunk[1], "newest": chunk[0]}
            for statement in self.statements:
                connection.execute(statement.encode(), given)


def prepare(connect: Connect) -> None:
    """Make room for a history before the first row. Call it while the tables are empty."""
    with connect() as connection:
        connection.execute(PREPARE.encode())


def history_of(connect: Connect, project_id: str) -> History:
    """The history that is made of all rows that the project has now."""
    with connect() as reader:
        found = reader.execute(SOURCE, (project_id,)).fetchone()
        assert found is not None
        object_no, rows, first, last, first_seq, last_seq = found
        return History(
            connect=connect, project_id=project_id, rows=rows,
            bounds={
                "object_no": object_no, "first_xact": first, "last_xact": last,
                "first_seq": first_seq, "last_seq": last_seq,
                "xacts": last - first + 1, "seqs": last_seq - first_seq + 1,
            },
            statements=tuple(_copy_of(reader, table) for table in DIFFERENCES),
        )


def _copy_of(reader: psycopg.Connection, table: str) -> str:
    """The statement that copies the source's rows of one table."""
    different = DIFFERENCES[table]
    place, first, last = PLACES[table]
    columns = [name for (name,) in reader.execute(COLUMNS, (table,))]
    values = ", ".join(different.get(name, "{0}").format(name) for name in columns)
    return (
        f"insert into {table} ({', '.join(columns)}) select {values} from {table},"
        " generate_series(%(oldest)s::int, %(newest)s::int, -1) as copy"
        f" where object_no = %(object_no)s and {place} between %({first})s and %({last})s"
        f" order by copy desc, {place}"
    )
