"""Requests to fetch rows and to query them, their pages, and the store that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Protocol

from pydantic import BaseModel, Field, SkipValidation

from btql.query import Query
from btql.tree import Expr
from btql.wire import read_filter
from spans.errors import BadInput
from spans.ids import OrgId, ProjectId, Xact, read_xact
from spans.json import Json, JsonObject
from spans.row import ObjectRef
from spans.validation import read_model

FILTERS_MAX = 50
"""Filters of one fetch request."""

XACT_MAX = 2**63 - 2
"""More than any version."""

XactNumber = Annotated[int, Field(strict=True, ge=0)]
XactText = Annotated[str, Field(pattern="^([0-9]{1,19}|[0-9a-fA-F]{16})$")]


class PathLookup(BaseModel):
    """A filter: selects rows whose field at `path` has this value."""

    type: Literal["path_lookup"]
    path: list[SkipValidation[Json]] = Field(min_length=1)   # btql checks both
    value: SkipValidation[Json] = None


class FetchBody(BaseModel):
    """The body of a request to fetch rows."""

    limit: int | None = Field(
        None, strict=True, ge=0, description="must be a number, 0 or more"
    )
    cursor: str | None = Field(None, description="must be the cursor of the page before")
    version: Literal[""] | None = Field(
        None, description="must be empty: project logs keep only the latest version of a row"
    )
    filters: list[PathLookup] | None = Field(
        None, max_length=FILTERS_MAX,
        description=f"must be a list of at most {FILTERS_MAX} "
        '{"type": "path_lookup", "path": [field names], "value": ...}',
    )
    max_xact_id: XactNumber | XactText | None = Field(
        None, description="must be an _xact_id, a number or a string of digits"
    )
    max_root_span_id: str | None = Field(
        None, description="must be the root_span_id that belongs to max_xact_id"
    )


class TracePlace(NamedTuple):
    """A place in the order of traces: that of a row with this version and trace. Later places
    are lower."""

    xact: Xact
    root_span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """A request for a page of the rows that pass `filter`.

    With `cursor` it is the page of rows that come after it, in the order of arrival, newest
    first. Otherwise it is a page of traces, those with the newest versions first, that come
    after `after`; None stands for the first page. If `limit` is None, the page is as large as
    the operator allows.
    """

    limit: int | None
    cursor: str | None
    after: TracePlace | None
    filter: Expr

    @classmethod
    def read(cls, body: JsonObject) -> FetchRequest:
        """The request in a body. Raises BadInput, which names the wrong field."""
        fields = read_model(FetchBody, body)
        after = _place(fields.max_xact_id, fields.max_root_span_id)
        if fields.cursor and after:
            raise BadInput("cannot go with `cursor`: send one of them", path="max_xact_id")
        conditions = [_has_value(lookup) for lookup in fields.filters or ()]
        return cls(
            limit=fields.limit, cursor=fields.cursor or None, after=after,
            filter=read_filter({"op": "and", "children": conditions} if conditions else None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows in the API's form, and the cursor of the next page (None after the last one)."""

    rows: list[JsonObject]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPage:
    """Rows in the query's order, and the cursor of the next page (None after the last one).

    `schema` is the JSON schema of `rows`, an array of objects.
    """

    rows: list[JsonObject]
    cursor: str | None
    schema: JsonObject


class QueryReader(Protocol):
    """Where queries are run."""

    def query(
        self, query: Query, org_id: OrgId, projects: tuple[ProjectId, ...], *,
        limit_max: int, tz_offset: int,
    ) -> QueryPage:
        """One page of the rows of these projects that the query selects.

        `tz_offset` counts the minutes that the query's local time is behind UTC.
        """
        ...


class RowReader(QueryReader, Protocol):
    """Where rows are read from."""

    def page(
        self, where: ObjectRef, org_id: OrgId, asked: FetchRequest, *, limit: int
    ) -> Page:
        """With `asked.cursor`: at most `limit` rows, newest first by arrival.

        Otherwise the whole of at most `limit` traces. The place of a trace is that of its row
        with the lowest (version, root_span_id), and traces come from the highest place on. A
        reader asks for what comes after the lowest place of the page before. While it reads on,
        rows get new versions, and traces higher places. A trace whose rows all have versions at
        or above the reader's place by now is found by their first versions, which never
        change, and shown with them: so none is missed, and some come twice. The page's cursor
        goes on with the rows that are not on it.

        Traces with very many rows make a page of fewer traces, but at least of one. Raises
        BadInput for a cursor that no page gave.
        """
        ...

    def rejected(
        self, org_id: OrgId, project_id: ProjectId | None, limit: int
    ) -> list[JsonObject]:
        """The latest rejected rows of the project, or of the organisation, newest first."""
        ...


def _has_value(lookup: PathLookup) -> Json:
    return {
        "op": "is",
        "left": {"op": "ident", "name": lookup.path},
        "right": {"op": "literal", "value": lookup.value},
    }


def _place(xact: int | str | None, root_span_id: str | None) -> TracePlace | None:
    """The place that a client names. Without a trace, it is before all rows of the version."""
    if xact is None:
        return None
    named = read_xact(xact) if isinstance(xact, str) else xact
    if named is None and not str(xact).isdigit():
        raise BadInput("must be an _xact_id", path="max_xact_id")
    version = min(XACT_MAX if named is None else named, XACT_MAX)
    if root_span_id is None:
        return TracePlace(Xact(version + 1), "")
    return TracePlace(Xact(version), root_span_id)
