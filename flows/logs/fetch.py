"""Reading a project's rows back: newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from btql.query import Query
from btql.tree import Expr
from btql.wire import read_filter
from spans.errors import BadInput
from spans.ids import OrgId, ProjectId
from spans.json import Json, JsonObject
from spans.row import ObjectRef

FILTERS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """A page of rows: those after `cursor` that pass `filter`; no `limit`: as many as fit."""

    limit: int | None
    cursor: str | None
    filter: Expr

    @classmethod
    def read(cls, body: JsonObject) -> FetchRequest:
        """What a client asked for. Raises BadInput, with the field that is wrong."""
        limit = body.get("limit")
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, int) or limit < 0
        ):
            raise BadInput("a number, 0 or more", path="limit")
        cursor = body.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise BadInput("the text that the last page gave", path="cursor")
        if body.get("version") not in (None, ""):   # a set would hash what was sent
            raise BadInput("project logs keep the latest version only", path="version")
        conditions = [*_path_filters(body.get("filters")), *_older_than(body)]
        return cls(
            limit=limit, cursor=cursor or None,
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


def _path_filters(filters: Json) -> list[Json]:
    """`[{type: "path_lookup", path: [...], value}]` as conditions: each path has its value."""
    if filters is None:
        return []
    if not isinstance(filters, list) or len(filters) > FILTERS_MAX:
        raise BadInput(f"a list of at most {FILTERS_MAX}", path="filters")
    conditions: list[Json] = []
    for index, item in enumerate(filters):
        if not isinstance(item, dict) or item.get("type") != "path_lookup":
            raise BadInput(
                '{"type": "path_lookup", "path": [...], "value": ...}', path=f"filters[{index}]"
            )
        path = item.get("path")
        if not isinstance(path, list) or not path:
            raise BadInput("a list of field names", path=f"filters[{index}].path")
        conditions.append({
            "op": "is",
            "left": {"op": "ident", "name": path},
            "right": {"op": "literal", "value": item.get("value")},
        })
    return conditions


def _older_than(body: JsonObject) -> list[Json]:
    """The older way to page: rows before (`max_xact_id`, `max_root_span_id`)."""
    xact, root = body.get("max_xact_id"), body.get("max_root_span_id")
    if xact is None:
        return []
    if not isinstance(xact, str) or not (xact.isascii() and xact.isdigit()):
        raise BadInput("an _xact_id, as a text of digits", path="max_xact_id")
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
