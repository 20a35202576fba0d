"""Reads lists of objects page by page, newest first."""

from __future__ import annotations

from typing import Any

from flows.access.projects import ListPage
from spans.ids import parse_uuid
from store.postgres.database import Cursor


def read_page(
    cursor: Cursor,
    select: str,
    condition: str,
    parameters: tuple[Any, ...],
    page: ListPage,
    *,
    table: str,
) -> list[tuple[Any, ...]]:
    """The rows of one page, newest first.

    `select` and `condition` are SQL, `parameters` the values of `condition`; `page` adds its
    own conditions. If the id after or before which the page starts does not exist, the page is
    empty, because that ends a client's loop.
    """
    statement = f"{select} where {condition}"
    values: list[Any] = list(parameters)
    if page.ids:
        statement += " and id = any(%s)"
        values.append([known for one in page.ids if (known := parse_uuid(one)) is not None])
    if page.name is not None:
        statement += " and name = %s"
        values.append(page.name)
    order = "desc"
    for mark, sign in ((page.starting_after, "<"), (page.ending_before, ">")):
        if mark is not None:
            if parse_uuid(mark) is None:
                return []
            statement += (
                f" and (created, id) {sign} (select created, id from {table} where id = %s)"
            )
            values.append(mark)
            order = "asc" if sign == ">" else "desc"
    statement += f" order by created {order}, id {order} limit %s"
    cursor.execute(statement.encode(), (*values, page.limit))
    rows = cursor.fetchall()
    return rows[::-1] if order == "asc" else rows
