"""What each package derives from the table of a row's columns, written out in full."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime

import orjson
import pytest

from btql.columns import COLUMNS as FILTER_COLUMNS
from btql.kinds import Kind
from scorers.arguments import ScoringFields
from scorers.judge.prompt import FIELDS as JUDGE_FIELDS
from scorers.sandbox.inside import arguments as inside
from spans.columns import API_COLUMNS, COLUMNS, EVENT_FIELDS, SCORER_ARGUMENTS
from spans.event import CONTROL_FIELDS, FEEDBACK_FIELDS, OBJECT_FIELDS
from spans.ids import ObjectId, ProjectId, RowSeq, Xact
from spans.row import (
    CONTENT_FIELDS,
    IDENTITY_FIELDS,
    LOG_IDS,
    OBJECT_ID_COLUMNS,
    ObjectRef,
    ObjectType,
    Row,
    RowKey,
)
from store.logs import ingest, traces
from store.postgres import copy, row_views
from store.postgres.row_json import ROW_COLUMNS, api_row

PROJECT = ProjectId(uuid.UUID(int=1))
OBJECT = ObjectId(uuid.UUID(int=2))
JSON, TEXT = Kind.JSON, Kind.TEXT


def test_filters_know_the_columns_of_the_api_in_its_order() -> None:
    assert list(FILTER_COLUMNS.items()) == [
        ("id", TEXT), ("_xact_id", TEXT), ("_pagination_key", TEXT), ("created", Kind.TIME),
        ("org_id", TEXT), ("project_id", TEXT), ("experiment_id", TEXT), ("dataset_id", TEXT),
        ("log_id", TEXT), ("span_id", TEXT), ("root_span_id", TEXT), ("span_parents", JSON),
        ("is_root", Kind.BOOLEAN), ("input", JSON), ("output", JSON), ("expected", JSON),
        ("error", JSON), ("scores", JSON), ("metadata", JSON), ("metrics", JSON),
        ("tags", JSON), ("span_attributes", JSON), ("context", JSON), ("origin", JSON),
        ("facets", JSON), ("classifications", JSON), ("comments", JSON), ("audit_data", JSON),
        ("_async_scoring_state", JSON), ("ingest_warnings", JSON),
    ]


def test_an_event_has_fields_of_four_sorts() -> None:
    assert EVENT_FIELDS == (
        "input", "output", "expected", "error", "scores", "metadata", "metrics", "tags",
        "span_attributes", "context", "origin", "facets", "classifications",
    )
    assert CONTENT_FIELDS == ("input", "output", "expected", "error")
    assert IDENTITY_FIELDS == ("created", "span_id", "root_span_id", "span_parents")
    assert OBJECT_FIELDS == (
        "metadata", "span_attributes", "context", "origin", "facets", "classifications",
    )
    assert {
        "id", "_is_merge", "_merge_paths", "_array_delete", "_object_delete", "_parent_id",
        "_skip_async_scoring", "_async_scoring_control", "_audit_source", "_audit_metadata",
        "comment", "project_id", "experiment_id", "dataset_id", "prompt_session_id", "log_id",
        "org_id", "is_root", "_xact_id", "_pagination_key", "_async_scoring_state", "comments",
        "audit_data", "ingest_warnings",
    } == CONTROL_FIELDS
    assert {
        "scores", "expected", "tags", "metadata", "created", "span_id", "root_span_id",
        "span_parents",
    } == FEEDBACK_FIELDS


def test_a_scorer_asks_for_the_same_columns_wherever_it_runs() -> None:
    assert SCORER_ARGUMENTS == ("input", "output", "expected", "metadata", "tags")
    assert JUDGE_FIELDS == ("input", "output", "expected", "metadata", "tags", "id")
    assert [field.name for field in fields(ScoringFields)] == [*JUDGE_FIELDS, "trace"]
    assert (*JUDGE_FIELDS, "trace") == inside.ALL


def test_a_scorer_of_a_trace_gets_these_columns_of_each_span() -> None:
    assert traces.COLUMNS == (
        "id", "_xact_id", "created", "span_id", "root_span_id", "span_parents", "is_root",
        "input", "output", "expected", "error", "scores", "metadata", "metrics", "tags",
        "span_attributes",
    )
    assert traces.LARGE == (
        "input", "output", "expected", "error", "scores", "metadata", "metrics", "tags",
        "span_attributes",
    )


def test_a_write_fills_all_columns_of_both_parts_but_those_that_others_fill() -> None:
    assert copy.BODY_COLUMNS == (
        "object_no", "seq", "id", "has_base", "span_id", "root_span_id", "span_parents",
        "is_root", "input", "output", "expected", "error", "logged_scores", "metadata",
        "metrics", "tags", "span_attributes", "context", "origin", "facets",
        "classifications", "extra", "created_by", "scoring_state",
    )
    assert copy.HEAD_COLUMNS == (
        "object_no", "seq", "xact", "first_xact", "content_xact", "trigger_xact", "created",
        "deleted_at", "computed_scores",
    )
    # A client's scores are the logged ones; what is shown as `scores` is made of them.
    assert dict(zip(EVENT_FIELDS, copy.EVENT_COLUMNS, strict=True)) == {
        **{name: name for name in EVENT_FIELDS}, "scores": "logged_scores",
    }
    assert {*EVENT_FIELDS, *IDENTITY_FIELDS} == copy.KNOWN_FIELDS


def test_a_row_keeps_of_its_end_what_may_change_without_a_new_match() -> None:
    kept = [name for name, column in API_COLUMNS.items() if column.is_kept_at_end]
    assert kept == [
        "expected", "scores", "metadata", "metrics", "tags", "span_attributes", "context",
        "origin", "facets", "classifications", "_async_scoring_state",
    ]
    assert ", ".join(
        f"'{name}', {row_views.EXPRESSIONS[name]}::jsonb" for name in kept
    ) == ingest.AT_END


def test_rules_and_scorers_read_the_columns_in_the_form_of_the_api() -> None:
    always_null = {"comments", "audit_data"}
    assert row_views.EXPRESSIONS.keys() == API_COLUMNS.keys() - always_null
    own_form = {
        name: sql for name, sql in row_views.EXPRESSIONS.items() if sql != f"row.{name}"
    }
    utc = "row.created at time zone 'UTC'"
    assert own_form == {
        "_xact_id": "row.xact::text",
        "_pagination_key": "'p' || lpad(row.seq::text, 20, '0')",
        "created": f"to_char({utc}, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        "org_id": "(select org_id::text from project where project.id = row.project_id)",
        "project_id": "row.project_id::text",
        "experiment_id": "case row.object_type when 'experiment' then row.object_id::text end",
        "dataset_id": "case row.object_type when 'dataset' then row.object_id::text end",
        "log_id": "case row.object_type when 'project_logs' then 'g' "
                  "when 'playground_logs' then 'x' end",
        "_async_scoring_state": "row.scoring_state",
        "ingest_warnings": "row.extra -> 'ingest_warnings'",
    }
    assert [column.name for column in COLUMNS if column.is_always_read] == [
        "id", "span_id", "root_span_id", "is_root", "metrics", "span_attributes",
        "_async_scoring_state",
    ]


@pytest.mark.parametrize("object_type", ObjectType)
def test_the_api_shows_every_column_in_order_and_one_id_of_the_object(
    object_type: ObjectType,
) -> None:
    stored = {column.name: None for column in ROW_COLUMNS} | {
        "id": "row", "xact": 7, "seq": 8, "project_id": PROJECT, "object_id": OBJECT,
        "object_type": object_type.value, "created": datetime(2026, 6, 14, tzinfo=UTC),
    }
    own = OBJECT_ID_COLUMNS.get(object_type, "log_id")
    others = {"experiment_id", "dataset_id", "log_id"} - {own}
    shown = api_row(stored, org_id="org")
    assert list(shown) == [name for name in API_COLUMNS if name not in others]
    assert shown[own] == LOG_IDS.get(object_type, str(OBJECT))


def test_the_lines_for_copy_have_their_cells_in_the_order_of_the_columns() -> None:
    row = Row(
        key=RowKey(ObjectRef(PROJECT, ObjectType.EXPERIMENT, OBJECT), "row"),
        fields={
            "span_id": "s", "root_span_id": "r", "span_parents": ["p"], "created": "then",
            **{name: {"is": name} for name in EVENT_FIELDS}, "unknown": 1,
        },
        has_base=True, is_deleted=True, scoring_state={"is": "scoring_state"},
    )
    body = copy.body_line(row, object_no=4, seq=RowSeq(5), created_by="who")
    head = copy.head_line(
        row, object_no=4, seq=RowSeq(5), xact=Xact(1), content_xact=Xact(2),
        trigger_xact=Xact(3), now="now",
    )
    assert cells(body, copy.BODY_COLUMNS) == {
        "object_no": "4", "seq": "5", "id": "row", "has_base": "t", "span_id": "s",
        "root_span_id": "r", "span_parents": '["p"]', "is_root": "f",
        "extra": '{"unknown":1}', "created_by": "who",
        "scoring_state": '{"is":"scoring_state"}',
        **{
            column: orjson.dumps({"is": name}).decode()
            for name, column in zip(EVENT_FIELDS, copy.EVENT_COLUMNS, strict=True)
        },
    }
    assert cells(head, copy.HEAD_COLUMNS) == {
        "object_no": "4", "seq": "5", "xact": "1", "first_xact": "1", "content_xact": "2",
        "trigger_xact": "3", "created": "then", "deleted_at": "now", "computed_scores": "\\N",
    }


def cells(line: bytes, columns: Sequence[str]) -> dict[str, str]:
    """The cells of a line for COPY, by their columns."""
    texts = line.removesuffix(b"\n").decode().split("\t")
    return dict(zip(columns, texts, strict=True))
