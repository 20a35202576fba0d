"""The Tallyard that is measured: `tallyard up` on a data directory of its own."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
from sqlalchemy import make_url

from benchmarks.processes import cpu_s_by_name
from benchmarks.rows import FILTER
from ops.data_dir import DataDir, RunState
from ops.servers.children import Child, start, wait_until
from ops.setup.example import Api
from spans.json import JsonObject

READY_S = 120.0
STOP_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running Tallyard, and what a benchmark needs to reach it."""

    folder: Path
    up: Child
    state: RunState
    key: str
    own_postgres: psutil.Process | None
    """The server that was given, where it runs on this machine; Tallyard did not start it."""

    @property
    def api(self) -> Api:
        """Its API."""
        return Api(url=self.state.api_url, key=self.key)

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where its API listens."""
        parts = urlsplit(self.state.api_url)
        return parts.hostname or "", parts.port or 0

    @property
    def log(self) -> Path:
        """Where the benchmark's own processes write their errors."""
        return self.folder / "benchmark.log"

    def connect(self) -> psycopg.Connection:
        """A reader's connection to its database: sees what is committed, nothing else."""
        return psycopg.connect(libpq_url(self.state.database_url), autocommit=True)

    def project(self, name: str, *, rates: Mapping[str, float]) -> str:
        """A new project with a rule for each scorer, at its sampling rate; its id."""
        project_id = self._new_project(name)
        for scorer, rate in rates.items():
            self._rule(project_id, {"type": "global", "name": scorer}, name=scorer, rate=rate)
        return project_id

    def rule_ids(self, project_id: str) -> dict[str, str]:
        """The ids of a project's rules, by name."""
        path = f"/v1/project_score?project_id={project_id}"
        found = json.loads(self.api.call("GET", path))["objects"]
        return {rule["name"]: rule["id"] for rule in found}

    def function_project(
        self, name: str, code: str, *, runtime: str, metadata: JsonObject | None = None
    ) -> str:
        """A new project with one rule over a scorer of this code; its id."""
        project_id = self._new_project(name)
        version = "20" if runtime == "node" else "3.11"
        function = json.loads(self.api.call("POST", "/v1/function", {
            "project_id": project_id, "name": "coded", "slug": "coded",
            "function_type": "scorer", "metadata": metadata or {},
            "function_data": {"type": "code", "data": {
                "type": "inline", "code": code,
                "runtime_context": {"runtime": runtime, "version": version},
            }},
        }))
        self._rule(
            project_id, {"type": "function", "id": function["id"]}, name="coded", rate=1
        )
        return project_id

    def _new_project(self, name: str) -> str:
        return str(json.loads(self.api.call("POST", "/v1/project", {"name": name}))["id"])

    def _rule(self, project_id: str, scorer: JsonObject, *, name: str, rate: float) -> None:
        online = {
            "sampling_rate": rate, "scorers": [scorer], "apply_to_root_span": True,
            "btql_filter": FILTER,
        }
        self.api.call("POST", "/v1/project_score", {
            "project_id": project_id, "name": name, "score_type": "online",
            "config": {"online": online},
        })

    def processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Every process with the name of the unit that it belongs to."""
        unit_of = {each.pid: each.name for each in self.state.processes}
        yield "supervisor", psutil.Process(self.up.process.pid)
        for unit in psutil.Process(self.up.process.pid).children():
            name = unit_of.get(unit.pid, "fork server")
            yield name, unit
            for each in unit.children(recursive=True):
                yield name, each
        if self.own_postgres is not None:
            yield "postgres", self.own_postgres
            for each in self.own_postgres.children():
                yield "postgres", each

    @contextmanager
    def held(self, unit: str) -> Iterator[None]:
        """Hold the processes of one unit still (SIGSTOP) for as long as the block lasts."""
        stopped = [process for name, process in self.processes() if name == unit]
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                process.resume()

    def cpu_s(self) -> Mapping[str, float]:
        """Processor seconds that each unit has used so far."""
        return cpu_s_by_name(self.processes())


@contextmanager
def running_stack(folder: Path, **settings: str) -> Iterator[Stack]:
    """A Tallyard as `make run` starts it, without the example; gone at the end."""
    data = DataDir(folder / "data")
    log = folder / "up.log"
    up = start(
        "tallyard", [str(Path(sys.executable).with_name("tallyard")), "up"], log=log,
        environment={
            **foreign_environment(),
            "TALLYARD_DATA_DIR": str(data.path), "TALLYARD_API_PORT": "0",
            "TALLYARD_FLOWER_PORT": "0", "TALLYARD_EXAMPLE": "0",
            **settings,
        },
    )
    try:
        wait_until(
            lambda: not up.is_running or "Ctrl-C stops everything" in log.read_text(),
            deadline_s=READY_S, every_s=0.1,
        )
        state = data.read_state()
        if not up.is_running or state is None or "Not ready" in log.read_text():
            raise RuntimeError(f"Tallyard did not start:\n{log.read_text()}")
        yield Stack(
            folder=folder, up=up, state=state, key=data.api_key.read_text().strip(),
            own_postgres=_given_server(settings.get("TALLYARD_DATABASE_URL")),
        )
    finally:
        up.stop(patience_s=STOP_S)


@contextmanager
def database_on(server_url: str) -> Iterator[str]:
    """The URL of a new, empty database on a server; the database is gone at the end."""
    name = f"tallyard_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(libpq_url(server_url), autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(libpq_url(server_url), autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)".encode())


def _given_server(url: str | None) -> psutil.Process | None:
    """The main process of the server at `url`, or None if it is on another machine."""
    if url is None:
        return None
    with psycopg.connect(libpq_url(url)) as connection:
        pid = connection.info.backend_pid
        try:
            return psutil.Process(pid).parent()
        except psutil.NoSuchProcess:
            return None


def foreign_environment() -> dict[str, str]:
    """Our environment without any setting of Tallyard's: a benchmark measures the defaults."""
    ours = os.environ.items()  # noqa: TID251 handed on, not read
    return {name: value for name, value in ours if not name.startswith("TALLYARD_")}


def libpq_url(url: str) -> str:
    """SQLAlchemy's URL as libpq spells it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
