"""Counters in the database, which GET /metrics shows.

A counter is raised in the transaction that writes what it counts, so that both are committed or
neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import orjson

from flows.health.measurements import Sample
from store.postgres.database import Cursor, Database

Labels = tuple[tuple[str, str], ...]


class Counts:
    """What one transaction counted.

    Call `write` last in the transaction, because it locks the rows of the counters until the
    commit.
    """

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, Labels], float] = defaultdict(float)

    def add(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Add `value` to the counter. Adding 0 writes nothing."""
        if value:
            self._values[name, tuple(labels.items())] += value

    def write(self, cursor: Cursor) -> None:
        """Add the counts to the counters in the database, in the shard of this connection.

        A counter has 64 shards, each a row of its own, so that connections rarely wait for
        each other.
        """
        if not self._values:
            return
        ordered = sorted(self._values.items())   # one order for all writers prevents deadlocks
        cursor.execute(
            """insert into counter (name, labels, shard, value)
               select name, labels::jsonb, pg_backend_pid() %% 64, value
                 from unnest(%s::text[], %s::text[], %s::float8[]) as t(name, labels, value)
               on conflict (name, labels, shard)
               do update set value = counter.value + excluded.value""",
            (
                [name for (name, _), _ in ordered],
                [orjson.dumps(dict(labels)).decode() for (_, labels), _ in ordered],
                [value for _, value in ordered],
            ),
        )


def samples(database: Database) -> Iterator[Sample]:
    """The value of every counter, summed over its shards."""
    with database.cursor() as cursor:
        cursor.execute(
            "select name, labels, sum(value) from counter group by name, labels order by 1, 2"
        )
        rows = cursor.fetchall()
    for name, labels, value in rows:
        yield Sample(name=name, labels=labels, value=value)
