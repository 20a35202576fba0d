"""The move of stored rows from revision 0003 to the tables of today.

`data/rows_0003.json` has a small database of revision 0003, filled over the HTTP API of that
time with rows of all kinds, and the rows as that API showed them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from checker import connect, number, query
from postgres_servers import EMPTY, PostgresServer
from sqlalchemy import NullPool, create_engine, make_url, select
from stack import Stack, inherited

import store.migrate
from ops.servers.children import wait_until
from spans.errors import StoreUnavailable
from spans.json import JsonObject
from store.migrate import upgrade
from store.postgres.database import SCHEMA, Database
from store.postgres.row_json import ROW_COLUMNS, api_row
from store.postgres.tables import shown_span

pytestmark = pytest.mark.every_postgres

OLD: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "rows_0003.json").read_text()
)
ORG = OLD["rows"][0]["org_id"]
MORE = 3000
"""Rows besides those of OLD: enough for a second step of the move."""

CHEAP = {"ExactMatch", "JSONDiff", "Levenshtein"}
"""The scorers of the rules that select every row."""

TABLES = ("object", "span", "span_head", "scorer_use", "outcome", "outbox", "match_record",
          "row_at_end")


@pytest.fixture
def old_database(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of revision 0003 with the rows of OLD."""
    with postgres_server.fresh_url(copy_of=EMPTY) as url:
        _fill(url)
        yield url


def _fill(url: str) -> None:
    _upgrade(url, "0003")
    with connect(url) as connection:
        for table, rows in OLD["tables"].items():
            columns = ", ".join(dict.fromkeys(name for row in rows for name in row))
            connection.execute(
                f"insert into {table} ({columns}) overriding system value"
                f" select {columns} from json_populate_recordset(null::{table}, %s::json)",
                (orjson.dumps(rows).decode(),),
            )
        for name, value in OLD["sequences"].items():
            connection.execute("select setval(%s, %s)", (name, value))


def _upgrade(url: str, revision: str = "head", said: list[str] | None = None) -> None:
    engine = create_engine(url, poolclass=NullPool)
    upgrade(engine, revision=revision, say=[].append if said is None else said.append)
    engine.dispose()


def _shown(url: str) -> dict[str, JsonObject]:
    """Every row that is not deleted, as the API shows it, by its id."""
    engine = create_engine(url, poolclass=NullPool, json_deserializer=orjson.loads)
    with engine.connect() as connection:
        rows = connection.execute(
            select(*ROW_COLUMNS).where(shown_span.c.deleted_at.is_(None))
        ).mappings().all()
    engine.dispose()
    return {row["id"]: api_row(row, org_id=ORG) for row in rows}


def _comparable(row: JsonObject) -> JsonObject:
    """The row without the id of its outcome, which is derived otherwise now, with times to the
    millisecond, and with its `input` as text, whose keys have an order."""
    context, metrics = row.get("context"), row.get("metrics")
    if isinstance(context, dict):
        row = {**row, "context": {k: v for k, v in context.items() if k != "outcome_id"}}
    if isinstance(metrics, dict):
        row = {**row, "metrics": {
            name: round(value, 3) if name in {"start", "end"} else value  # type: ignore[arg-type]
            for name, value in metrics.items()
        }}
    return {
        name: json.dumps(value) if name in {"input", "output", "expected"} else value
        for name, value in row.items() if value is not None
    }


def test_every_row_is_shown_as_before(old_database: str) -> None:
    said: list[str] = []
    _upgrade(old_database, said=said)

    shown = _shown(old_database)
    assert shown.keys() == {row["id"] for row in OLD["rows"]}
    for row in OLD["rows"]:
        assert _comparable(shown[row["id"]]) == _comparable(row)
    assert said[0] == f"Moving {len(OLD['tables']['span'])} rows to the new tables ..."
    assert number(old_database, "select version_num from alembic_version") == SCHEMA
    assert query(old_database, "select relname from pg_class where relname ~ '000[35]'") == []


def test_a_score_span_keeps_only_what_its_outcome_and_row_do_not_hold(
    old_database: str
) -> None:
    _upgrade(old_database)

    def score_spans(row_id: str) -> list[dict[str, Any]]:
        return query(
            old_database,
            """select span.*, shown.name from span
                 join span scored on scored.seq = span.scored_seq
                cross join lateral (select span_attributes ->> 'name' as name from shown_span
                                     where shown_span.seq = span.seq) shown
                where scored.id = %s order by shown.name""",
            row_id,
        )

    for row_id in ("child", "judged", "many", "declines", "no expected", "unicode"):
        found = score_spans(row_id)
        assert found, row_id
        for one in found:
            assert one["scored_version"] is not None
            for name in ("input", "output", "metadata", "metrics", "span_attributes", "origin",
                         "logged_scores"):
                assert one[name] is None, f"{row_id}: {name}"
    # The row has another `expected` by now, so its score span keeps what the scorer took.
    assert [one["input"]["expected"] for one in score_spans("expected changes")] == ["4"] * 3
    # A client has written over one of them. A new outcome will replace it all the same.
    by_whom = {one["scored_version"] is None for one in score_spans("written over")}
    assert by_whom == {True, False}


