"""The columns of a span's row: one table, from which every other list of columns is derived.

A new column is one entry here and one in a migration; `tests/integration/test_store_columns.py`
compares the two. The entry's place is the column's place in the API's order. A column that is
no field of an event also needs its cell in `store/postgres/copy.py`, its line in the views
`logged_span` and `shown_span`, and its value in `store/postgres/row_json.py`. One that scorers
take also needs a field of `scorers.arguments.ScoringFields`. `tests/unit/test_spans_columns.py`
names what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ColumnKind(StrEnum):
    """How the API writes a column's value. A 64-bit number is written as text."""

    JSON = "json"
    TEXT = "text"
    BOOLEAN = "boolean"
    TIME = "time"


class Storage(StrEnum):
    """The PostgreSQL type of a stored column.

    JSON keeps the text, and so the order of keys, that the client sent; JSONB does not.
    """

    TEXT = "text"
    UUID = "uuid"
    BIGINT = "bigint"
    BOOLEAN = "boolean"
    TIMESTAMPTZ = "timestamptz"
    JSON = "json"
    JSONB = "jsonb"


class Part(StrEnum):
    """The part of a row that holds a column: a table of the database."""

    BODY = "span"
    """What was logged."""

    HEAD = "span_head"
    """What scoring changes, and what rows are ordered by."""

    OBJECT = "object"
    """Where the row belongs."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a span's row: of the API, of the stored row, or of both.

    - `name`: its name in the API, in filters and in events. A column that is only
      stored is named as it is there.
    - `kind`: how the API writes its value. None: the API does not show it, and filters do not
      know it.
    - `storage`: its type where it is stored. None: it is not stored. The API makes it of other
      columns, or shows null.
    - `stored_as`: its name there. The default is `name`.
    - `written_to`: the stored column that receives what a client sends under `name`. The
      default is `stored_as`.
    - `part`: the part of the row that holds it.
    """

    name: str
    kind: ColumnKind | None
    storage: Storage | None
    stored_as: str = ""
    written_to: str = ""
    part: Part = Part.BODY
    is_required: bool = False
    """PostgreSQL refuses null in the column."""
    is_written: bool = True
    """Ingest writes the column. The workers fill in the others, or a view computes them."""
    is_event_field: bool = False
    """A field of an event that is stored as JSON, as the client sent it."""
    is_object: bool = False
    """The field holds a JSON object, whose fields are not checked, or null."""
    is_identity: bool = False
    """A row's base sets it. Merges do not change it."""
    is_content: bool = False
    """A change of it is a change of content: the row is matched again."""
    is_scorer_argument: bool = False
    """Scorers may ask for it by name."""
    is_in_trace: bool = False
    """Scorers that take a whole trace get it, for each span of the trace."""
    is_kept_at_end: bool = False
    """A write that does not put the row up for matching may change it, so `row_at_end` keeps
    it as it was when the span ended. Feedback may change `expected`, although it is content."""
    is_always_read: bool = False
    """Rules and scorers need it of every row: who the span is, whether it has ended, who made
    it."""

    def __post_init__(self) -> None:
        if self.storage is not None and not self.stored_as:
            object.__setattr__(self, "stored_as", self.name)
        if self.is_event_field and not self.written_to:
            object.__setattr__(self, "written_to", self.stored_as)


