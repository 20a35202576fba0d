"""Statements as PostgreSQL runs them: the plan of each, and how many rows it looks at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import event

from store.postgres.database import Database

_PARAMETER = re.compile(r"%(%|s|\((\w+)\)s)")
_STATEMENTS = ("select", "with", "insert", "update", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one part of a plan looked at. `rows` counts also those that it left out."""

    statement: str
    node: str
    relation: str | None
    index: str | None
    rows: float

    def __str__(self) -> str:
        where = f" of {self.index or self.relation}" if self.relation else ""
        return f"{self.rows:.0f} rows in {self.node}{where}: {' '.join(self.statement.split())}"


@dataclass
class Plans:
    """Explains each statement of a database's connections just before it is executed.

    The plan is generic, and kept by the connection: later, the same statement is run with the
    plan that was made for its first execution, unless statistics were gathered since.
    """

    looks: list[Look] = field(default_factory=list)
    statements: set[str] = field(default_factory=set)
    _names: dict[int, dict[str, str]] = field(default_factory=dict)

    def watch(self, database: Database) -> None:
        """From now on the statements of new connections are explained."""

        def use(connection: psycopg.Connection[Any], _record: object) -> None:
            connection.cursor_factory = partial(_ExplainedCursor, plans=self)

        event.listen(database.engine, "connect", use)

    def explain(
        self, connection: psycopg.Connection[Any], text: str, parameters: Any
    ) -> None:
        if not text.lstrip().lower().startswith(_STATEMENTS):
            return
        numbered, values = _numbered(text, parameters)
        cursor: psycopg.Cursor[Any] = psycopg.Cursor(connection)
        names = self._names.setdefault(id(connection), {})
        cursor.execute("savepoint explained")
        try:
            if text not in names:
                names[text] = f"explained_{len(names)}"
                cursor.execute(f"prepare {names[text]} as {numbered}".encode())
            given = sql.SQL(", ").join(map(sql.Literal, values)).as_string(connection)
            cursor.execute(
                f"explain (analyze, costs off, timing off, summary off, format json)"
                f" execute {names[text]}{f'({given})' if values else ''}".encode()
            )
            ((plan,),) = cursor.fetchall()
        except psycopg.errors.UniqueViolation:
            return   # so the statement will fail itself
        finally:
            cursor.execute("rollback to savepoint explained")
        self.statements.add(text)
        self.looks += _looks(text, plan[0]["Plan"])


class _ExplainedCursor(psycopg.Cursor[Any]):
    def __init__(
        self, connection: psycopg.Connection[Any], *, plans: Plans, **options: Any
    ) -> None:
        super().__init__(connection, **options)
        self._plans = plans

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else str(query)
        self._plans.explain(self.connection, text, params)
        return super().execute(query, params, **options)


def _numbered(text: str, parameters: Any) -> tuple[str, list[Any]]:
    """The statement with $1, $2, ... in place of psycopg's marks, and their values."""
    values: list[Any] = []
    places: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        if found[1] == "%":
            return "%"
        name = found[2]
        if name is None:
            values.append(parameters[len(values)])
            return f"${len(values)}"
        if name not in places:
            values.append(parameters[name])
            places[name] = len(values)
        return f"${places[name]}"

    if parameters is None:
        return text, []
    return _PARAMETER.sub(number, text), values


def _looks(statement: str, plan: Mapping[str, Any]) -> Iterator[Look]:
    removed = sum(
        plan.get(f"Rows Removed by {what}", 0)
        for what in ("Filter", "Join Filter", "Index Recheck")
    )
    yield Look(
        statement=statement, node=plan["Node Type"], relation=plan.get("Relation Name"),
        index=plan.get("Index Name"),
        rows=(plan["Actual Rows"] + removed) * plan["Actual Loops"],
    )
    for child in plan.get("Plans", ()):
        yield from _looks(statement, child)
