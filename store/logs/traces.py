"""Reads whole traces for the scorers that take them."""

from __future__ import annotations

from scorers.run.trace import TRACE_BYTES_MAX, TRACE_SPANS_MAX, TraceRef
from spans.columns import API_COLUMNS, EVENT_FIELDS
from spans.errors import TraceTooLarge
from spans.json import JsonObject
from store.postgres.database import Database
from store.postgres.row_views import EXPRESSIONS, one_row

COLUMNS = tuple(name for name, column in API_COLUMNS.items() if column.is_in_trace)
"""The columns of each span that a scorer of traces gets."""

LARGE = tuple(name for name in EVENT_FIELDS if name in COLUMNS)
"""The columns that count for the size of the trace."""

_SELECTED = ", ".join(EXPRESSIONS[name] for name in COLUMNS)
_LARGE = ", ".join(f"{EXPRESSIONS[name]} as {name}" for name in LARGE)
_BYTES = " + ".join(f"coalesce(octet_length({name}::text), 0)" for name in LARGE)

_ROWS = f"""
    (select object_no, seq
       from (values (%s::text, %s::integer)) as trace(root, object_no)
      cross join lateral rows_of_trace(object_no, root) as place(seq)) asked
     cross join lateral ({one_row("shown_span")}) row
     where row.deleted_at is null
"""

# The size is read first, so that a trace that is too large is never loaded.
SIZE = f"""
    select count(*), coalesce(sum({_BYTES}), 0)
      from (select {_LARGE} from {_ROWS} limit %s) trace
"""
SPANS = f"select {_SELECTED} from {_ROWS} order by row.created, row.seq"


class Traces:
    """Reads whole traces; `spans_of` is the SpansOf of `scorers.run.trace`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def spans_of(self, trace: TraceRef) -> list[JsonObject]:
        """The spans of the trace, oldest first.

        Raises TraceTooLarge, before it loads a span, if there are more than TRACE_SPANS_MAX
        spans or TRACE_BYTES_MAX bytes.
        """
        named = (trace.root_span_id, self._database.numbers.find_object(trace.where))
        with self._database.cursor() as cursor:
            cursor.execute(SIZE, (*named, TRACE_SPANS_MAX + 1))
            found = cursor.fetchone()
            count, size = found or (0, 0)
            if count > TRACE_SPANS_MAX or size > TRACE_BYTES_MAX:
                raise TraceTooLarge(
                    f"the scorer takes the whole trace, but {trace.root_span_id} has more than "
                    f"{TRACE_SPANS_MAX} spans or {TRACE_BYTES_MAX >> 20} MiB"
                )
            cursor.execute(SPANS, named)
            return [dict(zip(COLUMNS, row, strict=True)) for row in cursor]
