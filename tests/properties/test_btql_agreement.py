"""Memory and SQL give the same answer, for every filter and every row."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import pytest
from btql_strategies import conditions, rows
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, cast, create_engine, select
from sqlalchemy.dialects.postgresql import BOOLEAN
from stored_rows import insert_rows

from btql.closure import compile_filter
from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.tree import Expr
from store.btql.compiler import filter_clause
from store.postgres.row_json import ROW_COLUMNS, api_row
from store.postgres.tables import shown_span

NOW = datetime(2026, 6, 15, 12, 0, 0, 250_500, tzinfo=UTC)
PROJECT = uuid.UUID("0b9e2a3c-0000-4000-8000-000000000001")
ORG = "0b9e2a3c-0000-4000-8000-000000000002"


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url, json_deserializer=orjson.loads)
    yield engine
    engine.dispose()


def in_sql(connection: Connection, filters: list[Expr], tz_offset: int) -> list[tuple]:
    """For each stored row, as it was inserted: what each filter says of it."""
    answers = [
        cast(filter_clause(one, now=NOW, tz_offset=tz_offset, org_id=ORG), BOOLEAN)
        for one in filters
    ]
    found = connection.execute(
        select(*answers).where(shown_span.c.project_id == PROJECT).order_by(shown_span.c.seq)
    )
    return [tuple(row) for row in found]


def in_memory(connection: Connection, filters: list[Expr], tz_offset: int) -> list[tuple]:
    closures = [compile_filter(one, now=lambda: NOW, tz_offset=tz_offset) for one in filters]
    stored = connection.execute(
        select(*ROW_COLUMNS)
        .where(shown_span.c.project_id == PROJECT)
        .order_by(shown_span.c.seq)
    ).mappings()
    shown = [api_row(row, org_id=ORG) for row in stored]
    return [tuple(closure(row) for closure in closures) for row in shown]


def read_where_valid(texts: list[str]) -> dict[str, Expr]:
    """The filters that mean something; drawn ones may compare a time with a number."""
    trees = {}
    for text in texts:
        try:
            trees[text] = parse_filter(text)
        except BtqlError:
            continue
    return trees


@settings(suppress_health_check=list(HealthCheck), max_examples=200)
@given(
    st.lists(rows, min_size=1, max_size=8),
    st.lists(conditions, min_size=1, max_size=8),
    st.sampled_from([0, 480, -330]),
)
def test_sql_and_memory_agree_on_every_filter(
    engine: Engine, rows: list[dict], texts: list[str], tz_offset: int
) -> None:
    trees = read_where_valid(texts)
    with engine.connect() as connection, connection.begin() as transaction:
        insert_rows(connection, rows, project_id=PROJECT)
        sql = in_sql(connection, list(trees.values()), tz_offset)
        memory = in_memory(connection, list(trees.values()), tz_offset)
        transaction.rollback()
    for row, from_sql, from_memory in zip(rows, sql, memory, strict=True):
        for text, a, b in zip(trees, from_sql, from_memory, strict=True):
            if a is not b:
                note(f"{text}\non {row}\nSQL {a}, memory {b}")
            assert a is b
