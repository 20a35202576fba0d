"""Expressions over the view `shown_span` as text, for statements put together by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import make_url

from store.btql.columns import Sql
from store.postgres.database import Cursor

KEYS = ("object_no", "seq", "xact", "created")
"""The columns of a row that its head has: they are known before its body is read."""

_DIALECT = make_url("postgresql+psycopg://").get_dialect()()
_COLUMN = re.compile(r"\bshown_span\.(\w+)")
_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement's text and its parameters, as psycopg takes them.

    `is_prepared`: its plan may be kept, since it depends on no numbers of rows.
    """

    text: str
    parameters: Mapping[str, Any]
    is_prepared: bool


def execute(cursor: Cursor, statement: Statement) -> Cursor:
    """Run the statement. It is prepared, after some uses, only if its plan may be kept."""
    prepare = None if statement.is_prepared else False
    return cursor.execute(statement.text.encode(), statement.parameters, prepare=prepare)


@dataclass(frozen=True, slots=True)
class SqlText:
    """An expression over `shown_span` as text. It holds no text of a user: that is bound."""

    text: str

    @property
    def body_columns(self) -> list[str]:
        return [name for name in _COLUMN.findall(self.text) if name not in KEYS]

    def over(self, head: str, row: str = "row") -> str:
        """The expression where the row's keys stand in `head`, and all else in `row`."""
        return _COLUMN.sub(
            lambda found: f"{head if found[1] in KEYS else row}.{found[1]}", self.text
        )


class SqlTexts:
    """Turns expressions into text, and gathers their parameters, each under its own name."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def of(self, expression: Sql) -> SqlText:
        compiled = expression.compile(
            dialect=_DIALECT, compile_kwargs={"render_postcompile": True}
        )
        prefix = f"e{len(self.parameters)}_"
        self.parameters |= {prefix + name: value for name, value in compiled.params.items()}
        text = _PARAMETER.sub(lambda found: f"%({prefix}{found[1]})s", str(compiled))
        return SqlText(f"({text})")

    def bind(self, value: object, kind: str) -> str:
        """The text of a parameter with this value and of this type."""
        name = f"b{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s::{kind}"


def row_of(head: str, read: Iterable[SqlText]) -> str:
    """The join that reads, by the key in `head`, what else of the row is read."""
    names = dict.fromkeys(name for one in read for name in one.body_columns)
    if not names:
        return ""
    return (
        f" cross join lateral (select {', '.join(f'shown_span.{name}' for name in names)}"
        f" from shown_span where shown_span.object_no = {head}.object_no"
        f" and shown_span.seq = {head}.seq offset 0) row"
    )
