"""Rows as rules and scorers read them: the columns that they ask for, in the API's form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from spans.columns import API_COLUMNS, Column, Storage
from spans.ids import RowSeq
from spans.json import Json
from spans.repair.faults import INGEST_WARNINGS
from spans.row import LOG_IDS, OBJECT_ID_COLUMNS, ObjectRef, RowKey
from spans.work import Subject
from store.postgres.database import Cursor


def _of_type(values: Mapping[str, str]) -> str:
    """SQL that gives one of `values` by the row's type of object, and else null."""
    cases = " ".join(f"when '{name}' then {value}" for name, value in values.items())
    return f"case row.object_type {cases} end"


# The API's columns that are more than one stored value in its usual form.
_MADE_OF_OTHERS = {
    "_pagination_key": "'p' || lpad(row.seq::text, 20, '0')",
    "org_id": "(select org_id::text from project where project.id = row.project_id)",
    "log_id": _of_type({name: f"'{log_id}'" for name, log_id in LOG_IDS.items()}),
    **{
        column: _of_type({object_type: "row.object_id::text"})
        for object_type, column in OBJECT_ID_COLUMNS.items()
    },
    INGEST_WARNINGS: f"row.extra -> '{INGEST_WARNINGS}'",
}


def _expression(column: Column) -> str:
    """The SQL that gives a stored column as the API shows it."""
    match column.storage:
        case Storage.BIGINT | Storage.UUID:
            return f"row.{column.stored_as}::text"
        case Storage.TIMESTAMPTZ:
            # Written by PostgreSQL itself: milliseconds, UTC, Z.
            utc = f"row.{column.stored_as} at time zone 'UTC'"
            return f"to_char({utc}, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        case _:
            return f"row.{column.stored_as}"


IS_MADE_BY_SCORER_SQL = """(coalesce(row.span_attributes ->> 'purpose' = 'scorer', false)
    or coalesce(row.span_attributes ->> 'type' = 'score', false))"""
"""Whether a scorer made the row, as raw SQL in a statement whose FROM names a view `row`. It
has the same meaning as `spans.row.is_made_by_scorer`."""

EXPRESSIONS: Mapping[str, str] = {
    name: _MADE_OF_OTHERS.get(name) or _expression(column)
    for name, column in API_COLUMNS.items()
    if column.storage is not None or name in _MADE_OF_OTHERS
}
"""The SQL that gives each column of the API as the API shows it, in a statement whose FROM
names the view `logged_span` or `shown_span` as `row`. `comments` and `audit_data`, which are
null in every row, are left out."""



def one_row(view: str) -> str:
    """SQL that reads the row `asked` (its object_no and seq) of a view, in a lateral join.

    `offset 0` keeps it apart from the rest of the statement: the planner can only enter the
    primary keys with both values, whatever it believes of the size of the tables.
    """
    return (
        f"select * from {view}"
        f" where {view}.object_no = asked.object_no and {view}.seq = asked.seq offset 0"
    )


FIND_ROWS = """
    select asked.id, span.seq from unnest(%s::integer[], %s::text[]) as asked(object_no, id)
      join span on span.object_no = asked.object_no and span.id = asked.id
"""

_ALWAYS = tuple(name for name, column in API_COLUMNS.items() if column.is_always_read)


def find_rows(cursor: Cursor, object_no: int, ids: Iterable[str]) -> dict[str, RowSeq]:
    """The places of the rows of one object that have these ids, by id. Locks nothing."""
    wanted = list(ids)
    cursor.execute(FIND_ROWS, ([object_no] * len(wanted), wanted))
    return dict(cursor.fetchall())


def read_subjects(
    cursor: Cursor,
    where: ObjectRef,
    object_no: int,
    row_seqs: Sequence[RowSeq],
    columns: frozenset[str],
    *,
    view: str = "logged_span",
) -> dict[RowSeq, Subject]:
    """The rows of one object that exist and are not deleted. Locks nothing.

    A row that was written again between its end and its matching gets `at_end`, the columns as
    they were when it ended. `view` is `logged_span`, or `shown_span` where score spans are to
    be whole.
    """
    names = [*_ALWAYS, *sorted((columns & EXPRESSIONS.keys()) - set(_ALWAYS))]
    selected = ", ".join(EXPRESSIONS[name] for name in names)
    cursor.execute(
        f"""select row.seq, row.xact, row.content_xact, row.trigger_xact, row.has_base,
                   row_at_end.view, {selected}
              from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
             cross join lateral ({one_row(view)}) row
              left join row_at_end on row_at_end.object_no = row.object_no
               and row_at_end.trigger_xact = row.trigger_xact and row_at_end.seq = row.seq
             where row.deleted_at is null""",
        ([object_no] * len(row_seqs), list(row_seqs)),
    )
    subjects: dict[RowSeq, Subject] = {}
    for seq, xact, content_xact, trigger_xact, has_base, at_end, *values in cursor.fetchall():
        shown = dict(zip(names, values, strict=True))
        metrics: Json = shown["metrics"]
        ended_at = metrics.get("end") if isinstance(metrics, dict) else None
        subjects[seq] = Subject(
            key=RowKey(where, shown["id"]),
            seq=seq,
            span_id=shown["span_id"],
            root_span_id=shown["root_span_id"],
            xact=xact,
            content_xact=content_xact,
            trigger_xact=trigger_xact,
            has_base=has_base,
            ended_at=float(ended_at) if isinstance(ended_at, int | float) else None,
            view=shown,
            at_end=None if at_end is None else {**shown, **at_end},
        )
    return subjects
