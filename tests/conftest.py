"""Real servers for the tests that ask for them: started once a session, dead with it.

The kernel ends them with this process, so that an interrupted or killed run leaves none.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import NullPool, create_engine, make_url

from ops.postgres import start_postgres
from ops.valkey import start_valkey
from store.migrate import upgrade

# A test kills processes, never the machine: what the kernel holds is as good as on disk.
FAST = {"fsync": "off", "full_page_writes": "off"}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A short folder for servers' data; pytest's own are too deep for sockets."""
    path = Path(tempfile.mkdtemp(prefix="tallyard-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(server_dir: Path) -> Iterator[str]:
    """The session's PostgreSQL, as a SQLAlchemy URL of a database that holds nothing."""
    child, url = start_postgres(
        server_dir / "postgres", log=server_dir / "postgres.log", settings=FAST
    )
    yield url
    child.stop(patience_s=5)


@pytest.fixture(scope="session")
def template_url(postgres_url: str) -> str:
    """A migrated database that nobody stays connected to: it is copied, not used."""
    url = create_database(postgres_url, name="template")
    engine = create_engine(url, poolclass=NullPool)
    upgrade(engine)
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def database_url(postgres_url: str, template_url: str) -> str:
    """A migrated database shared by the session: a test makes its own project in it."""
    return create_database(postgres_url, name="shared", template="template")


@pytest.fixture
def fresh_database_url(postgres_url: str, template_url: str) -> Iterator[str]:
    """A migrated database of the test's own, empty."""
    name = f"fresh_{next(_numbers)}"
    yield create_database(postgres_url, name=name, template="template")
    with admin(postgres_url) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def redis_url(server_dir: Path) -> Iterator[str]:
    """The session's Valkey."""
    child, url = start_valkey(server_dir / "valkey", log=server_dir / "valkey.log")
    yield url
    child.stop(patience_s=2)


def create_database(postgres_url: str, *, name: str, template: str = "template1") -> str:
    with admin(postgres_url) as connection:
        connection.execute(f"create database {name} template {template}")
    return make_url(postgres_url).set(database=name).render_as_string(hide_password=False)


def admin(postgres_url: str) -> psycopg.Connection:
    url = make_url(postgres_url)
    host = url.query["host"]
    return psycopg.connect(
        user=url.username, dbname=url.database, host=str(host), autocommit=True
    )