def test_what_waited_is_done_after_the_move(
    old_database: str, fresh_redis_url: str, tmp_path: Path
) -> None:
    _upgrade(old_database)
    project = OLD["project_id"]
    with Stack(
        database_url=old_database, redis_url=fresh_redis_url, folder=tmp_path / "stack",
        judge_base_url="http://127.0.0.1:9/v1", retry_hours="0.0001",
    ) as stack:
        stack.start("api")
        told = {row_id: stack.statuses(project, row_id) for row_id in OLD["statuses"]}
        assert told == OLD["statuses"]
        before = _slots(stack, project, "plain")

        stack.start("match", "judge", "beat")
        stack.insert(project, {
            "id": "written over", "output": "new", "input": "i", "metrics": {"end": 1},
        })
        for row_id in ("waits", "waits too", "plain", "written over"):
            stack.scored(project, row_id)
        for row_id in ("waits", "waits too"):
            assert _names(stack.score_spans(project, row_id)) >= CHEAP
        # A new outcome replaces the old score span, whoever had written over it.
        assert _slots(stack, project, "plain") == before
        written_over = stack.score_spans(project, "written over")
        assert len(written_over) == len(CHEAP)
        assert _names(written_over) == CHEAP
        stack.insert(project, {"id": "later"})
        newest_first = [row["id"] for row in stack.rows(project)]
        moved = set(newest_first) & OLD["statuses"].keys()
        assert moved
        assert newest_first.index("later") < min(map(newest_first.index, moved))


def _names(score_spans: list[dict[str, Any]]) -> set[str]:
    return {one["span_attributes"]["name"] for one in score_spans}


def _slots(stack: Stack, project: str, row_id: str) -> set[str]:
    return {one["id"] for one in stack.score_spans(project, row_id)}


@pytest.mark.parametrize("at", ["the first step", "the second step", "entries"])
def test_a_move_that_is_killed_goes_on_from_where_it_was(
    old_database: str, postgres_server: PostgresServer, at: str
) -> None:
    with connect(old_database) as connection:
        connection.execute(
            """insert into span (project_id, object_type, object_id, id, xact, content_xact,
                                 has_base, span_id, root_span_id, is_root, created)
               select project_id, object_type, object_id, 'more ' || number, xact, xact, true,
                      'more ' || number, 'more', false, created
                 from span, generate_series(1, %s) number where id = 'open'""",
            (MORE,),
        )
    with postgres_server.fresh_url(copy_of=make_url(old_database).database) as whole:
        _upgrade(whole)
        expected = {table: _content(whole, table) for table in TABLES}
    _upgrade(old_database, "0004")

    with connect(old_database) as blocker, blocker.transaction(force_rollback=True):
        _block(blocker, at)
        child = subprocess.Popen(
            [sys.executable, "-c", "from ops.cli import tallyard; tallyard()", "migrate"],
            env=inherited(TALLYARD_DATABASE_URL=old_database, PYTHONPATH=str(Path.cwd())),
            stdout=subprocess.DEVNULL,
        )
        assert wait_until(lambda: _is_blocked(old_database), deadline_s=60)
        child.kill()
        child.wait()

    said: list[str] = []
    _upgrade(old_database, said=said)
    has_gone_on = any("have moved already" in line for line in said)
    assert has_gone_on == (at == "the second step")
    for table in TABLES:
        assert _content(old_database, table) == expected[table], table


def _block(connection: Any, at: str) -> None:
    """Hold a row of a new table, so that a step which writes the same one waits for us."""
    if at == "entries":
        connection.execute(
            """insert into outbox (seq, xact, object_no, rescored, row_seqs)
               overriding system value
               select seq, xact, 1, false, '{}' from outbox_0003 where matched_at is null
                limit 1"""
        )
    else:
        edge = "min" if at == "the first step" else "max"
        connection.execute(
            f"""insert into span (object_no, seq, has_base, is_root, id, span_id, root_span_id)
                select 1, {edge}(seq), true, true, 'held', '', '' from span_0003"""
        )


def _is_blocked(url: str) -> bool:
    return bool(number(
        url,
        """select exists (select from pg_stat_activity
                           where datname = current_database() and wait_event_type = 'Lock')""",
    ))


def _content(url: str, table: str) -> list[str]:
    """The rows of the table, without the number of their only object: a number that a killed
    step gave is not given again."""
    rows = query(
        url, f"select (to_jsonb({table}) - 'object_no')::text as line from {table}"
    )
    return sorted(row["line"] for row in rows)


def test_the_move_reads_no_other_outcomes_of_an_object_to_find_a_score_span(
    old_database: str,
) -> None:
    _upgrade(old_database, "0004")
    move = _scripts().get_revision("0005").module
    statement = move.SCORE_SPANS.split(";")[0] % {"after": 0, "upto": 2000}
    with connect(old_database) as connection:
        for prepared in (move.PREPARE, move.FUNCTIONS, move.BY_KEY):
            connection.execute(prepared)
        lines = connection.execute(f"explain {statement}").fetchall()
    plan = "\n".join(line["QUERY PLAN"] for line in lines)
    assert "using outcome_0003_score_span" in plan
    assert "outcome_of_subject_0003" not in plan


def test_nothing_works_on_a_database_that_is_half_migrated(old_database: str) -> None:
    _upgrade(old_database, "0004")
    database = Database(old_database)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="run `tallyard migrate`, or wait until"):
            database.check()
    _upgrade(old_database)
    database.check()
    with connect(old_database) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    database.close()
    with pytest.raises(StoreUnavailable, match="install the newer version"):
        database.check()
    database.close()


def test_an_empty_database_says_what_to_do(postgres_server: PostgresServer) -> None:
    with postgres_server.fresh_url(copy_of=EMPTY) as url:
        database = Database(url)
        with pytest.raises(StoreUnavailable, match="run `tallyard migrate`"):
            database.check()
        database.close()


def test_the_code_needs_the_newest_migration() -> None:
    assert _scripts().get_current_head() == SCHEMA


def _scripts() -> ScriptDirectory:
    config = Config()
    folder = Path(store.migrate.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    return ScriptDirectory.from_config(config)
