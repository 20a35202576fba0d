"""Connections to PostgreSQL: a pool per process, and Tallyard's errors for PostgreSQL's."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import orjson
import psycopg
import sqlalchemy
from psycopg.errors import DeadlockDetected, QueryCanceled, SerializationFailure, UndefinedTable
from psycopg.types.json import set_json_loads
from sqlalchemy import event

from spans.errors import BadInput, Contended, StoreUnavailable
from store.postgres.arrays import ArrayDumper
from store.postgres.numbers import Numbers

Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]
Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

SCHEMA = "0008"
"""The revision of the schema that this code reads and writes: the newest migration."""

APPLICATION = "tallyard"
CONNECT_TIMEOUT_S = 5
IDLE_IN_TRANSACTION_S = 60
KEEPALIVE_S = 30
"""A connection on which nothing comes is probed after this time, seconds, then every 10 s. It
counts as dead after three probes without an answer."""

POOL_SIZE = 4
POOL_OVERFLOW = 12
POOL_WAIT_S = 10
"""How long a thread waits for a connection while all of them are in use, seconds."""

TOO_SLOW = (
    "the query took longer than TALLYARD_QUERY_TIMEOUT_S: narrow it by id, root_span_id or "
    "_xact_id"
)

# COPY cannot update rows that exist. Such rows are copied into these temporary tables, which
# each connection has for itself, and merged from there (see `store/postgres/copy.py`). A commit
# empties them.
STAGING = """
create temporary table if not exists span_staged on commit delete rows
    as select * from span with no data;
create temporary table if not exists span_head_staged on commit delete rows
    as select * from span_head with no data;
create temporary table if not exists outcome_staged on commit delete rows
    as select * from outcome with no data
"""

# Every statement of ours finds its rows by a key, or follows an index in order. The planner
# must not replace that by a scan, a hash or a sort of the whole table, as it does if its
# statistics are from an hour when the table was empty. With these settings its plan depends on
# the indexes alone, and may be kept (docs/decisions/0019-rows-and-heads.md). JIT would compile
# statements that run for 1 ms, and parallel workers would be started for them.
PLANS = " ".join(
    f"-c {name}={value}" for name, value in {
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "max_parallel_workers_per_gather": "0",
        "jit": "off",
    }.items()
)


class Database:
    """A pool of connections to a migrated database.

    Safe to share between threads; never between processes. A connection to a database of
    another schema raises StoreUnavailable: a service that is started while the database is
    migrated answers so until the migration is done, and then works.
    """

    def __init__(self, url: str) -> None:
        # The name of this process on its leases. Every connection carries it, so that other
        # processes see in pg_stat_activity whether the owner of a lease still lives
        # (`store/postgres/leases.py`).
        self.owner = uuid.uuid4().hex
        self.numbers = Numbers(self.cursor)
        self.engine = sqlalchemy.create_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_WAIT_S,
            pool_pre_ping=False,   # a dead connection is dropped at its first error
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": f"{APPLICATION} {self.owner}",
                # End an idle transaction: a frozen process must not keep its row locks.
                "options": f"{PLANS} "
                f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S}s "
                # The memory that a connection keeps for its temporary tables.
                "-c temp_buffers=1MB",
                "keepalives_idle": KEEPALIVE_S,
                "keepalives_interval": KEEPALIVE_S // 3,
                "keepalives_count": 3,
            },
            json_deserializer=orjson.loads,
            json_serializer=lambda value: orjson.dumps(value).decode(),
        )
        event.listen(self.engine, "connect", _prepare)

    @contextmanager
    def connection(self) -> Iterator[sqlalchemy.Connection]:
        """A connection in one transaction: committed at the end, rolled back by an exception.

        Raises StoreUnavailable if the database cannot be reached or the connection is lost.
        """
        with map_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """A psycopg cursor in one transaction, for statements that are written by hand.

        Commits, rolls back and raises as `connection` does.
        """
        with self.connection() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 for the type checker
            with driver.cursor() as cursor:
                yield cursor

    @contextmanager
    def listen(self, channel: str) -> Iterator[Connection]:
        """A connection outside the pool that receives NOTIFY on `channel`.

        Each of its statements is a transaction. Raises StoreUnavailable if the database cannot
        be reached, now or while the connection is used.
        """
        with map_errors(), self.engine.connect() as pooled:
            driver = pooled.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 for the type checker
            pooled.detach()
            driver.autocommit = True
            driver.execute(f"listen {channel}".encode())
            yield driver

    def check(self) -> None:
        """Raises StoreUnavailable if PostgreSQL does not answer."""
        with self.cursor() as cursor:
            cursor.execute("select 1")

    def close(self) -> None:
        """Close the idle connections of the pool."""
        self.engine.dispose()


FOLLOW_INDEXES = """
    select set_config('enable_sort', 'off', true),
           set_config('enable_incremental_sort', 'off', true),
           set_config('statement_timeout',
                      coalesce(%s::text, current_setting('statement_timeout')), true)
"""


def follow_indexes(cursor: Cursor, *, timeout_s: float | None = None) -> None:
    """Until the transaction ends, no index that has the order of a statement gives way to a
    sort. For statements of which one part is a page in an index's order.

    With `timeout_s`, each of them has so many seconds.
    """
    limit = None if timeout_s is None else str(math.ceil(timeout_s * 1000))
    cursor.execute(FOLLOW_INDEXES, (limit,))


@contextmanager
def map_errors() -> Iterator[None]:
    """Raise Tallyard's own errors instead of PostgreSQL's.

    A lost or refused connection becomes StoreUnavailable, a transaction that PostgreSQL rolled
    back because of others Contended, and a query that took too long BadInput. Other errors
    stay as they are.
    """
    try:
        yield
    except QueryCanceled as error:
        raise BadInput(TOO_SLOW) from error
    except (DeadlockDetected, SerializationFailure) as error:
        raise Contended(f"PostgreSQL: {_first_line(error)}") from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StoreUnavailable(f"PostgreSQL: {_first_line(error)}") from error
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, QueryCanceled):
            raise BadInput(TOO_SLOW) from error
        if isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError):
            raise StoreUnavailable(f"PostgreSQL: {_first_line(error.orig)}") from error
        raise
    except sqlalchemy.exc.TimeoutError as error:
        raise StoreUnavailable("PostgreSQL: every connection is in use") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 the pool's own signature
    set_json_loads(orjson.loads, connection)
    connection.adapters.register_dumper(list, ArrayDumper)
    try:
        _check_schema(connection)
        connection.execute(STAGING)
        connection.commit()
    except BaseException:
        connection.close()
        raise


def _check_schema(connection: Connection) -> None:
    """Raises StoreUnavailable with the next step if the database has another schema."""
    try:
        row = connection.execute("select version_num from alembic_version").fetchone()
    except UndefinedTable:
        row = None
    if row is None:
        raise StoreUnavailable("PostgreSQL: the database is empty: run `tallyard migrate`")
    revision = str(row[0])
    if revision < SCHEMA:
        raise StoreUnavailable(
            f"PostgreSQL: the database has the schema {revision}, and this version of Tallyard "
            f"needs {SCHEMA}: run `tallyard migrate`, or wait until it is done"
        )
    if revision > SCHEMA:
        raise StoreUnavailable(
            f"PostgreSQL: the database has the schema {revision}, which is newer than this "
            f"version of Tallyard knows ({SCHEMA}): install the newer version"
        )
