"""Queries against a real table: scope, order, pages, bounds."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import pytest
from sqlalchemy import Connection, create_engine, text
from stored_rows import first_seq, insert_rows

from btql.errors import BtqlError
from btql.query import Query, parse_query, read_query
from flows.logs.fetch import QueryPage
from spans.errors import BadInput
from store.btql.query import QueryScope, run_query

pytestmark = pytest.mark.every_postgres

ORG = uuid.UUID(int=1)
PROJECT = uuid.UUID(int=2)
OTHER = uuid.UUID(int=3)
NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
VALUES = [3, None, "b", 1.5, True, "a", {"x": 1}, 3, "B", -1, False, [1]]
ROWS = [
    {
        "id": f"r{number:02}",
        "span_id": f"s{number}",
        "created": f"2026-06-{14 - number:02}T10:00:00.123Z",
        "metadata": {"v": value, "model": "m"},
        "tags": ["x"] if number % 2 else None,
        "input": {"b": 1, "a": 2},
    }
    for number, value in enumerate(VALUES)
]


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url, json_deserializer=orjson.loads)
    with engine.connect() as connection:
        insert_rows(connection, ROWS, project_id=PROJECT)
        insert_rows(connection, [{"id": "foreign"}], project_id=OTHER)
        yield connection
        connection.rollback()
    engine.dispose()


def run(
    connection: Connection, query: str | Query, *object_ids: uuid.UUID, **options: object
) -> QueryPage:
    """The query's page over these objects, or over that of PROJECT."""
    parsed = parse_query(query) if isinstance(query, str) else query
    scope = QueryScope(org_id=ORG, object_nos=numbers(connection, *(object_ids or (PROJECT,))))
    settings = {"scope": scope, "limit_max": 1000, "now": NOW, **options}
    return run_query(connection, parsed, **settings)


def numbers(connection: Connection, *object_ids: uuid.UUID) -> tuple[int, ...]:
    found = connection.execute(
        text("select object_no from object where object_id = any(:ids) order by object_no"),
        {"ids": list(object_ids)},
    )
    return tuple(found.scalars())


def ids(page: QueryPage) -> list[object]:
    return [row["id"] for row in page.rows]


def all_pages(connection: Connection, query: str) -> list[object]:
    found: list[object] = []
    cursor = None
    while True:
        text = query if cursor is None else f"{query} | cursor: '{cursor}'"
        page = run(connection, text)
        found += ids(page)
        cursor = page.cursor
        if not page.rows:
            assert cursor is None
            return found


SOURCE = f"from: project_logs('{PROJECT}')"


def test_rows_come_newest_first_without_a_sort(connection: Connection) -> None:
    assert ids(run(connection, SOURCE)) == [row["id"] for row in reversed(ROWS)]


def test_a_star_gives_every_column_with_explicit_nulls(connection: Connection) -> None:
    row = run(connection, f"select: * | {SOURCE} | filter: id = 'r01'").rows[0]
    assert row["expected"] is None
    assert row["comments"] is None
    assert row["log_id"] == "g"
    assert row["project_id"] == str(PROJECT)
    assert row["org_id"] == str(ORG)
    assert row["created"] == "2026-06-13T10:00:00.123Z"
    (number,) = numbers(connection, PROJECT)
    assert row["_pagination_key"] == f"p{first_seq(number) + 1:020}"
    assert row["_xact_id"] == "1000000000000000001"
    assert "experiment_id" not in row


def test_the_keys_of_input_keep_their_order(connection: Connection) -> None:
    row = run(connection, f"select: * | {SOURCE} | limit: 1").rows[0]
    assert list(row["input"]) == ["b", "a"]


def test_selected_fields_come_under_their_names(connection: Connection) -> None:
    page = run(
        connection,
        f"SELECT id, metadata.model, metadata.v AS value, len(tags) AS n, created"
        f" FROM project_logs('{PROJECT}') WHERE id = 'r01'",
    )
    assert page.rows == [
        {
            "id": "r01",
            "model": "m",
            "value": None,
            "n": 1,
            "created": "2026-06-13T10:00:00.123Z",
        }
    ]
    properties = page.schema["items"]["properties"]
    assert properties["created"] == {"type": "string", "format": "date-time"}
    assert properties["n"] == {"type": "number"}


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize(
    "key",
    [
        "metadata.v",
        "created",
        "id",
        "_xact_id",
        "_pagination_key",
        "tags",
        "is_root",
        "date_trunc('week', created)",
        "to_datetime(metadata.v)",
        "lower(metadata.v)",
        "metadata.absent",
        "experiment_id",
    ],
)
def test_pages_give_each_row_once_in_the_order_of_one_answer(
    connection: Connection, key: str, direction: str
) -> None:
    query = f"select: id | {SOURCE} | sort: {key} {direction}"
    assert all_pages(connection, f"{query} | limit: 2") == ids(run(connection, query))
    assert sorted(all_pages(connection, f"{query} | limit: 5")) == [row["id"] for row in ROWS]


def test_values_of_all_types_have_one_order_and_nulls_come_last(connection: Connection) -> None:
    up = run(connection, f"select: id, metadata.v | {SOURCE} | sort: metadata.v")
    down = run(connection, f"select: metadata.v | {SOURCE} | sort: metadata.v desc")
    in_order = [False, True, -1, 1.5, 3, 3, "B", "a", "b"]
    assert [row["v"] for row in up.rows][:9] == in_order
    assert [row["v"] for row in down.rows][2:11] == in_order[::-1]
    assert up.rows[-1]["v"] is None
    assert down.rows[-1]["v"] is None


