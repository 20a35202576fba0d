"""Starts real servers for the tests that ask for them, once for each test session.

The kernel kills the servers when this process ends, so a killed run leaves none behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cells import leave_to_the_long_run
from fakes.judge import FakeJudge
from hypothesis import HealthCheck, settings
from postgres_servers import RELEASES, PostgresServer, PostgresServers
from stack import Stack

from ops.servers.postgres import MAJOR_VERSION
from ops.servers.valkey import start_valkey

# So that an assertion that fails there shows its values, as one in a test module does.
pytest.register_assert_rewrite("store_behaviours", "hostile.cell", "checker")

# How long an example takes says nothing on a machine that does other things beside it.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

ROOT = Path(__file__).parents[1]

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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Has a test with the mark `every_postgres` run on every PostgreSQL."""
    if (
        metafunc.definition.get_closest_marker("every_postgres")
        and "postgres_server" in metafunc.fixturenames
    ):
        metafunc.parametrize("postgres_server", RELEASES, indirect=True, scope="module")


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A short folder for servers' data; pytest's own are too deep for sockets."""
    path = Path(tempfile.mkdtemp(prefix="tallyard-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_servers(server_dir: Path) -> Iterator[PostgresServers]:
    """The session's PostgreSQL servers."""
    servers = PostgresServers(server_dir)
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture(scope="module")
def postgres_server(
    postgres_servers: PostgresServers, request: pytest.FixtureRequest
) -> PostgresServer:
    """The embedded PostgreSQL; for a test with the mark `every_postgres`, also each other."""
    return postgres_servers[getattr(request, "param", MAJOR_VERSION)]


@pytest.fixture(scope="session")
def postgres_url(postgres_servers: PostgresServers) -> str:
    """The embedded PostgreSQL, as a SQLAlchemy URL of a database that holds nothing."""
    return postgres_servers[MAJOR_VERSION].url


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer) -> str:
    """A migrated database shared by the session: a test makes its own project in it."""
    return postgres_server.shared_url


@pytest.fixture
def fresh_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A migrated database of the test's own, empty."""
    with postgres_server.fresh_url() as url:
        yield url


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


@pytest.fixture(scope="module")
def judge_server() -> Iterator[FakeJudge]:
    """A judge of a module's own, without a stack."""
    with FakeJudge() as judge:
        yield judge


@pytest.fixture
def fake(judge_server: FakeJudge) -> FakeJudge:
    """The module's judge, which remembers nothing of the tests before."""
    judge_server.forget()
    return judge_server


@pytest.fixture(scope="session")
def stack(
    postgres_servers: PostgresServers, redis_url: str, server_dir: Path, stack_judge: FakeJudge
) -> Iterator[Stack]:
    """API and workers for all tests that kill nothing: each makes a project of its own."""
    url = postgres_servers[MAJOR_VERSION].create("stack")
    with Stack(
        database_url=url, redis_url=redis_url, folder=server_dir / "stack",
        judge_base_url=stack_judge.url, judge_api_key="sk-judge", judge_model="gpt-4o",
        backoff_max_s="1", judge_timeout_s="2", retry_hours=str(12 / 3600),
        outbound_allow="127.0.0.1",   # where the receivers of webhooks are
    ) as running:
        running.start("api", "match", "heavy", "judge", "sandbox", "automations", "beat")
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
