"""Rows in the order of a score, found by the index of scores."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import orjson
import pytest
from query_pages import NOW, pages
from sqlalchemy import Connection, create_engine, text
from store_behaviours.scoring import CHEAP, ended
from stored_rows import insert_rows
from stored_world import StoredWorld

from spans.json import JsonObject
from store.postgres.score_index import name_hash

pytestmark = pytest.mark.every_postgres


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[StoredWorld]:
    opened = StoredWorld(fresh_database_url)
    yield opened
    opened.close()


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
        entries = connection.scalar(text(
            "select count(*) from span_score left join span_head using (object_no, seq)"
            " where span_head.seq is null"
        ))
        assert entries == 0, "entries of rows that are gone"
