"""The table of a row's columns, held against the migrated tables and views of rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import pytest
from fakes.memory.logs import visible_scores
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Cursor, connect
from sqlalchemy import create_engine, make_url, select, text
from stored_rows import insert_rows

from spans.columns import COLUMNS, Part
from spans.ids import ObjectId, ProjectId
from spans.json import JsonObject
from spans.row import LOG_IDS, OBJECT_ID_COLUMNS, ObjectRef, ObjectType
from store.postgres.row_json import ROW_COLUMNS, api_row
from store.postgres.row_views import EXPRESSIONS, read_subjects
from store.postgres.tables import shown_span

pytestmark = pytest.mark.every_postgres

ORG = uuid.UUID(int=3)
# The columns that hold a row's parts together, and a score span to what it shows.
LINKS = {
    Part.BODY: {
        "object_no": ("integer", True), "scored_seq": ("bigint", False),
        "scored_xact": ("bigint", False), "scored_use": ("integer", False),
        "scored_version": ("bigint", False),
    },
    Part.HEAD: {"object_no": ("integer", True), "seq": ("bigint", True)},
    Part.OBJECT: {"object_no": ("integer", True)},
}
scores = st.none() | st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), st.none() | st.sampled_from([0, 0.25, 1])
)


@pytest.fixture(scope="module")
def cursor(database_url: str) -> Iterator[Cursor]:
    plain = make_url(database_url).set(drivername="postgresql")
    with connect(plain.render_as_string(hide_password=False)) as connection:
        yield connection.cursor()
        connection.rollback()


def columns_of(cursor: Cursor, relation: str) -> dict[str, tuple[str, bool]]:
    """(type, whether it refuses null) of each column of a table or view."""
    cursor.execute(
        """select attname, replace(format_type(atttypid, null), 'timestamp with time zone',
                                   'timestamptz'),
                  attnotnull
             from pg_attribute
            where attrelid = %s::regclass and attnum > 0 and not attisdropped""",
        (relation,),
    )
    return {name: (kind, required) for name, kind, required in cursor.fetchall()}


@pytest.mark.parametrize("part", Part)
def test_each_part_of_a_row_has_these_columns_and_no_others(cursor: Cursor, part: Part) -> None:
    assert columns_of(cursor, part) == {
        **LINKS[part],
        **{
            column.stored_as: (str(column.storage), column.is_required)
            for column in COLUMNS
            if column.storage is not None and column.part is part and column.name != "scores"
        },
    }


@pytest.mark.parametrize("view", ["logged_span", "shown_span"])
def test_a_view_of_rows_shows_the_columns_of_all_parts(cursor: Cursor, view: str) -> None:
    shown = {name: kind for name, (kind, _) in columns_of(cursor, view).items()}

    assert shown == {
        "object_no": "integer", "scored_seq": "bigint",
        **{
            column.stored_as: str(column.storage)
            for column in COLUMNS if column.storage is not None
        },
    }
    assert {column.name for column in shown_span.columns} == shown.keys() - {"scored_seq"}


def test_no_write_fills_a_column_that_postgresql_fills(cursor: Cursor) -> None:
    cursor.execute(
        """select table_name, column_name from information_schema.columns
            where table_name = any(%s) and table_schema = current_schema()
              and (is_generated = 'ALWAYS' or is_identity = 'YES' or column_default is not null)
        """,
        (list(Part),),
    )
    assert cursor.fetchall() == [("object", "object_no")]


@pytest.mark.parametrize(
    ("part", "key"), [(Part.BODY, ["seq"]), (Part.HEAD, ["object_no", "seq"])]
)
def test_a_body_is_found_by_its_place_and_a_head_within_its_object(
    cursor: Cursor, part: Part, key: list[str]
) -> None:
    cursor.execute(
        """select array_agg(attname::text order by place)
             from pg_index, unnest(indkey) with ordinality as part(number, place)
             join pg_attribute on attnum = number
            where indrelid = %s::regclass and indisprimary and attrelid = indrelid""",
        (part,),
    )
    assert cursor.fetchone() == (key,)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=30))
def test_both_views_and_memory_agree_on_the_visible_scores(
    database_url: str, pairs: list[tuple[JsonObject | None, JsonObject | None]]
) -> None:
    engine = create_engine(database_url, json_deserializer=orjson.loads)
    with engine.connect() as connection:
        object_no = insert_rows(
            connection,
            [{"scores": logged, "computed_scores": computed} for logged, computed in pairs],
            project_id=uuid.uuid4(),
        )
        for view in ("logged_span", "shown_span"):
            shown = connection.execute(
                text(f"select scores from {view} where object_no = :object_no order by seq"),
                {"object_no": object_no},
            ).scalars().all()
            assert shown == [visible_scores(*pair) for pair in pairs]
        connection.rollback()
    engine.dispose()


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
        object_no = insert_rows(
            connection, [row], project_id=project, object_type=object_type.value,
            object_id=object_id,
        )
        (stored,) = connection.execute(
            select(*ROW_COLUMNS).where(shown_span.c.object_no == object_no)
        ).mappings()
        shown = api_row(stored, org_id=ORG)
    engine.dispose()
    where = ObjectRef(project, object_type, object_id)
    views = [
        read_subjects(
            cursor, where, object_no, [stored["seq"]], frozenset(EXPRESSIONS), view=name
        )[stored["seq"]].view
        for name in ("logged_span", "shown_span")
    ]
    view, as_shown = views
    assert view == as_shown
    assert view == {name: shown.get(name) for name in EXPRESSIONS}
    assert view["log_id"] == LOG_IDS.get(object_type)
    for other, name in OBJECT_ID_COLUMNS.items():
        assert view[name] == (str(object_id) if other == object_type else None)