def test_a_scope_without_objects_sees_nothing(connection: Connection) -> None:
    scope = QueryScope(org_id=ORG, object_nos=())
    assert run_query(
        connection, parse_query(SOURCE), scope=scope, limit_max=9, now=NOW
    ).rows == []


def test_several_objects_give_the_rows_of_each_in_one_order(connection: Connection) -> None:
    query = f"select: id | {SOURCE} | sort: created, id"
    found = ids(run(connection, query, PROJECT, OTHER))
    assert found == [*ids(run(connection, query)), "foreign"]
    pages = [run(connection, f"{query} | limit: 7", PROJECT, OTHER)]
    pages.append(
        run(connection, f"{query} | limit: 7 | cursor: '{pages[0].cursor}'", PROJECT, OTHER)
    )
    assert [one for page in pages for one in ids(page)] == found


def test_experiments_and_datasets_name_their_object(connection: Connection) -> None:
    for number, kind in enumerate(["experiment", "dataset"]):
        object_id = uuid.UUID(int=100 + number)
        insert_rows(
            connection, [{"id": "e"}], project_id=PROJECT, object_type=kind, object_id=object_id
        )
        page = run(connection, f"select: * | from: {kind}('{object_id}')", object_id)
        assert page.rows[0][f"{kind}_id"] == str(object_id)
        by_id = f"select: id | from: {kind}('{object_id}') | filter: {kind}_id = '{object_id}'"
        assert ids(run(connection, by_id, object_id)) == ["e"]


def test_deleted_rows_are_not_shown(connection: Connection) -> None:
    connection.execute(
        text(
            "update span_head set deleted_at = now() from span"
            " where span.seq = span_head.seq and span.id = 'r03'"
        )
    )
    assert "r03" not in ids(run(connection, SOURCE))


def test_fields_that_we_do_not_know_stand_beside_the_others(connection: Connection) -> None:
    insert_rows(
        connection,
        [{
            "id": "x", "_pagination_key": str(10**17),
            "extra": {"colour": "red", "id": "not this"},
        }],
        project_id=PROJECT,
    )
    row = run(connection, f"{SOURCE} | limit: 1").rows[0]
    assert (row["colour"], row["id"]) == ("red", "x")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "",
        "AAAA",
        "\u00e9",
        "p00000000000000000002",
        base64.urlsafe_b64encode(b"12345678[1]").decode(),
        "A" * 2000,
    ],
)
def test_a_forged_cursor_is_refused(connection: Connection, cursor: str) -> None:
    with pytest.raises(BtqlError, match="cursor"):
        run(connection, f"{SOURCE} | cursor: '{cursor}'")


def test_a_cursor_with_changed_values_is_refused(connection: Connection) -> None:
    query = f"{SOURCE} | sort: created | limit: 2"
    cursor = run(connection, query).cursor
    assert cursor is not None
    digest = base64.urlsafe_b64decode(cursor + "==")[:8]
    for values in [
        '["x",1]',
        "[1,1]",
        "[null,1]",
        '["2026-06-14",true]',
        "{}",
        "[1]",
        '["2026-06-14T00:00:00",99999999999999999999]',
    ]:
        forged = base64.urlsafe_b64encode(digest + values.encode()).decode().rstrip("=")
        with pytest.raises(BtqlError, match="cursor"):
            run(connection, f"{query} | cursor: '{forged}'")


def test_a_cursor_belongs_to_its_order(connection: Connection) -> None:
    cursor = run(connection, f"{SOURCE} | sort: created | limit: 2").cursor
    with pytest.raises(BtqlError, match="cursor"):
        run(connection, f"{SOURCE} | sort: created desc | limit: 2 | cursor: '{cursor}'")


def test_every_page_but_an_empty_one_has_a_cursor(connection: Connection) -> None:
    last = run(connection, f"{SOURCE} | limit: {len(ROWS)}")
    after = run(connection, f"{SOURCE} | cursor: '{last.cursor}'")
    assert last.cursor is not None
    assert (after.rows, after.cursor) == ([], None)


def test_a_limit_above_the_services_own_is_refused(connection: Connection) -> None:
    with pytest.raises(BtqlError, match="at most 5"):
        run(connection, f"{SOURCE} | limit: 6", limit_max=5)
    assert len(run(connection, SOURCE, limit_max=5).rows) == 5


def test_a_slow_query_is_stopped_and_says_what_to_do(connection: Connection) -> None:
    many = [
        {"id": f"m{n}", "_pagination_key": str(10**17 + n), "input": "x" * 2000}
        for n in range(2000)
    ]
    insert_rows(connection, many, project_id=PROJECT)
    with pytest.raises(BadInput, match=r"longer than 0\.001 s.*created"):
        run(connection, f"{SOURCE} | filter: search('y') | sort: output", timeout_s=0.001)


def test_the_query_of_the_clients_reads_a_trace(connection: Connection) -> None:
    def ident(*name: str) -> dict:
        return {"op": "ident", "name": list(name)}

    purpose = ident("span_attributes", "purpose")
    query = read_query(
        {
            "select": [{"op": "star"}],
            "from": {
                "op": "function",
                "name": ident("project_logs"),
                "args": [{"op": "literal", "value": str(PROJECT)}],
            },
            "filter": {
                "op": "and",
                "children": [
                    {
                        "op": "eq",
                        "left": ident("root_span_id"),
                        "right": {"op": "literal", "value": "trace"},
                    },
                    {
                        "op": "or",
                        "children": [
                            {"op": "isnull", "expr": purpose},
                            {
                                "op": "ne",
                                "left": purpose,
                                "right": {"op": "literal", "value": "scorer"},
                            },
                        ],
                    },
                ],
            },
            "cursor": None,
            "limit": 1000,
        }
    )
    assert len(run(connection, query).rows) == len(ROWS)
