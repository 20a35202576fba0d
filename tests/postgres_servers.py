"""The PostgreSQL servers of one process that runs tests, each started when a test asks for it.

The newest of RELEASES is the embedded one, which all tests use. Those with the mark
`every_postgres` run on the others too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import psycopg
from pieces import missing
from sqlalchemy import NullPool, create_engine, make_url

from ops.servers.children import wait_until
from ops.servers.postgres import (
    MAJOR_VERSION,
    WHEEL,
    PostgresRelease,
    start_postgres,
    wheel_release,
)
from store.migrate import upgrade

# A test kills processes, never the machine: what the kernel holds is as good as on disk.
FAST = {"fsync": "off", "full_page_writes": "off"}
OLDER_WHEEL = Path(__file__).parents[1] / ".cache" / "clients" / "postgres-16"
DEBIAN = Path("/usr/lib/postgresql/15/bin")
RELEASES = (MAJOR_VERSION, 16, 15)
"""Major versions that Tallyard is tested with; the README names them."""

EMPTY = "template1"
"""The database of each server of which new ones are copies that hold nothing."""


def release(major_version: int) -> PostgresRelease:
    """The installed PostgreSQL of that version. Without it, fails in CI and skips elsewhere."""
    if major_version == MAJOR_VERSION:
        return wheel_release()
    programs = (
        next(OLDER_WHEEL.glob(f"lib/*/site-packages/{WHEEL}/pginstall/bin"), OLDER_WHEEL)
        if major_version == 16 else DEBIAN
    )
    if not (programs / "postgres").exists():
        missing(f"PostgreSQL {major_version}: run `make environment-test`")
    return PostgresRelease(programs=programs, major_version=major_version)


class PostgresServer:
    """A running server, and the databases in it that tests use."""

    def __init__(self, folder: Path, major_version: int) -> None:
        name = f"postgres-{major_version}"
        self._child, self.url = start_postgres(
            folder / name, log=folder / f"{name}.log", release=release(major_version),
            settings=FAST,
        )
        self._numbers = itertools.count(1)

    @cached_property
    def template_url(self) -> str:
        """A migrated database that nobody stays connected to: it is copied, not used."""
        url = self.create("template", copy_of=EMPTY)
        engine = create_engine(url, poolclass=NullPool)
        upgrade(engine)
        engine.dispose()
        return url

    @cached_property
    def shared_url(self) -> str:
        """A migrated database in which each test makes a project of its own."""
        return self.create("shared")

    @contextmanager
    def fresh_url(self, *, copy_of: str | None = None) -> Iterator[str]:
        """A new database, by default a migrated one without rows; it is dropped afterwards."""
        name = f"fresh_{next(self._numbers)}"
        yield self.create(name, copy_of=copy_of)
        with self._admin() as connection:
            # PostgreSQL's own vacuum may be at work in it, which we have no right to end.
            assert wait_until(lambda: _dropped(connection, name), deadline_s=30)

    def create(self, name: str, *, copy_of: str | None = None) -> str:
        """The URL of a new database, by default a migrated one."""
        template = copy_of or make_url(self.template_url).database
        with self._admin() as connection:
            connection.execute(f"create database {name} template {template}")
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def stop(self) -> None:
        self._child.stop(patience_s=5)

    def _admin(self) -> psycopg.Connection:
        url = make_url(self.url)
        return psycopg.connect(
            user=url.username, dbname=url.database, host=str(url.query["host"]), autocommit=True
        )


class PostgresServers(dict[int, PostgresServer]):
    """The servers by major version. One that is not there yet is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, major_version: int) -> PostgresServer:
        self[major_version] = PostgresServer(self._folder, major_version)
        return self[major_version]


def _dropped(connection: psycopg.Connection, name: str) -> bool:
    try:
        connection.execute(f"drop database if exists {name} with (force)")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
        return False
    return True
