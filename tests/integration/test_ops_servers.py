"""The embedded servers, started, killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import create_engine, make_url, text

from ops.servers.children import wait_until
from ops.servers.postgres import WHEEL, start_postgres, wheel_release
from ops.servers.valkey import start_valkey
from spans.errors import SetupError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(server_dir: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = server_dir / request.node.name[-40:]
    path.mkdir(mode=0o700)
    return path


def answer(url: str, query: str) -> object:
    made = make_url(url)
    with psycopg.connect(
        user=made.username, dbname=made.database, host=str(made.query["host"]), autocommit=True
    ) as connection:
        cursor = connection.execute(query)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        return None if row is None else row[0]


def test_postgres_sorts_by_code_point_and_gives_no_power_over_files(postgres_url):
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        collation = connection.scalar(
            text("select datcollate from pg_database where datname = current_database()")
        )
        superuser = connection.scalar(text("select current_setting('is_superuser')"))
        ports = connection.scalar(text("select current_setting('listen_addresses')"))
    engine.dispose()
    assert (collation, superuser, ports) == ("C", "off", "")


def test_postgres_starts_again_after_a_kill_with_what_was_committed(folder):
    child, url = start_postgres(folder / "postgres", log=folder / "log")
    assert answer(url, "create table kept as select 7 as value; select 7") == 7
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait()
    child, url = start_postgres(folder / "postgres", log=folder / "log")
    try:
        assert answer(url, "select value from kept") == 7
    finally:
        child.stop(patience_s=3)


def test_postgres_starts_though_its_old_pid_belongs_to_another_process(folder):
    child, _ = start_postgres(folder / "postgres", log=folder / "log")
    child.stop(patience_s=3)
    stale = f"{os.getppid()}\n/elsewhere\n1\n5432\n"
    (folder / "postgres" / "postmaster.pid").write_text(stale)
    child, url = start_postgres(folder / "postgres", log=folder / "log")
    try:
        assert answer(url, "select 1") == 1
    finally:
        child.stop(patience_s=3)


def test_a_server_left_running_is_taken_over(folder):
    left, _ = start_postgres(folder / "postgres", log=folder / "log")
    child, url = start_postgres(folder / "postgres", log=folder / "log")
    try:
        assert answer(url, "select 1") == 1
        assert wait_until(lambda: not left.is_running, deadline_s=30)
    finally:
        child.stop(patience_s=3)


def test_a_data_directory_too_deep_for_sockets_gets_a_short_one(folder):
    deep = folder / ("x" * 50) / ("y" * 50)
    deep.mkdir(parents=True)
    child, url = start_postgres(deep / "postgres", log=folder / "log")
    try:
        assert answer(url, "select 1") == 1
        sockets = Path(str(make_url(url).query["host"]))
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    finally:
        child.stop(patience_s=3)
        sockets.rmdir()


def test_foreign_files_in_the_data_directory_are_left_alone_with_a_sentence(folder):
    (folder / "postgres").mkdir()
    (folder / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(SetupError, match="no PostgreSQL database: move them away"):
        start_postgres(folder / "postgres", log=folder / "log")
    assert (folder / "postgres" / "letter.txt").read_text() == "dear"


def test_broken_data_are_a_sentence_that_names_the_log(folder):
    child, _ = start_postgres(folder / "postgres", log=folder / "log")
    child.stop(patience_s=3)
    (folder / "postgres" / "global" / "pg_control").write_bytes(b"\0" * 8192)
    with pytest.raises(SetupError, match=r"did not start .* see .*log"):
        start_postgres(folder / "postgres", log=folder / "log")


def test_a_socket_that_a_killed_valkey_left_is_replaced(folder):
    child, url = start_valkey(folder / "valkey", log=folder / "log")
    child.kill()
    child, url = start_valkey(folder / "valkey", log=folder / "log")
    try:
        with redis.Redis.from_url(url) as client:
            assert client.ping()
    finally:
        child.stop(patience_s=2)


def test_valkey_refuses_rather_than_forgets_when_it_is_full(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_valkey_listens_on_no_port(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert client.config_get("port") == {"port": "0"}


def test_a_fresh_database_is_migrated_and_empty(fresh_database_url):
    assert answer(fresh_database_url, "select count(*) from alembic_version") == 1


def test_postgres_starts_from_a_checkout_below_a_folder_that_others_may_not_enter(folder: Path):
    # As below /root: the server runs as nobody there, and initdb looks for its programs.
    programs = wheel_release().programs.parent.name
    wheel = wheel_release().programs.parents[1]
    shutil.copytree(wheel / programs, folder / WHEEL / programs, symlinks=True)
    libraries = f"{WHEEL}.libs"
    shutil.copytree(wheel.with_name(libraries), folder / libraries, symlinks=True)
    (folder / WHEEL / "__init__.py").touch()
    code = (
        "import sys; from pathlib import Path; from ops.servers.postgres import start_postgres;"
        "child, url = start_postgres(Path(sys.argv[1]) / 'pg', log=Path(sys.argv[1]) / 'log');"
        "child.stop(patience_s=5); print(url)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False,
        env={"PATH": os.defpath, "PYTHONPATH": f"{folder}:{ROOT}"},
    )

    assert done.stdout.startswith("postgresql"), done.stderr
