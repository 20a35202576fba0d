"""Starts real servers for the tests that ask for them, once for each test session.

The kernel kills the servers when this process ends, so a killed run leaves none behind.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cells import leave_to_the_long_run
from fakes.judge import FakeJudge
from hypothesis import HealthCheck, settings
from sqlalchemy import NullPool, create_engine, make_url
from stack import Stack

from ops.servers.children import wait_until
from ops.servers.postgres import start_postgres
from ops.servers.valkey import start_valkey
from store.migrate import upgrade

# So that an assertion that fails there shows its values, as one in a test module does.
pytest.register_assert_rewrite("store_behaviours", "hostile.cell", "checker")

# How long an example takes says nothing on a machine that does other things beside it.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

ROOT = Path(__file__).parents[1]
# A test kills processes, never the machine: what the kernel holds is as good as on disk.
FAST = {"fsync": "off", "full_page_writes": "off"}
_numbers = itertools.count(1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Twice as many workers as cores for `-n auto`, since most tests that use servers wait.

    At most 8: each has servers of its own, which take about 1 GB.
    """
    if config.option.numprocesses != "auto":
        return None
    return min(2 * (os.cpu_count() or 1), 8)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs before pytest leaves out what is marked."""
    leave_to_the_long_run(items)


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
        # PostgreSQL's own vacuum may be at work in it, which we have no right to end.
        assert wait_until(lambda: dropped(connection, name), deadline_s=30)


@pytest.fixture(scope="session")
def redis_url(server_dir: Path) -> Iterator[str]:
    """The session's Valkey."""
    child, url = start_valkey(server_dir / "valkey", log=server_dir / "valkey.log")
    yield url
    child.stop(patience_s=2)


@pytest.fixture
def fresh_redis_url() -> Iterator[str]:
    """A Valkey of the test's own: two stacks on one would answer each other's bells."""
    with tempfile.TemporaryDirectory(prefix="tallyard-test-") as folder:
        path = Path(folder)
        child, url = start_valkey(path / "valkey", log=path / "valkey.log")
        yield url
        child.stop(patience_s=2)


@pytest.fixture(scope="session")
def stack_judge() -> Iterator[FakeJudge]:
    """The judge of `stack`; its prompts say how it behaves."""
    with FakeJudge() as judge:
        yield judge


@pytest.fixture(scope="session")
def stack(
    postgres_url: str, template_url: str, redis_url: str, server_dir: Path,
    stack_judge: FakeJudge,
) -> Iterator[Stack]:
    """API and workers for all tests that kill nothing: each makes a project of its own."""
    url = create_database(postgres_url, name="stack", template="template")
    with Stack(
        database_url=url, redis_url=redis_url, folder=server_dir / "stack",
        judge_base_url=stack_judge.url, judge_api_key="sk-judge", judge_model="gpt-4o",
        backoff_max_s="1", judge_timeout_s="2", attempts_max="3",
    ) as running:
        running.start("api", "match", "heavy", "judge", "sandbox", "beat")
        yield running


@pytest.fixture
def own_stack(
    fresh_database_url: str, fresh_redis_url: str, stack_judge: FakeJudge
) -> Iterator[Stack]:
    """A stack of the test's own, nothing of it started yet."""
    with (
        tempfile.TemporaryDirectory(prefix="tallyard-test-") as folder,
        Stack(
            database_url=fresh_database_url, redis_url=fresh_redis_url,
            folder=Path(folder) / "stack", judge_base_url=stack_judge.url,
            judge_api_key="sk-judge", judge_model="gpt-4o", backoff_max_s="1",
            judge_timeout_s="2", lease_s="2",
        ) as stopped,
    ):
        yield stopped


@pytest.fixture(scope="session")
def client_python() -> Callable[[str], Path]:
    """The Python of one of the environments that the Makefile lists as CLIENTS."""

    def python_of(name: str) -> Path:
        path = ROOT / ".cache" / "clients" / name / "bin" / "python"
        assert path.exists(), f"{path} is missing: `make environment-test` makes it"
        return path

    return python_of


def dropped(connection: psycopg.Connection, name: str) -> bool:
    try:
        connection.execute(f"drop database if exists {name} with (force)")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
        return False
    return True


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
