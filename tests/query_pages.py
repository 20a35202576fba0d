"""Queries as clients read them, page by page."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from btql.query import parse_query
from spans.json import JsonObject
from store.btql.query import QueryScope, run_query

ORG = uuid.UUID(int=7)
NOW = datetime(2026, 6, 15, tzinfo=UTC)


def pages(
    connection: Connection, object_nos: Sequence[int], clauses: str, limit: int
) -> list[JsonObject]:
    """The rows of all pages of a query, read by its cursors."""
    found: list[JsonObject] = []
    cursor = ""
    while True:
        page = run_query(
            connection,
            parse_query(f"from: project_logs('x') | {clauses} | limit: {limit}{cursor}"),
            scope=QueryScope(org_id=ORG, object_nos=tuple(object_nos)), limit_max=1000, now=NOW,
        )
        found += page.rows
        if not page.rows:
            return found
        cursor = f" | cursor: '{page.cursor}'"
