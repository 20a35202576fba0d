"""Connections to PostgreSQL: one pool a process, one place that maps its errors."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import orjson
import psycopg
import sqlalchemy
from psycopg.errors import DeadlockDetected, QueryCanceled, SerializationFailure
from sqlalchemy import event

from spans.errors import BadInput, Contended, StoreUnavailable

Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]
Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

APPLICATION = "tallyard"
CONNECT_TIMEOUT_S = 5
IDLE_IN_TRANSACTION_S = 60
KEEPALIVE_S = 30
POOL_SIZE = 4
POOL_OVERFLOW = 12
POOL_WAIT_S = 10

# A connection's own staging places: what may exist already is copied here and merged from
# here, at COPY's speed (see `store/postgres/copy.py`). They are empty again after each commit.
STAGING = """
create temporary table if not exists span_staged on commit delete rows
    as select * from span with no data;
create temporary table if not exists outcome_staged on commit delete rows
    as select * from outcome with no data
"""


class Database:
    """A pool of connections to a migrated database.

    Safe to share between threads; never between processes.
    """

    def __init__(self, url: str) -> None:
        # Every connection carries this name, so that others can see in pg_stat_activity
        # whether the process that holds a lease is still there (`store/postgres/leases.py`).
        self.owner = uuid.uuid4().hex
        self.engine = sqlalchemy.create_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_WAIT_S,
            pool_pre_ping=False,   # a dead connection is told by its first error, and dropped
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": f"{APPLICATION} {self.owner}",
                # A plan that was made while a table was empty would be kept as it grows.
                # A process that is frozen between two statements must not keep its row locks.
                "options": "-c plan_cache_mode=force_custom_plan "
                f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S}s "
                # What a connection keeps for its staging places, for as long as it lives.
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
        """One transaction: committed at the end, rolled back by an exception.

        Raises StoreUnavailable where the database cannot be reached or goes away meanwhile.
        """
        with map_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """The same, as psycopg's own cursor: for COPY and the statements of the hot path."""
        with self.connection() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 for the type checker
            with driver.cursor() as cursor:
                yield cursor

    @contextmanager
    def listening(self, channel: str) -> Iterator[Connection]:
        """A connection outside the pool that hears NOTIFY on `channel`; each of its statements
        is a transaction. Raises StoreUnavailable, also later."""
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
        """Close what is idle."""
        self.engine.dispose()


@contextmanager
def map_errors() -> Iterator[None]:
    """Turns a lost or refused connection into StoreUnavailable, an undone transaction into
    Contended; other errors pass."""
    try:
        yield
    except QueryCanceled as error:
        raise BadInput(
            "this took longer than TALLYARD_QUERY_TIMEOUT_S: narrow it by id, root_span_id or "
            "_xact_id"
        ) from error
    except (DeadlockDetected, SerializationFailure) as error:
        raise Contended(f"PostgreSQL: {_first_line(error)}") from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StoreUnavailable(f"PostgreSQL: {_first_line(error)}") from error
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, QueryCanceled):
            raise BadInput(
                "this took longer than TALLYARD_QUERY_TIMEOUT_S: narrow it by id, "
                "root_span_id or _xact_id"
            ) from error
        if isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError):
            raise StoreUnavailable(f"PostgreSQL: {_first_line(error.orig)}") from error
        raise
    except sqlalchemy.exc.TimeoutError as error:
        raise StoreUnavailable("PostgreSQL: every connection is in use") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 the pool's own signature
    connection.execute(STAGING)
    connection.commit()
