"""Lists that are sent to PostgreSQL come back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.postgres.arrays import ArrayDumper

pytestmark = pytest.mark.every_postgres

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.adapters.register_dumper(list, ArrayDumper)
        yield connection


def sent(
    connection: psycopg.Connection, values: object, kind: LiteralString
) -> object:
    row = connection.execute(f"select %s::{kind}[]", (values,)).fetchone()
    assert row is not None
    return row[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(TEXTS | st.sampled_from(['"', "\\", '\\"', '","', "{}", "NULL", "", " "])))
def test_texts_come_back(connection: psycopg.Connection, texts: list[str]) -> None:
    assert sent(connection, texts, "text") == texts


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(NUMBERS))
def test_whole_numbers_come_back(connection: psycopg.Connection, numbers: list[int]) -> None:
    assert sent(connection, numbers, "bigint") == numbers


@pytest.mark.parametrize(("values", "kind"), [
    ([1, None, 3], "bigint"), ([None], "text"), (["a", None, '"'], "text"),
    ([[1, 2], [3, 4]], "integer"), ([True, False], "boolean"), ([0.5, -1e300], "float8"),
    ([b"\0\\", b""], "bytea"),
])
def test_other_lists_come_back_too(
    connection: psycopg.Connection, values: object, kind: LiteralString
) -> None:
    assert sent(connection, values, kind) == values


def test_a_list_of_any_length_finds_what_it_names(connection: psycopg.Connection) -> None:
    for numbers in ([], [2], [2, 2**40]):
        found = connection.execute("select 2::bigint = any(%s)", (numbers,)).fetchone()
        assert found == (bool(numbers),)


@pytest.mark.parametrize(("values", "kind"), [([2**63], "bigint"), (["a\0"], "text")])
def test_what_postgresql_cannot_hold_is_refused(
    connection: psycopg.Connection, values: object, kind: LiteralString
) -> None:
    with pytest.raises(psycopg.DataError):
        sent(connection, values, kind)
