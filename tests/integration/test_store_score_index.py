"""Rows in the order of a score, found by the index of scores."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator

import orjson
import pytest
from query_pages import NOW, pages
from sqlalchemy import Connection, create_engine, text
from store_behaviours.scoring import CHEAP, NOTHING_IS_CHEAP, ended, record
from stored_rows import insert_rows
from stored_world import StoredWorld, opened_world

from btql.query import parse_query
from spans.json import JsonObject
from store.postgres.score_index import name_hash

pytestmark = pytest.mark.every_postgres


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[StoredWorld]:
    with opened_world(fresh_database_url) as world:
        yield world


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url, json_deserializer=orjson.loads)
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()


def in_order(rows: list[JsonObject], *, descending: bool) -> list[JsonObject]:
    """What a sort of all rows gives: by the score, then by arrival; without it at the end."""
    def key(row: JsonObject) -> tuple[float, str]:
        return row["scores"]["s"], row["_pagination_key"]

    with_score = [row for row in rows if (row["scores"] or {}).get("s") is not None]
    without = [row for row in rows if row not in with_score]
    return [
        *sorted(with_score, key=key, reverse=descending),
        *sorted(without, key=lambda row: row["_pagination_key"], reverse=descending),
    ]


CONDITIONS: dict[str, Callable[[float | None], bool]] = {
    "scores.s < 0.5": lambda s: s is not None and s < 0.5,
    "scores.s > 0.25 and scores.s <= 1": lambda s: s is not None and 0.25 < s <= 1,
    "scores.s = 0.5": lambda s: s == 0.5,
    "scores.s >= 1e300": lambda _: False,
    f"scores.s < {10**39}": lambda s: s is not None,
    f"-{10**39} > scores.s": lambda _: False,
    "scores.s is not null": lambda s: s is not None,
    "scores.s is null": lambda s: s is None,
    "scores.s < 0.5 or scores.s is null": lambda s: s is None or s < 0.5,
}


@pytest.mark.parametrize("limit", [1, 3, 1000])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_by_a_score_are_those_of_a_sort_of_all_rows(
    connection: Connection, direction: str, limit: int
) -> None:
    draw = random.Random(3)
    values = [None, 0, 0.25, 0.25, 0.5, 1, 1.0]
    objects = [
        insert_rows(
            connection,
            [
                {
                    "id": f"r{n}",
                    # In several blocks of the index.
                    "_pagination_key": str(10**16 + draw.randrange(10**7) * 10 + part),
                    "scores": draw.choice([None, {"t": 0.1}, {"s": draw.choice(values)}]),
                    "computed_scores": draw.choice([None, {"s": draw.choice(values[1:])}]),
                    "deleted_at": NOW if draw.random() < 0.1 else None,
                    "metadata": {"even": n % 2 == 0},
                }
                for n in range(40)
            ],
            project_id=uuid.uuid4(),
        )
        for part in range(2)
    ]
    descending = direction == "desc"
    for numbers in (objects[:1], objects):
        every = pages(connection, numbers, "select: *", 1000)

        found = pages(connection, numbers, f"select: * | sort: scores.s {direction}", limit)
        even = pages(
            connection, numbers,
            f"select: * | filter: metadata.even | sort: scores.s {direction}", limit,
        )

        assert found == in_order(every, descending=descending)
        assert even == [row for row in found if row["metadata"]["even"]]
        for condition, passes in CONDITIONS.items():
            passing = pages(
                connection, numbers,
                f"select: * | filter: {condition} | sort: scores.s {direction}", limit,
            )
            assert passing == [row for row in found if passes((row["scores"] or {}).get("s"))]


def test_the_database_and_the_store_name_a_score_alike(connection: Connection) -> None:
    for name in ("s", "Levenshtein", "response quality", "é", "z" * 100):
        hashed = connection.scalar(text("select score_name_hash(:name)"), {"name": name})
        assert hashed == name_hash(name)


def test_scores_that_are_given_changed_and_withdrawn_stay_in_order(
    world: StoredWorld,
) -> None:
    draw = random.Random(5)
    rule = "close"
    world.rule(rule)
    texts = ["kitten", "sitting", "mitten", "kit", ""]

    def act() -> None:
        row_id = f"r{draw.randrange(12)}"
        match draw.randrange(6):
            case 0 | 1:
                world.write(ended(row_id, draw.choice(texts)))
            case 2:
                world.feedback(row_id, {"scores": {
                    "Levenshtein": draw.choice([None, 0, 0.5, 1]),
                    "mine": draw.choice([None, 0.1, 0.9]),
                }})
            case 3:
                world.write({"id": row_id, "_object_delete": True})
            case 4:
                world.write({**ended(row_id), "scores": {"mine": 0.3, "Levenshtein": 0.2}})
            case 5:
                world.rule(rule, draw.choice(["Levenshtein", "ExactMatch"]))
        world.match(CHEAP)

    for turn in range(60):
        act()
        if turn % 6 == 5:
            assert_in_order(world)


def assert_in_order(world: StoredWorld) -> None:
    where = world.database.numbers.object_no(world.where)
    with world.database.connection() as connection:
        for name in ("Levenshtein", "mine", "ExactMatch"):
            shown = f"select: scores.\"{name}\" AS value, _pagination_key AS key"
            every = [
                (row["value"], row["key"]) for row in pages(connection, [where], shown, 1000)
            ]
            scored = sorted((one for one in every if one[0] is not None), reverse=True)
            rest = sorted((one for one in every if one[0] is None), key=lambda one: one[1])

            found = pages(
                connection, [where], f"{shown} | sort: scores.\"{name}\" desc", 5
            )

            assert [(row["value"], row["key"]) for row in found] == [*scored, *rest[::-1]]
    assert world.wrong_entries() == []


def by_score(world: StoredWorld, name: str = "Levenshtein", **more: str) -> list[object]:
    """The ids of the rows that are no score spans, by this score, the best first."""
    clauses = "".join(f" | {clause}: {value}" for clause, value in more.items())
    query = parse_query(
        f"select: id, is_root | from: project_logs('{world.where.project_id}')"
        f" | sort: scores.{name} desc{clauses}"
    )
    page = world.reader.query(
        query, world.org_id, (world.where.project_id,), limit_max=1000, tz_offset=0
    )
    return [row["id"] for row in page.rows if row["is_root"]]


def scored(value: float | None, **more: object) -> JsonObject:
    return {"scores": {"Levenshtein": value}, **more}


def test_rows_with_logged_scores_are_sorted_by_them(world: StoredWorld) -> None:
    world.write(
        {"id": "none"}, {"id": "low", **scored(0.25)}, {"id": "null", **scored(None)},
        {"id": "high", **scored(1)}, {"id": "tiny", **scored(5e-324)},
        {"id": "zero", **scored(0)},
    )
    assert by_score(world) == ["high", "low", "tiny", "zero", "null", "none"]


def test_a_score_that_is_merged_written_over_or_removed_moves_its_row(
    world: StoredWorld,
) -> None:
    world.write(*({"id": each, **scored(0.5)} for each in "abcd"))
    world.write({"id": "a", "_is_merge": True, **scored(0.75)}, {"id": "b", **scored(1)})
    world.feedback("c", scored(0.875))
    assert by_score(world) == ["b", "c", "a", "d"]
    world.write({"id": "b", "_is_merge": True, **scored(None)}, {"id": "c"})
    assert by_score(world) == ["a", "d", "c", "b"]


def test_a_deleted_row_is_gone_and_comes_back_with_a_new_score(world: StoredWorld) -> None:
    world.write({"id": "a", **scored(1)}, {"id": "b", **scored(0.5)})
    world.write({"id": "a", "_object_delete": True})
    assert by_score(world) == ["b"]
    world.write({"id": "a", **scored(0.25)})
    assert by_score(world) == ["b", "a"]


def test_a_new_result_moves_a_row_and_its_score_span(world: StoredWorld) -> None:
    world.rule()
    world.write(ended("a", "kitten"), ended("b", "kit"))
    world.match()
    assert by_score(world) == ["a", "b"]
    world.write(ended("a", "x"))
    world.match()
    assert by_score(world) == ["b", "a"]
    query = parse_query(
        f"from: project_logs('{world.where.project_id}') | sort: scores.Levenshtein desc"
    )
    page = world.reader.query(
        query, world.org_id, (world.where.project_id,), limit_max=1000, tz_offset=0
    )
    assert [row["is_root"] for row in page.rows] == [False, True, False, True]


def test_what_a_person_says_hides_a_computed_score_until_it_is_taken_back(
    world: StoredWorld,
) -> None:
    world.rule()
    world.write(ended("a", "kitten"), ended("b", "kit"))
    world.match()
    world.feedback("a", scored(0.125))
    assert by_score(world) == ["b", "a"]
    world.feedback("a", scored(None))
    assert by_score(world) == ["a", "b"]


def test_a_score_goes_with_the_content_that_it_was_of(world: StoredWorld) -> None:
    world.rule()
    world.write(ended("a"))
    world.match()
    world.write({"id": "a", "output": "not ended"})
    assert by_score(world, filter="scores.Levenshtein >= 0") == []


def test_a_client_may_write_over_a_score_span_and_delete_it(world: StoredWorld) -> None:
    world.rule()
    world.defer("a")
    record(world.worker, *world.claim(), value=0.5)
    (span,) = world.score_spans()
    written: JsonObject = {"Levenshtein": 1, "Other": 0.5}
    world.write({"id": span["id"], "_is_merge": True, "scores": written})
    assert world.wrong_entries() == []
    assert by_score(world, "Other", filter="scores.Other = 0.5") == []
    world.write({"id": span["id"], "_object_delete": True})
    assert world.wrong_entries() == []
    world.write(ended("a", "another"))
    world.match(NOTHING_IS_CHEAP)
    record(world.worker, *world.claim(), value=0.25)
    assert len(world.score_spans()) == 1


def test_a_row_and_its_score_span_have_one_entry_each_however_often_they_are_scored(
    world: StoredWorld,
) -> None:
    world.rule()
    for output in ("kitten", "kit", "kitten"):
        world.write(ended("a", output))
        world.match()
    assert world.rows("select value from span_score") == [(1.0,), (1.0,)]
