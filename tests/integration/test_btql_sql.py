"""The published cases of the filter language, in PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Connection, create_engine, select
from stored_rows import insert_rows

from btql.errors import BtqlError
from btql.parse import parse_filter
from store.btql.compiler import filter_clause
from store.postgres.tables import shown_span

pytestmark = pytest.mark.every_postgres

CONFORMANCE = orjson.loads(
    (Path(__file__).parents[1] / "data" / "btql_conformance.json").read_bytes()
)
NOW = datetime.fromisoformat(CONFORMANCE["clock"])
ANSWERS = {True: "true", False: "false", None: "null"}


@pytest.fixture(scope="module")
def connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url, json_deserializer=orjson.loads)
    with engine.connect() as connection:
        insert_rows(connection, [CONFORMANCE["row"]], project_id=uuid.uuid4())
        yield connection
        connection.rollback()
    engine.dispose()


@pytest.mark.parametrize("case", CONFORMANCE["cases"], ids=lambda case: str(case["n"]))
def test_a_filter_has_its_published_value_in_sql(connection: Connection, case: dict) -> None:
    if case["value"] == "error":
        with pytest.raises(BtqlError):
            parse_filter(case["filter"])
        return
    clause = filter_clause(
        parse_filter(case["filter"]), now=NOW, tz_offset=CONFORMANCE["tz_offset"]
    )
    answer = ANSWERS[connection.scalar(select(clause).where(shown_span.c.span_id == "sp-1"))]
    assert answer == case["value"] or (case["value"] == "not true" and answer != "true")
