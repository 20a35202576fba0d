"""Starts the naive baseline: its database on the same PostgreSQL, a broker of its own."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import make_url

from benchmarks import naive
from benchmarks.processes import cpu_s_by_name
from benchmarks.rows import rows
from benchmarks.stack import foreign_environment, libpq_url
from benchmarks.waiting import wait_for_outcomes
from ops.servers.children import Child, start, wait_until
from ops.servers.valkey import start_valkey
from store.migrate import upgrade_at

DATABASE = "naive"
WARM_ROWS = 200
READY_S = 60.0
STOP_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Naive:
    """The running baseline."""

    children: Mapping[str, Child]
    database_url: str
    port: int
    log_of_worker: Path

    def connect(self) -> psycopg.Connection:
        """A reader's connection to its database."""
        return psycopg.connect(self.database_url, autocommit=True)

    def stop_worker(self) -> None:
        """Hold the worker's processes still (SIGSTOP)."""
        for process in self._tree("worker"):
            process.suspend()

    def resume_worker(self) -> None:
        """Let them go on."""
        for process in self._tree("worker"):
            process.resume()

    def cpu_s(self) -> Mapping[str, float]:
        """Processor seconds of each part so far."""
        return cpu_s_by_name(
            (name, process) for name in self.children for process in self._tree(name)
        )

    def _tree(self, name: str) -> list[psutil.Process]:
        parent = psutil.Process(self.children[name].process.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def running_naive(folder: Path, tallyard_database_url: str) -> Iterator[Naive]:
    """Worker (a process a core), HTTP server and broker, warm; gone at the end."""
    with psycopg.connect(libpq_url(tallyard_database_url), autocommit=True) as connection:
        connection.execute(f"create database {DATABASE}")
    url = make_url(tallyard_database_url).set(database=DATABASE)
    upgrade_at(url.render_as_string(hide_password=False), say=print)
    database_url = libpq_url(url.render_as_string(hide_password=False))
    children: dict[str, Child] = {}
    try:
        children["broker"], redis_url = start_valkey(
            folder / "naive", log=folder / "naive.broker.log"
        )
        environment = {
            **foreign_environment(),
            naive.DATABASE_URL: database_url,
            naive.REDIS_URL: redis_url.replace("unix://", "redis+socket://"),
        }
        port = free_port()
        cores = str(os.cpu_count() or 1)
        for name, argv in {
            "worker": ["celery", "-A", "benchmarks.naive", "worker", "--concurrency", cores,
                       "--loglevel", "WARNING", "-n", "naive@%h"],
            "http": ["uvicorn", "benchmarks.naive:http", "--port", str(port),
                     "--loop", "uvloop", "--http", "httptools", "--log-level", "warning"],
        }.items():
            children[name] = start(
                name, [sys.executable, "-m", *argv], log=folder / f"naive.{name}.log",
                environment=environment,
            )
        # We publish from here too.
        os.environ[naive.DATABASE_URL] = database_url  # noqa: TID251 for our own import of it
        naive.app.conf.broker_url = environment[naive.REDIS_URL]
        started = Naive(
            children=children, database_url=database_url, port=port,
            log_of_worker=folder / "naive.worker.log",
        )
        _warm(started)
        yield started
    finally:
        for child in reversed(children.values()):
            child.stop(patience_s=STOP_S)


def _warm(started: Naive) -> None:
    """Have every process opened its connection and prepared its statements."""
    if not wait_until(lambda: is_listening(started.port), deadline_s=READY_S, every_s=0.1):
        raise RuntimeError("the naive HTTP server did not start")
    project_id = str(uuid.uuid4())
    with started.connect() as reader:
        warm = list(rows(WARM_ROWS, seed=0, prefix="warm"))
        naive.insert_rows(naive.connection(), project_id, warm)
        naive.publish(project_id, warm)
        try:
            wait_for_outcomes(reader, project_id, WARM_ROWS, deadline_s=READY_S)
        except TimeoutError as error:
            log = started.log_of_worker.read_text()
            raise RuntimeError(f"the naive worker did not start:\n{log}") from error


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Whether somebody listens on this port of the loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