# In the order in which the API shows them. Columns that only the table has stand beside those
# that they belong to.
COLUMNS = (
    Column("id", ColumnKind.TEXT, Storage.TEXT, is_required=True, is_in_trace=True,
           is_always_read=True),
    Column("_xact_id", ColumnKind.TEXT, Storage.BIGINT, stored_as="xact", part=Part.HEAD,
           is_required=True, is_in_trace=True),
    Column("first_xact", None, Storage.BIGINT, part=Part.HEAD, is_required=True),
    Column("content_xact", None, Storage.BIGINT, part=Part.HEAD, is_required=True),
    Column("trigger_xact", None, Storage.BIGINT, part=Part.HEAD),
    Column("_pagination_key", ColumnKind.TEXT, Storage.BIGINT, stored_as="seq",
           is_required=True),
    Column("created", ColumnKind.TIME, Storage.TIMESTAMPTZ, part=Part.HEAD, is_required=True,
           is_identity=True, is_in_trace=True),
    Column("has_base", None, Storage.BOOLEAN, is_required=True),
    Column("deleted_at", None, Storage.TIMESTAMPTZ, part=Part.HEAD),
    Column("org_id", ColumnKind.TEXT, None),
    Column("project_id", ColumnKind.TEXT, Storage.UUID, part=Part.OBJECT, is_required=True),
    Column("object_type", None, Storage.TEXT, part=Part.OBJECT, is_required=True),
    Column("object_id", None, Storage.UUID, part=Part.OBJECT, is_required=True),
    Column("experiment_id", ColumnKind.TEXT, None),
    Column("dataset_id", ColumnKind.TEXT, None),
    Column("log_id", ColumnKind.TEXT, None),
    Column("span_id", ColumnKind.TEXT, Storage.TEXT, is_required=True, is_identity=True,
           is_in_trace=True, is_always_read=True),
    Column("root_span_id", ColumnKind.TEXT, Storage.TEXT, is_required=True, is_identity=True,
           is_in_trace=True, is_always_read=True),
    Column("span_parents", ColumnKind.JSON, Storage.JSONB, is_identity=True, is_in_trace=True),
    Column("is_root", ColumnKind.BOOLEAN, Storage.BOOLEAN, is_required=True, is_in_trace=True,
           is_always_read=True),
    Column("input", ColumnKind.JSON, Storage.JSON, is_event_field=True, is_content=True,
           is_scorer_argument=True, is_in_trace=True),
    Column("output", ColumnKind.JSON, Storage.JSON, is_event_field=True, is_content=True,
           is_scorer_argument=True, is_in_trace=True),
    Column("expected", ColumnKind.JSON, Storage.JSON, is_event_field=True, is_content=True,
           is_scorer_argument=True, is_in_trace=True, is_kept_at_end=True),
    Column("error", ColumnKind.JSON, Storage.JSONB, is_event_field=True, is_content=True,
           is_in_trace=True),
    # The visible scores: a view makes them of the logged and the computed ones.
    Column("scores", ColumnKind.JSON, Storage.JSONB, written_to="logged_scores",
           is_written=False, is_event_field=True, is_in_trace=True, is_kept_at_end=True),
    Column("logged_scores", None, Storage.JSONB),
    Column("computed_scores", None, Storage.JSONB, part=Part.HEAD, is_written=False),
    Column("computed_by", None, Storage.JSONB, part=Part.HEAD, is_written=False),
    Column("metadata", ColumnKind.JSON, Storage.JSONB, is_event_field=True, is_object=True,
           is_scorer_argument=True, is_in_trace=True, is_kept_at_end=True),
    Column("metrics", ColumnKind.JSON, Storage.JSONB, is_event_field=True, is_in_trace=True,
           is_kept_at_end=True, is_always_read=True),
    Column("tags", ColumnKind.JSON, Storage.JSONB, is_event_field=True,
           is_scorer_argument=True, is_in_trace=True, is_kept_at_end=True),
    Column("span_attributes", ColumnKind.JSON, Storage.JSONB, is_event_field=True,
           is_object=True, is_in_trace=True, is_kept_at_end=True, is_always_read=True),
    Column("context", ColumnKind.JSON, Storage.JSONB, is_event_field=True, is_object=True,
           is_kept_at_end=True),
    Column("origin", ColumnKind.JSON, Storage.JSONB, is_event_field=True, is_object=True,
           is_kept_at_end=True),
    Column("facets", ColumnKind.JSON, Storage.JSONB, is_event_field=True, is_object=True,
           is_kept_at_end=True),
    Column("classifications", ColumnKind.JSON, Storage.JSONB, is_event_field=True,
           is_object=True, is_kept_at_end=True),
    # Fields of events that have no column of their own, given back as they came.
    Column("extra", None, Storage.JSONB),
    Column("created_by", None, Storage.TEXT),
    Column("comments", ColumnKind.JSON, None),
    Column("audit_data", ColumnKind.JSON, None),
    Column("_async_scoring_state", ColumnKind.JSON, Storage.JSONB, stored_as="scoring_state",
           is_kept_at_end=True, is_always_read=True),
    # What ingest mended in the row, in sentences. Few rows have any, so it stands in `extra`.
    Column("ingest_warnings", ColumnKind.JSON, None),
)

API_COLUMNS = {column.name: column for column in COLUMNS if column.kind is not None}
"""The columns that the API shows and filters read, by name and in the API's order."""

EVENT_FIELDS = tuple(column.name for column in COLUMNS if column.is_event_field)
"""The fields of an event that are stored as JSON, each in a column of its own."""

SCORER_ARGUMENTS = tuple(column.name for column in COLUMNS if column.is_scorer_argument)
"""The columns that a scorer may ask for by name."""
