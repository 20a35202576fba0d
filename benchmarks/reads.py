"""What it takes to read: each request over HTTP beside the bare statement of the same rows."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, LiteralString
from urllib.parse import quote

import orjson
import psycopg

from benchmarks.processes import running_ms
from benchmarks.stack import Stack
from benchmarks.tables import (
    BY_KEYS,
    EXPLAINED,
    IN_TIME,
    IN_VERSIONS,
    Place,
    newest,
    place,
    row_count,
)
from spans.json import JsonObject

TIMES = 15
"""How often each request is made."""

ENOUGH_S = 4.0
"""A request that takes long is made less often: no more is begun after this time."""

ANSWER_S = 120.0
WINDOW = 10_000
SMALL, LARGE = 100, 1000
FEW, NOBODY = "u13", "nobody"
"""Values of metadata.user: of each 97th logged row, and of none."""

NOTHING = "an answer that reads no rows"
"""What each request costs beside its statement."""

Bare = Callable[[psycopg.Connection, list[str]], None]
"""Runs a read's bare statement, given the ids of the rows that the answer held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A request, and the least that PostgreSQL must do for its answer.

    `is_bounded`: an answer, or an error, within the time limit of queries is all that is asked
    of it, since it looks at every row.
    """

    name: str
    method: str
    path: str
    body: JsonObject | None
    bare: Bare | None
    is_bounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTime:
    """Milliseconds: medians, and processor time an answer of the API and of PostgreSQL.

    `status` is that of the last answer, `rows` what it held.
    """

    ms: float
    bare_ms: float | None
    cpu_ms: float
    times: int
    status: int
    rows: int
    is_bounded: bool


def measure_reads(
    stack: Stack, connection: psycopg.Connection, project_id: str
) -> dict[str, ReadTime]:
    """Every read of the project, by its name."""
    client = http.client.HTTPConnection(*stack.host_and_port, timeout=ANSWER_S)
    headers = {"authorization": f"Bearer {stack.key}", "content-type": "application/json"}
    own = connection.info.backend_pid
    try:
        return {
            read.name: _measure(
                client, headers, connection, read, lambda: _answering_ms(stack, but=own)
            )
            for read in reads(connection, project_id)
        }
    finally:
        client.close()


def reads(connection: psycopg.Connection, project_id: str) -> Iterator[Read]:
    """What is read of the project as it is now."""
    yield Read(name=NOTHING, method="GET", path="/v1", body=None, bare=None)
    yield from _fetches(connection, project_id)
    yield from _windows(connection, project_id)
    yield from _queries(connection, project_id)
    for where, share in (("newest", 1.0), ("middle", 0.5)):
        row = place(connection, project_id, share)
        yield Read(
            name=f"explain, {where}", method="GET",
            path=f"/v1/project_logs/{project_id}/explain?id={quote(row.id)}", body=None,
            bare=_statement(EXPLAINED, project=project_id, id=row.id),
        )


def _fetches(connection: psycopg.Connection, project_id: str) -> Iterator[Read]:
    path = f"/v1/project_logs/{project_id}/fetch"

    def fetch(name: str, **body: Any) -> Read:
        return Read(
            name=f"fetch {name}", method="POST", path=path, body=body,
            bare=_by_keys(project_id),
        )

    # The last page is full at each number of rows.
    oldest = max(0.0005, 2 * SMALL / row_count(connection, project_id))
    middle, last = place(connection, project_id, 0.5), place(connection, project_id, oldest)
    for limit in (SMALL, LARGE):
        yield fetch(f"first {limit}", limit=limit)
        yield fetch(f"middle {limit}, by cursor", limit=limit, cursor=middle.cursor)
    yield fetch(f"last {SMALL}, by cursor", limit=SMALL, cursor=last.cursor)
    for where, row in (("middle", middle), ("last", last)):
        yield fetch(f"{where} {SMALL}, by version", limit=SMALL, **_before(row))
    wanted = {"type": "path_lookup", "path": ["metadata", "tier"], "value": "gold"}
    yield fetch(f"first {SMALL}, filtered", limit=SMALL, filters=[wanted])


def _before(row: Place) -> JsonObject:
    return {"max_xact_id": str(row.xact), "max_root_span_id": row.root_span_id}


def _windows(connection: psycopg.Connection, project_id: str) -> Iterator[Read]:
    bounds = newest(connection, project_id, WINDOW)
    for name, column, (first, last), statement in (
        ("by version", "_xact_id", bounds.xacts, IN_VERSIONS),
        ("by created", "created", bounds.created, IN_TIME),
    ):
        # Ends are shown in milliseconds; these few rows make no difference.
        low, high = _shown(first), _shown(last)
        for matches, user in (("few", FEW), ("none", NOBODY)):
            yield _query(
                f"btql newest {WINDOW} {name}, {matches} match", project_id,
                f"filter: {column} > '{low}' and {column} <= '{high}'"
                f" and metadata.user = '{user}'",
                _statement(statement, project=project_id, first=first, last=last, user=user),
            )


def _shown(value: object) -> str:
    if not isinstance(value, datetime):
        return str(value)
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _queries(connection: psycopg.Connection, project_id: str) -> Iterator[Read]:
    row = place(connection, project_id, 0.5)
    for name, condition, is_bounded in (
        ("by id", f"filter: id = '{row.id}'", False),
        ("by an id that is not there", "filter: id = 'nothing'", False),
        ("by root_span_id", f"filter: root_span_id = '{row.root_span_id}'", False),
        ("sorted by a score", "sort: scores.Levenshtein desc", False),
        ("sorted by created", "sort: created desc", False),
        ("unbounded, all match", "filter: metadata.tier = 'gold'", False),
        ("unbounded, none match", f"filter: metadata.user = '{NOBODY}'", True),
    ):
        yield _query(f"btql {name}", project_id, condition, _by_keys(project_id), is_bounded)


def _query(
    name: str, project_id: str, condition: str, bare: Bare,
    is_bounded: bool = False,  # noqa: FBT001, FBT002 named where it is given
) -> Read:
    text = f"select: * | from: project_logs('{project_id}') | {condition} | limit: {SMALL}"
    return Read(
        name=name, method="POST", path="/btql", body={"query": text}, bare=bare,
        is_bounded=is_bounded,
    )


def _by_keys(project_id: str) -> Bare:
    def run(connection: psycopg.Connection, ids: list[str]) -> None:
        connection.execute(BY_KEYS, {"ids": ids, "project": project_id}).fetchall()

    return run


def _statement(statement: LiteralString, **parameters: Any) -> Bare:
    def run(connection: psycopg.Connection, _ids: list[str]) -> None:
        connection.execute(statement, parameters).fetchall()

    return run


def _measure(
    client: http.client.HTTPConnection, headers: dict[str, str],
    connection: psycopg.Connection, read: Read, spent_ms: Callable[[], dict[int, float]],
) -> ReadTime:
    body = None if read.body is None else orjson.dumps(read.body)
    taken: list[float] = []
    bare: list[float] = []
    begin, begin_ms = time.monotonic(), spent_ms()
    # The first one warms up, unless it takes so long that it has to do.
    for number in range(TIMES + 1):
        start = time.perf_counter()
        client.request(read.method, read.path, body=body, headers=headers)
        answer = client.getresponse()
        content = answer.read()
        elapsed = time.perf_counter() - start
        is_of_rows = read.bare is not None and answer.status == 200
        ids = _ids(content) if is_of_rows else []
        taken.append(elapsed * 1000)
        if read.bare is not None and answer.status == 200:
            start = time.perf_counter()
            read.bare(connection, ids)
            bare.append((time.perf_counter() - start) * 1000)
        if (number and time.monotonic() - begin > ENOUGH_S) or elapsed > ENOUGH_S:
            break
    spent = sum(ms - begin_ms.get(pid, 0.0) for pid, ms in spent_ms().items() if ms)
    cpu_ms = spent / len(taken)
    if len(taken) > 1:
        del taken[0], bare[:1]
    return ReadTime(
        ms=median(taken), bare_ms=median(bare) if bare else None, cpu_ms=cpu_ms,
        times=len(taken), status=answer.status, rows=len(ids), is_bounded=read.is_bounded,
    )


def _answering_ms(stack: Stack, *, but: int) -> dict[int, float]:
    """Processor milliseconds of each process of the API and of PostgreSQL, but for one."""
    return {
        process.pid: running_ms(process) for name, process in stack.processes()
        if name in {"api", "postgres"} and process.pid != but
    }


def _ids(content: bytes) -> list[str]:
    found = orjson.loads(content)
    return [row["id"] for row in found.get("events", found.get("data", []))]
