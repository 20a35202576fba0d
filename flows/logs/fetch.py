"""Requests to fetch rows and to query them, their pages, and the store that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, Field, JsonValue, SkipValidation

from btql.query import Query
from btql.tree import Expr
from btql.wire import read_filter
from spans.ids import OrgId, ProjectId
from spans.json import Json, JsonObject
from spans.row import ObjectRef
from spans.validation import read_model

FILTERS_MAX = 50
"""Filters of one fetch request."""


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
    max_xact_id: str | None = Field(
        None, pattern="^[0-9]+$", description="must be an _xact_id, a string of digits"
    )
    max_root_span_id: JsonValue = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """A request for the page of rows after `cursor` that pass `filter`.

    If `limit` is None, the page is as large as the operator allows.
    """

    limit: int | None
    cursor: str | None
    filter: Expr

    @classmethod
    def read(cls, body: JsonObject) -> FetchRequest:
        """The request in a body. Raises BadInput, which names the wrong field."""
        fields = read_model(FetchBody, body)
        conditions = [
            *(_has_value(lookup) for lookup in fields.filters or ()),
            *_older_than(fields.max_xact_id, fields.max_root_span_id),
        ]
        return cls(
            limit=fields.limit, cursor=fields.cursor or None,
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
        """At most `limit` rows, newest first by arrival. Later writes do not reorder them."""
        ...

    def rejected(self, org_id: OrgId, project_id: ProjectId, limit: int) -> list[JsonObject]:
        """The project's latest rejected rows, newest first."""
        ...


def _has_value(lookup: PathLookup) -> Json:
    return {
        "op": "is",
        "left": {"op": "ident", "name": lookup.path},
        "right": {"op": "literal", "value": lookup.value},
    }


def _older_than(xact: str | None, root: Json) -> list[Json]:
    """The condition of older clients' paging: rows before (`max_xact_id`, `max_root_span_id`).
    """
    if xact is None:
        return []
    version: Json = {"op": "ident", "name": ["_xact_id"]}
    limit: Json = {"op": "literal", "value": xact}
    if root is None:
        return [{"op": "le", "left": version, "right": limit}]
    return [{
        "op": "or",
        "children": [
            {"op": "lt", "left": version, "right": limit},
            {
                "op": "and",
                "children": [
                    {"op": "eq", "left": version, "right": limit},
                    {
                        "op": "lt",
                        "left": {"op": "ident", "name": ["root_span_id"]},
                        "right": {"op": "literal", "value": root},
                    },
                ],
            },
        ],
    }]
