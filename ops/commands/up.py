"""`tallyard up`: starts everything on this machine, under one supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from ops.commands.instance import SHARED
from ops.data_dir import DataDir, ProcessState, RunState
from ops.servers import readiness
from ops.servers.children import Child, wait_until
from ops.servers.fork_server import ForkServer
from ops.servers.log_files import LogFile
from ops.servers.memory import MIB, machine_memory_bytes, postgres_settings
from ops.servers.postgres import start_postgres
from ops.servers.processes import ProcessSpec, processes
from ops.servers.supervisor import (
    KeptProcess,
    ProcessSupervisor,
    StopRequested,
    raise_on_stop_signals,
)
from ops.servers.valkey import start_valkey
from ops.setup.example import Api, show_example
from spans.errors import SetupError
from spans.queues import worker_names
from wiring.settings import Settings, read_settings

READY_S = 60.0
"""How long `up` waits until every process answers. A slow machine needs long to import Celery
and autoevals in all workers at once."""

STARTING_PING_S = 0.4
"""How long `up` waits for the answers to one ping, seconds. Workers that are starting do not
answer, and are asked again."""


@click.command()
def up() -> None:
    """Start everything, show its URLs, and keep it running until Ctrl-C."""
    settings = read_settings()
    raise_on_stop_signals()
    data = DataDir(settings.data_dir)
    with data.claim():
        run = MachineRun(settings=_with_ports(settings), data=data)
        try:
            run.start()
            run.supervisor.watch()
        except StopRequested:
            run.say("Stopping ...")
        finally:
            run.supervisor.stop()
            run.fork_server.close()
            data.forget_state()


class MachineRun:
    """All that `tallyard up` starts on this machine, and the supervisor that keeps it up."""

    def __init__(self, *, settings: Settings, data: DataDir) -> None:
        self.settings = settings
        self.data = data
        self.supervisor = ProcessSupervisor(say=self.say, changed=self._write_state)
        self.fork_server = ForkServer(log=data.logs / "fork_server.log")
        self.api_url = readiness.local_url(settings.host, settings.api_port)
        self.flower_url = readiness.local_url(settings.host, settings.flower_port)
        self.environment: dict[str, str] = {}

    def say(self, line: str) -> None:
        """Print one line at once, even if the output is a pipe."""
        # Go on if the terminal or pipe is closed: `tallyard status` shows the state.
        with suppress(OSError):
            click.echo(line)
            sys.stdout.flush()

    def start(self) -> None:
        """Start everything and print its URLs. Raises SetupError with the next step."""
        began_s = time.monotonic()
        self.say("Starting the servers, the API and the workers (some ten seconds) ...")
        # It imports while the servers start and the database is prepared, a second of one core.
        self.fork_server.open()
        database_url, redis_url = self._stores()
        self.environment = {
            "TALLYARD_DATABASE_URL": database_url,
            "TALLYARD_REDIS_URL": redis_url,
            "TALLYARD_DATA_DIR": str(self.data.path),
            **self._secret_key(),
            "TALLYARD_API_PORT": str(self.settings.api_port),
            "TALLYARD_FLOWER_PORT": str(self.settings.flower_port),
            # Otherwise a child's lines reach its log only when its buffer is full.
            "PYTHONUNBUFFERED": "1",
        }
        readiness.check_redis(redis_url)
        self._prepare()
        self._keep_all(self._processes())
        self._write_state()
        self._await_ready()
        self._tell(time.monotonic() - began_s)
        if self.settings.example:
            key = self.data.api_key.read_text().strip()
            show_example(Api(url=self.api_url, key=key), say=self.say)

    def _stores(self) -> tuple[str, str]:
        """URLs of PostgreSQL and Redis. A server without a URL in the settings is started."""
        database, redis = self.settings.database_url, self.settings.redis_url
        urls = {
            "postgres": database.get_secret_value() if database else "",
            "valkey": redis.get_secret_value() if redis else "",
        }

        def launch(name: str, starter: Callable[..., tuple[Child, str]], folder: Path) -> Child:
            child, urls[name] = starter(folder, log=self.data.logs / f"{name}.log")
            return child

        if database is None:
            starter = partial(start_postgres, settings=self._postgres_settings())
            starting = partial(launch, "postgres", starter, self.data.postgres)
            self._keep("postgres", starting, stop_order=3)
        if redis is None:
            starting = partial(launch, "valkey", start_valkey, self.data.valkey)
            self._keep("valkey", starting, stop_order=2)
        return urls["postgres"], urls["valkey"]

    def _secret_key(self) -> dict[str, str]:
        """The key for secrets in the embedded database, which is kept beside it.

        For a database of one's own the key must be set: other machines may use it too.
        """
        if self.settings.secret_key or self.settings.database_url:
            return {}
        return {"TALLYARD_SECRET_KEY": self.data.secret(self.data.secret_key)}

    def _postgres_settings(self) -> Mapping[str, str]:
        given_mb = self.settings.memory_mb
        return postgres_settings(given_mb * MIB if given_mb else machine_memory_bytes())

    def _prepare(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "ops.setup.prepare"],
            env=self._child_environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            log = self.data.logs / "prepare.log"
            log.write_text(done.stderr)
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            # An expected error is one line. A bug's traceback stays in the file.
            hint = "" if len(lines) == 1 else f" (the traceback is in {log})"
            raise SetupError(f"{lines[-1]}{hint}")

    def _child_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}  # noqa: TID251 passed on, not read

    def _processes(self) -> list[ProcessSpec]:
        given = self.settings.flower_password
        return processes(
            self.settings,
            flower_password=given.get_secret_value()
            if given
            else self.data.secret(self.data.flower_password),
            flower_database=str(self.data.flower_database),
        )

    def _keep_all(self, specs: Iterable[ProcessSpec]) -> None:
        for each in specs:
            self._keep(each.name, partial(self._launch, each), each.stop_order)

    def _keep(self, name: str, launch: Callable[[], Child], stop_order: int) -> None:
        log = LogFile(self.data.logs / f"{name}.log")
        self.supervisor.add(
            KeptProcess(name=name, launch=launch, log=log, stop_order=stop_order)
        )

    def _launch(self, process: ProcessSpec) -> Child:
        module = [] if process.argv[0] == "python" else ["-m", process.argv[0]]
        return self.fork_server.start(
            process.name,
            [*module, *process.argv[1:]],
            log=self.data.logs / f"{process.name}.log",
            environment={**self._child_environment(), **process.environment},
        )

    def _await_ready(self) -> None:
        until_s = time.monotonic() + READY_S
        waiting = NotReady(api=True, flower=True, workers=frozenset(worker_names()))
        while waiting.names and time.monotonic() < until_s:
            self.supervisor.check()
            waiting = waiting.after_asking(self)
            wait_until(lambda: False, deadline_s=0.2)
        if waiting.names:
            self.say(
                f"Not ready after {READY_S:g} s: {', '.join(waiting.names)}. They keep "
                f"running, and their logs are in {self.data.logs}."
            )

    def _tell(self, took_s: float) -> None:
        self.say(f"\nTallyard is up ({took_s:.1f} s). Its data are in {self.data.path}")
        self.say(f"  API       {self.api_url}")
        where = (
            "set by TALLYARD_FLOWER_PASSWORD"
            if self.settings.flower_password
            else f"in {self.data.flower_password}"
        )
        self.say(
            f"  Flower    {self.flower_url}  "
            f"(user {self.settings.flower_user}, password {where})"
        )
        key = self.data.api_key.read_text().strip()
        self.say(f"  API key   {key}  (in {self.data.api_key})")
        self.say(f"  Logs      {self.data.logs}")
        self.say("Point an application that logs with the SDK at it:")
        self.say(f"  export BRAINTRUST_APP_URL={self.api_url} BRAINTRUST_API_KEY={key}")
        self.say("Ctrl-C stops everything.\n")

    def _write_state(self) -> None:
        self.data.write_state(
            RunState(
                pid=os.getpid(),
                api_url=self.api_url,
                flower_url=self.flower_url,
                flower_user=self.settings.flower_user,
                database_url=self.environment["TALLYARD_DATABASE_URL"],
                redis_url=self.environment["TALLYARD_REDIS_URL"],
                settings={name: getattr(self.settings, name) for name in SHARED},
                processes=tuple(
                    ProcessState(
                        name=process.name,
                        pid=process.child.process.pid if process.child else 0,
                        restarts=process.restarts,
                    )
                    for process in self.supervisor.processes
                ),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotReady:
    """The processes that have not answered yet."""

    api: bool
    flower: bool
    workers: frozenset[str]

    @property
    def names(self) -> list[str]:
        """Names of these processes."""
        return [*["api"] * self.api, *["flower"] * self.flower, *sorted(self.workers)]

    def after_asking(self, run: MachineRun) -> NotReady:
        """The same after asking again. Workers are asked last, because that costs most."""
        api = self.api and not readiness.api_is_ready(run.api_url)
        flower = self.flower and not readiness.flower_answers(run.flower_url)
        if api or flower or not self.workers:
            return NotReady(api=api, flower=flower, workers=self.workers)
        answering = readiness.workers_answering(
            run.environment, self.workers, ping_s=STARTING_PING_S
        )
        return NotReady(api=api, flower=flower, workers=self.workers - answering)


def _with_ports(settings: Settings) -> Settings:
    """The settings with ports that are free now. Raises SetupError if a port is taken."""
    check: Mapping[str, tuple[int, str]] = {
        "api_port": (settings.api_port, "The API"),
        "flower_port": (settings.flower_port, "Flower"),
    }
    found = {
        name: readiness.free_port(
            settings.host, port, what=what, setting=f"TALLYARD_{name.upper()}"
        )
        for name, (port, what) in check.items()
    }
    return settings.model_copy(update=found)
