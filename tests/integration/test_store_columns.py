"""The table of a row's columns, held against the migrated database and its visible scores."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Cursor, connect
from sqlalchemy import create_engine, make_url, select
from stored_rows import insert_rows

from spans.columns import COLUMNS
from spans.ids import ObjectId, ProjectId
from spans.json import JsonObject
from spans.row import LOG_IDS, OBJECT_ID_COLUMNS, ObjectRef, ObjectType, visible_scores
from store.postgres.row_json import ROW_COLUMNS, api_row
from store.postgres.row_views import EXPRESSIONS, read_subjects
from store.postgres.tables import KEY_COLUMNS, span
from store.postgres.visible_scores import VISIBLE_SCORES, VISIBLE_SCORES_SQL

pytestmark = pytest.mark.every_postgres

ORG = uuid.UUID(int=3)
scores = st.none() | st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), st.none() | st.sampled_from([0, 0.25, 1])
)


@pytest.fixture(scope="module")
def cursor(database_url: str) -> Iterator[Cursor]:
    plain = make_url(database_url).set(drivername="postgresql")
    with connect(plain.render_as_string(hide_password=False)) as connection:
        yield connection.cursor()
        connection.rollback()


def test_the_table_span_has_these_columns_and_no_others(cursor: Cursor) -> None:
    cursor.execute(
        """select attname, replace(format_type(atttypid, null), 'timestamp with time zone',
                                   'timestamptz'),
                  attnotnull, attgenerated <> ''
             from pg_attribute
            where attrelid = 'span'::regclass and attnum > 0 and not attisdropped"""
    )
    migrated = {name: (kind, required) for name, kind, required, _ in cursor.fetchall()}
    assert migrated == {
        column.stored_as: (str(column.storage), column.is_required)
        for column in COLUMNS if column.storage is not None
    }
    assert {column.name: column.nullable for column in span.columns} == {
        name: not required for name, (_, required) in migrated.items()
    }


def test_no_write_fills_a_column_that_postgresql_fills(cursor: Cursor) -> None:
    cursor.execute(
        """select column_name from information_schema.columns
            where table_name = 'span' and table_schema = current_schema()
              and (is_generated = 'ALWAYS' or column_default is not null)"""
    )
    filled = {name for (name,) in cursor.fetchall()}
    assert filled == {"seq", "scores"}
    written = {column.stored_as for column in COLUMNS if column.storage and column.is_written}
    assert not filled & written


def test_the_key_is_the_primary_key_in_its_order(cursor: Cursor) -> None:
    cursor.execute(
        """select array_agg(attname::text order by place)
             from pg_index, unnest(indkey) with ordinality as part(number, place)
             join pg_attribute on attnum = number
            where indrelid = 'span'::regclass and indisprimary and attrelid = indrelid"""
    )
    assert cursor.fetchone() == (list(KEY_COLUMNS),)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=30))
def test_postgresql_and_memory_agree_on_the_visible_scores(
    cursor: Cursor, pairs: list[tuple[JsonObject | None, JsonObject | None]]
) -> None:
    project = uuid.uuid4()
    cursor.executemany(
        """insert into span (project_id, object_type, object_id, id, seq, xact, content_xact,
                             has_base, span_id, root_span_id, is_root, created, logged_scores,
                             computed_scores)
           values (%s, 'project_logs', %s, %s::text, %s, 1, 1, true, '', '', true, now(),
                   %s::jsonb, %s::jsonb)""",
        [
            (project, project, number, -number, *(
                None if one is None else orjson.dumps(one).decode() for one in pair
            ))
            for number, pair in enumerate(pairs)
        ],
    )
    by_raw_sql = cursor.execute(
        f"select {VISIBLE_SCORES_SQL} from span where project_id = %s order by seq desc",
        (project,),
    ).fetchall()
    cursor.connection.rollback()
    assert [shown for (shown,) in by_raw_sql] == [visible_scores(*pair) for pair in pairs]


def test_both_forms_in_sql_are_one() -> None:
    assert str(VISIBLE_SCORES.compile()) == VISIBLE_SCORES_SQL


@pytest.mark.parametrize("object_type", ObjectType)
def test_a_row_is_the_same_to_rules_and_to_the_api(
    database_url: str, cursor: Cursor, object_type: ObjectType
) -> None:
    # A filter on `log_id`, say of a playground, means the same in a rule and in a query.
    project, object_id = ProjectId(uuid.uuid4()), ObjectId(uuid.uuid4())
    row: JsonObject = {
        "id": "row", "span_parents": ["p"], "is_root": False, "input": {"b": 1, "a": [None]},
        "output": "text", "expected": None, "error": {"message": "m"}, "scores": {"s": 0.5},
        "metadata": {"m": 1}, "metrics": {"start": 1, "end": 2}, "tags": ["t"],
        "span_attributes": {"name": "n"}, "context": {"c": 1}, "origin": {"o": 1},
        "facets": {"f": 1}, "classifications": {"k": []},
        "created": datetime(2026, 6, 14, 18, 30, 0, 123456, UTC).isoformat(),
        "_async_scoring_state": {"status": "disabled"},
    }
    engine = create_engine(database_url, json_deserializer=orjson.loads)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into organization (id, name) values (%s, %s) on conflict do nothing",
            (ORG, "of the columns"),
        )
        connection.exec_driver_sql(
            "insert into project (id, org_id, name) values (%s, %s, %s)",
            (project, ORG, str(project)),
        )
        insert_rows(
            connection, [row], project_id=project, object_type=object_type.value,
            object_id=object_id,
        )
        (stored,) = connection.execute(
            select(*ROW_COLUMNS).where(span.c.project_id == project)
        ).mappings()
        shown = api_row(stored, org_id=ORG)
    engine.dispose()
    where = ObjectRef(project, object_type, object_id)
    view = read_subjects(cursor, where, ["row"], frozenset(EXPRESSIONS))["row"].view
    assert view == {name: shown.get(name) for name in EXPRESSIONS}
    assert view["log_id"] == LOG_IDS.get(object_type)
    for other, name in OBJECT_ID_COLUMNS.items():
        assert view[name] == (str(object_id) if other == object_type else None)
