"""Reading a project's rows back: newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, Field, JsonValue

from btql.query import Query
from btql.tree import Expr
from btql.wire import read_filter
from spans.ids import OrgId, ProjectId
from spans.json import Json, JsonObject
from spans.row import ObjectRef
from spans.validation import read_model

FILTERS_MAX = 50


class PathLookup(BaseModel):
    """A filter: the field at `path` has this value."""

    type: Literal["path_lookup"]
    path: list[JsonValue] = Field(min_length=1)
    value: JsonValue = None


class FetchBody(BaseModel):
    """A request to fetch rows, as clients send it."""

    limit: int | None = Field(None, strict=True, ge=0, description="a number, 0 or more")
    cursor: str | None = Field(None, description="the text that the last page gave")
    version: Literal[""] | None = Field(
        None, description="project logs keep the latest version only"
    )
    filters: list[PathLookup] | None = Field(
        None, max_length=FILTERS_MAX,
        description=f"a list of at most {FILTERS_MAX} "
        '{"type": "path_lookup", "path": [field names], "value": ...}',
    )
    max_xact_id: str | None = Field(
        None, pattern="^[0-9]+$", description="an _xact_id, as a text of digits"
    )
    max_root_span_id: JsonValue = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """A page of rows: those after `cursor` that pass `filter`; no `limit`: as many as fit."""

    limit: int | None
    cursor: str | None
    filter: Expr

    @classmethod
    def read(cls, body: JsonObject) -> FetchRequest:
        """What a client asked for. Raises BadInput, with the field that is wrong."""
        asked = read_model(FetchBody, body)
        conditions = [
            *(_has_value(lookup) for lookup in asked.filters or ()),
            *_older_than(asked.max_xact_id, asked.max_root_span_id),
        ]
        return cls(
            limit=asked.limit, cursor=asked.cursor or None,
            filter=read_filter({"op": "and", "children": conditions} if conditions else None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows in the API's form, and where the next page goes on (None: there is none)."""

    rows: list[JsonObject]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPage:
    """Rows in the query's order. `cursor` is None once there are no more.

    `schema` is a JSON schema of the whole answer: an array of objects.
    """

    rows: list[JsonObject]
    cursor: str | None
    schema: JsonObject


class QueryReader(Protocol):
    """Where queries are answered."""

    def query(
        self, query: Query, org_id: OrgId, projects: tuple[ProjectId, ...], *,
        limit_max: int, tz_offset: int,
    ) -> QueryPage:
        """One page of what the query selects of these projects' rows.

        `tz_offset` is what the query's local times are ahead of UTC, in minutes.
        """
        ...


class RowReader(QueryReader, Protocol):
    """Where rows are read."""

    def page(
        self, where: ObjectRef, org_id: OrgId, asked: FetchRequest, *, limit: int
    ) -> Page:
        """At most `limit` rows. The order is that in which the rows arrived, and is fixed."""
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
    """The older way to page: rows before (`max_xact_id`, `max_root_span_id`)."""
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
